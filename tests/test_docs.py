"""The documentation runs as it stands, the examples run, and every link leads somewhere."""

import os
import re
import runpy
from pathlib import Path

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")  # pages that draw need no screen

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.S | re.M)


def name(path):
    return str(path.relative_to(ROOT))


def test_pages_and_examples_are_found():
    assert len(PAGES) > 10
    assert len(EXAMPLES) > 3


@pytest.mark.filterwarnings(
    "ignore::SyntaxWarning",  # when other packages are compiled
    "ignore::DeprecationWarning",
    "ignore:Input data condition number",  # PyDMD's
    "ignore:Initial trial of Optimized DMD",
    "ignore:.*LeafSpec:FutureWarning",  # Lightning's, of torch
    "ignore:.*does not have many workers",
)
@pytest.mark.parametrize(
    "page", [page for page in PAGES if BLOCK.search(page.read_text())], ids=name
)
def test_python_of_the_page_runs(page, tmp_path, monkeypatch):
    """The blocks of a page are one program, run in an empty folder."""
    monkeypatch.chdir(tmp_path)
    text, names = page.read_text(), {"__name__": "page"}
    for block in BLOCK.finditer(text):
        above = text[: block.start(1)].count("\n")  # so that a traceback shows the page's line
        exec(compile("\n" * above + block.group(1), str(page), "exec"), names)


@pytest.mark.parametrize("example", EXAMPLES, ids=name)
def test_example_runs_and_prints(example, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(example)])
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out.count("\n") >= 2


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_of_the_page_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    for link, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", text):
        if "://" in link:
            continue
        target = (page.parent / link).resolve() if link else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), f"{link}#{anchor}"


def anchors(page):
    """Names of the headings, as the viewers of repositories make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
