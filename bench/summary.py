"""What a benchmark run found, as Markdown and a picture: python bench/summary.py core.json.

With ``--out FOLDER`` the tables go to FOLDER/core.md and the roofline to FOLDER/roofline.png;
``--goals`` prints no more than which goals were missed.
"""

import argparse
from pathlib import Path

from report_figures import CACHE_BYTES, figures, growth, growth_figures
from report_goals import judged
from report_roofline import draw
from report_tables import goals_table, growth_table, missed_lines, operations, training_table
from report_training import training_figures

from koopcore.compare.against.timings import load, timings


def machine(document):
    """The line that says on what the figures were made."""
    info = document["machine_info"]
    cpu = info.get("cpu", {}).get("brand_raw", "unknown CPU")
    return f"{cpu}; {info.get('blas', 'unknown BLAS')}; medians of one run"


def verdicts_of(document):
    """Return the verdict on every goal."""
    found = timings(document)
    growing = growth_figures(growth(found, cache_bytes(document)))
    return judged([*figures(found), *growing, *training_figures(found)])


def told(found):
    """Return the figures that no other table has."""
    interleaved = [figure for figure in figures(found) if "between the other" in figure.what]
    return [*training_figures(found), *interleaved]


def cache_bytes(document):
    """The last-level cache, where the file says it."""
    return document["machine_info"].get("cache_bytes", CACHE_BYTES)


def markdown(document):
    """Return the whole report."""
    found = timings(document)
    parts = [
        "# Benchmarks",
        machine(document),
        goals_table(verdicts_of(document)),
        "## Operations",
        operations(found),
        growth_table(growth(found, cache_bytes(document)), cache_bytes(document)),
        training_table(told(found)),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="JSON of pytest-benchmark")
    parser.add_argument("--out", type=Path, help="folder for core.md and roofline.png")
    parser.add_argument("--goals", action="store_true", help="the goals that were missed alone")
    options = parser.parse_args(arguments)
    document = load(options.file)
    if options.goals:
        print(missed_lines(verdicts_of(document)))
        return
    report = markdown(document)
    print(report)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "core.md").write_text(report, encoding="utf-8")
        cpu = machine(document).partition(";")[0]
        title = f"koopcore on {cpu}, at its fastest number of threads"
        if not draw(timings(document), options.out / "roofline.png", title):
            print("no roofline: the run has no bandwidth, no gemm peak or no operation")


if __name__ == "__main__":
    main()
