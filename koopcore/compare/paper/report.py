"""Writes paper.json, paper.md and paper.html, one file with its pictures inside and no script."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koopcore.compare.results import write_atomically

from .claims import Claim, claims
from .run import Results
from .tables import Table, tables

TITLE = "Dogra and Redman (NeurIPS 2020), repeated"
TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem;
  color: #222; background: #fff; }
table { border-collapse: collapse; font-size: 13px; }
th, td { border-bottom: 1px solid #ccc; padding: .25rem .6rem; text-align: left;
  vertical-align: top; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
.yes { color: #006b4f; } .no { color: #a33c00; } .verdict { font-weight: 600; white-space: nowrap; }
img { max-width: 100%; }
figure { margin: 1.5rem 0; } figcaption, .note { color: #555; font-size: 13px; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p>{{ subtitle }}</p>
<h2>Claims</h2>
<div class="wide"><table>
<tr><th>claim</th><th>holds?</th><th>condition</th><th>figure</th></tr>
{% for claim in claims %}<tr><td>{{ claim.claim }}</td>
<td class="verdict {{ claim.holds }}">{{ claim.holds }}</td>
<td>{{ claim.condition }}</td><td>{{ claim.figure }}</td></tr>
{% endfor %}</table></div>
{% if pictures %}<h2>Pictures</h2>
{% for picture in pictures %}<figure><img alt="{{ picture.caption }}" src="{{ picture.source }}">
<figcaption>{{ picture.caption }}</figcaption></figure>
{% endfor %}{% endif %}<h2>Tables</h2>
{% for table in tables %}<h3>{{ table.title }}</h3>
<div class="wide"><table>
<tr>{% for cell in table.rows[0] %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in table.rows[1:] %}<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}</table></div>
<p class="note">{{ table.note }}</p>
{% endfor %}<p class="note">{{ machine }}</p>
</body>
</html>
"""


@dataclass(frozen=True)
class Picture:
    """A PNG and what it shows."""

    caption: str
    png: bytes

    @property
    def source(self) -> str:
        """Return it as the address of an image."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


def write(results: Results, folder: Path) -> list[Path]:
    """Write the three files and return where they are."""
    contents = {
        "paper.json": results.to_json(),
        "paper.md": markdown(results),
        "paper.html": html(results),
    }
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return [folder / name for name in contents]


def markdown(results: Results) -> str:
    """Return claims and tables."""
    lines = [f"# {TITLE}", "", subtitle(results), "", *markdown_table(claims_table(results))]
    for table in tables(results):
        lines += ["", f"## {table.title}", "", *markdown_table(table)]
        lines += ["", table.note] if table.note else []
    return "\n".join([*lines, "", machine(results)]) + "\n"


def claims_table(results: Results) -> Table:
    """Return the verdicts as a table."""
    rows = [[c.claim, c.holds, c.condition, c.figure] for c in claims(results)]
    return Table("Claims", [["claim", "holds?", "condition", "figure"], *rows])


def markdown_table(table: Table) -> list[str]:
    """Return the lines of a table."""
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in table.rows]
    return [lines[0], "| " + " | ".join(["---"] * len(table.rows[0])) + " |", *lines[1:]]


def html(results: Results) -> str:
    """Return the page."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined)
    verdicts: list[Claim] = claims(results)
    return environment.from_string(TEMPLATE).render(
        title=TITLE,
        subtitle=subtitle(results),
        claims=verdicts,
        pictures=pictures(results),
        tables=tables(results),
        machine=machine(results),
    )


def pictures(results: Results) -> list[Picture]:
    """Draw what was run."""
    from . import figures

    found: list[Picture] = []
    for optimizer in results.plan.optimizers:
        networks = results.of("ode", optimizer)
        if networks:
            name = f"Experiment 1, {optimizer}, {len(networks)} networks: "
            found += [
                Picture(
                    f"{name}error of the forecast against the weight's true change, per parameter; "
                    "below the line it is better than staying",
                    figures.scatter(networks),
                ),
                Picture(
                    f"{name}eigenvalues of the node operators, per layer",
                    figures.eigenvalues(networks, "node"),
                ),
                Picture(
                    f"{name}eigenvalues of the layer operators",
                    figures.eigenvalues(networks, "layer"),
                ),
                Picture(f"{name}loss along the forecast", figures.ode_losses(networks)),
            ]
    classifiers = results.of("mnist")
    if classifiers:
        name = f"Experiment 2, {len(classifiers)} networks: "
        found += [
            Picture(f"{name}along the forecast", figures.mnist_losses(classifiers)),
            *_early(classifiers, name),
            Picture(
                f"{name}eigenvalues of the layer operators",
                figures.eigenvalues(classifiers, "layer"),
            ),
        ]
    found += [
        Picture("Cost: seconds of a fit or a step", figures.cost(timings["rows"]))
        for timings in results.of("cost")
    ]
    return found


def _early(classifiers: list[dict[str, Any]], name: str) -> list[Picture]:
    from . import figures

    early = [network["early"] for network in classifiers if "early" in network]
    if not early:
        return []
    caption = f"{name}along the forecast of the early window, after {early[0]['epochs']:.0f} epochs"
    return [Picture(caption, figures.mnist_losses(early))]


def subtitle(results: Results) -> str:
    """Return what was run."""
    plan = results.plan
    size = "a fiftieth of the published steps, to see it work" if plan.quick else "full protocols"
    jitter = f"; collocation points perturbed by {plan.jitter:g}" if plan.jitter else ""
    return f"Experiments: {', '.join(plan.experiments)}; {size}{jitter}."


def machine(results: Results) -> str:
    """Return the machine and the versions."""
    found = results.environment
    versions = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    return f"Python {found['python']}, {versions}; {found['cpu']}; threads per network: 1"
