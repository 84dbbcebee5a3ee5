"""The page of a comparison: what it says, and how a real browser shows and prints it."""

import base64
import json
import math
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from made_comparisons import METHODS, edited, made_comparison, planted_comparison

from koopcore.compare import report
from koopcore.compare.results import Comparison, Record, Score

COMMAND = "koopcore compare digits-64 hamiltonian --methods '<all>' --seeds 3"
CAUGHT = "used <problem.evaluate> & was seen"
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
PHONE, DESKTOP = (360, 740), (1280, 900)
# Elements without an end tag; all others must be closed.
VOID = ("meta", "link", "img")


def caught(run):
    return replace(run, violations=[CAUGHT]) if (run.method, run.seed) == ("pdt:5", 0) else run


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The folder of a comparison of twenty methods, one of them caught once."""
    folder = tmp_path_factory.mktemp("report")
    comparison = planted_comparison(optimizers=("adam",))
    report.write(edited(comparison, caught), folder, COMMAND)
    return folder / "report.html"


@pytest.fixture(scope="module")
def text(page):
    return page.read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Checks that elements are closed in order and that references lead somewhere."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def attributes(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def test_write_leaves_page_tables_and_pictures(page):
    names = ["curves.png", "heldout.png", "report.html", "tables.csv", "tables.md"]
    assert sorted(path.name for path in page.parent.iterdir()) == names


def test_write_without_heldout_data_has_no_picture_of_it(tmp_path):
    written = report.write(made_comparison({"koopcore": [9.0]}, heldout=False), tmp_path, "x")
    assert [path.name for path in written] == [
        "report.html",
        "tables.md",
        "tables.csv",
        "curves.png",
    ]
    assert "held-out loss:" not in (tmp_path / "report.html").read_text().lower()


def test_write_refuses_a_comparison_of_tuning_runs_alone(tmp_path):
    (record,) = made_comparison({"ema:0.9": [9.0]}).records
    tuning = Comparison([Record(**{**vars(record), "seed": 100})])
    with pytest.raises(ValueError, match="no runs on seeds that count"):
        report.write(tuning, tmp_path, "x")
    assert list(tmp_path.iterdir()) == []


def test_page_is_one_file_in_order(text):
    outline = Outline(text)
    assert outline.attributes("html") == [{"lang": "en"}]
    assert not outline.attributes("script")
    ids = [attributes["id"] for _, attributes in outline.found if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {a["href"].removeprefix("#") for a in outline.attributes("a")} <= set(ids)
    for image in outline.attributes("img"):
        assert image["src"].startswith("data:image/png;base64,")
        assert len(image["alt"]) > 20
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert "url(" not in text


def test_page_says_what_a_reviewer_asks_for(text):
    for method in METHODS:
        assert text.count(f'<th scope="row">{method}') >= 3
    for words in (
        "step-equivalent",
        "forward-pass-equivalents",
        "1.1 times the budget",
        "seed 100",
        "sign test",
        "openblas (libscipy_openblas) 1",
        "seeds: 0, 1, 2",
        "Exponential moving average",
    ):
        assert words in text


def test_page_escapes_what_it_is_given(text):
    assert "&lt;all&gt;" in text
    assert "<all>" not in text
    assert "used &lt;problem.evaluate&gt; &amp; was seen" in text
    assert "pdt:5 (!)" in text


def test_page_of_a_large_comparison_stays_small(page):
    # Two pairs of workload and optimizer; 24 of them, with ten seeds, came to 2.8 MB.
    assert page.stat().st_size < 450_000


def test_page_of_jumps_without_trial_losses_and_of_divergence_is_drawn(tmp_path):
    def change(run):
        unknown = [math.inf] * len(run.jumps["step"])
        scores = {name: Score(math.inf, math.inf, math.inf) for name in run.scores}
        found = replace(run, jumps={**run.jumps, "loss_before": unknown}, scores=scores)
        losses = [run.curve["train_loss"][0]] + [math.inf] * (len(run.curve["step"]) - 1)
        diverged = {**run.curve, "train_loss": losses}
        return replace(found, curve=diverged) if run.method == "bare" else found

    planted = planted_comparison(("hamiltonian",), ("sgd",), methods=("bare", "koopcore"))
    report.write(edited(planted, change), tmp_path, "x")
    assert "without a target, as bare diverged" in (tmp_path / "report.html").read_text()


@pytest.fixture(scope="module")
def browser(page):
    """Chromium without a window, with its console and its network watched."""
    webdriver = pytest.importorskip("selenium.webdriver")
    if not (CHROMIUM and DRIVER):
        pytest.skip("no chromium and chromedriver (Debian: apt-get install chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def opened(browser, page, size):
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())
    return browser


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_browser_shows_the_page_without_complaint(browser, page, size):
    opened(browser, page, size)
    script = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    needed, there = browser.execute_script(script)
    assert needed == there
    assert size[0] - 20 <= there <= size[0]  # beside a scroll bar
    assert browser.get_log("browser") == []
    assert browser.title == "koopcore compare: digits-64, hamiltonian"
    images = browser.execute_script(
        "return Array.from(document.images, i => i.complete && i.naturalWidth > 300)"
    )
    assert len(images) >= 15
    assert all(images)
    font = "return parseFloat(getComputedStyle(document.querySelector('li, p')).fontSize)"
    assert browser.execute_script(font) >= 16


def test_browser_asks_nobody_else(browser, page):
    opened(browser, page, DESKTOP)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert page.as_uri() in asked
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_browser_shows_every_table_and_scrolls_the_wide_ones_within_their_box(browser, page):
    opened(browser, page, PHONE)
    captions = browser.execute_script(
        "return Array.from(document.querySelectorAll('table'), t => t.caption.innerText)"
    )
    # The summary; training and held-out of the digits and a verdict; training and a verdict of
    # the oscillator, which has no held-out data; the profiles.
    assert len(captions) == 1 + 3 + 2 + 1
    assert sum(caption.startswith("Held-out loss") for caption in captions) == 1
    scrolls = browser.execute_script(
        "return Array.from(document.querySelectorAll('.scroll'), "
        "d => [d.clientWidth <= 360, d.scrollWidth > d.clientWidth])"
    )
    assert all(fits for fits, _ in scrolls)
    assert sum(wide for _, wide in scrolls) >= 5


def test_browser_prints_all_of_it(browser, page):
    opened(browser, page, DESKTOP)
    options = {"preferCSSPageSize": True, "printBackground": True}
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", options)["data"])
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 50_000
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf))
    assert 5 <= pages <= 60
    # In print no table hides behind a scroll bar.
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    hidden = browser.execute_script(
        "return Array.from(document.querySelectorAll('.scroll'))"
        ".filter(d => getComputedStyle(d).overflowX != 'visible').length"
    )
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert hidden == 0
