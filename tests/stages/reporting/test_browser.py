"""The page in a real Chromium: nothing goes wrong, nothing leaves, and people can read and use it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import Tab, browser
from peregrine import files
from peregrine.rundir import RunDirectory
from peregrine.stages.reporting import report
from report_making import fill, fill_more, new_run

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.timeout(300)]

# Contrast of every text with what is behind it, by WCAG 2.2's formula; the texts below 4.5, or 3 for large letters.
CONTRAST = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const part = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const circle = one.matches("a.point") && one.querySelector("circle");
      const colour = rgba(circle ? getComputedStyle(circle).fill : getComputedStyle(one).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const style = getComputedStyle(element);
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility()) continue;
    if (element.closest("script, .hidden, title, .skip")) continue;
    const text = rgba(element.closest("svg") ? style.fill : style.color);
    const [high, low] = [light(text), light(behind(element))].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) poor.push(`${ratio.toFixed(2)}: ${walker.currentNode.textContent.trim()}`);
  }
  return poor;
})()
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    made = new_run(tmp_path_factory.mktemp("report") / "a run")
    fill(made)
    fill_more(made)
    report(made)
    return made


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def tab(started: Tab, run: RunDirectory) -> Tab:
    """The page, freshly loaded, in a window of 1280 pixels."""
    started.call("Emulation.setScriptExecutionDisabled", value=False)
    started.size(1280)
    started.media()
    started.complaints.clear()
    started.requests.clear()
    started.open(run.report_path.as_uri())
    return started


def count(tab: Tab, selector: str) -> int:
    found: int = tab.run(f"document.querySelectorAll({selector!r}).length")
    return found


def test_nothing_goes_wrong_and_nothing_leaves(tab: Tab, run: RunDirectory) -> None:
    tab.run("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    tab.run("new Promise((done) => setTimeout(done, 300))")
    assert tab.complaints == []
    assert tab.requests == [run.report_path.as_uri()]
    assert tab.run("document.readyState") == "complete"


def test_hostile_code_would_be_refused(tab: Tab) -> None:
    """Had a name got through as HTML, the policy would still stop it."""
    html = '<img src=x onerror="window.harm = 1"><b style="color:red">'
    tab.run(f"document.body.insertAdjacentHTML('beforeend', {html!r})")
    tab.run("document.body.append(Object.assign(document.createElement('script'), { text: 'window.harm = 2' }))")
    tab.run("new Promise((done) => setTimeout(done, 200))")
    assert tab.run("window.harm === undefined")
    assert any("Content Security Policy" in complaint for complaint in tab.complaints)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_letters_can_be_told_from_what_is_behind_them(tab: Tab, scheme: str) -> None:
    tab.media(scheme)
    tab.run("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    assert tab.run(CONTRAST) == []


@pytest.mark.parametrize("width", [1280, 768, 390])
def test_nothing_sticks_out_of_the_window(tab: Tab, width: int) -> None:
    tab.size(width)
    assert tab.run("document.documentElement.scrollWidth") == width
    small = (
        "[...document.querySelectorAll('.plot text')].some((text) => parseFloat(getComputedStyle(text).fontSize) < 11)"
    )
    assert tab.run(small) is False


def test_on_paper_no_table_is_cut_and_every_chart_is_there(tab: Tab) -> None:
    tab.media(medium="print")
    tab.size(673, 1000)  # pixels of A4 without its margins
    cut = """[...document.querySelectorAll('.scroll')]
        .filter((one) => one.offsetParent && one.scrollWidth > one.clientWidth + 1)
        .map((one) => one.getAttribute('aria-labelledby'))"""
    assert tab.run(cut) == []
    assert tab.run("[...document.querySelectorAll('.pane')].every((one) => one.offsetHeight > 100)")
    assert tab.run("document.querySelector('nav').offsetHeight") == 0
    paper = tab.paper()
    assert paper.startswith(b"%PDF")
    assert 4 <= paper.count(b"/Type /Page\n") + paper.count(b"/Type /Page ") <= 30


def test_tables_are_sorted_by_the_keyboard_too(tab: Tab) -> None:
    head = "document.querySelector('table[id], #benchmark table').tHead.rows[0].cells[7]"
    names = "[...document.querySelectorAll('#benchmark table')[0].tBodies[0].rows].map((row) => row.id)"
    tab.run(f"{head}.querySelector('button').focus()")
    for way, order in (
        ("ascending", ["row-3", "row-2", "row-1"]),
        ("descending", ["row-1", "row-2", "row-3"]),
    ):
        tab.key("Enter", 13)
        assert tab.run(f"{head}.getAttribute('aria-sort')") == way
        assert tab.run(names) == order
    assert count(tab, "[aria-sort]") == 1


def test_filters_rule_charts_and_tables(tab: Tab) -> None:
    assert count(tab, ".filters:not([hidden])") == 2
    box = "document.querySelector('.filters input[value=fp16]')"
    tab.run(f"{box}.click()")
    assert count(tab, "#benchmark tr.gone") == 2  # in both tables
    assert count(tab, "a.point.gone") == 3  # in all three charts
    assert tab.run("document.querySelector('#benchmark .found').textContent") == "2 of 3 shown"
    assert tab.run("[...document.querySelectorAll('input[value=fp16]')].every((one) => !one.checked)")
    tab.run(f"{box}.click()")
    assert count(tab, ".gone[id], a.point.gone") == 0


def test_charts_answer_the_pointer(tab: Tab) -> None:
    tab.run("document.querySelector('#curve-accuracy').scrollIntoView({ block: 'center', behavior: 'instant' })")
    x, y = tab.run(
        "(({ left, top, width, height }) => [left + 0.98 * width, top + height / 2])"
        "(document.querySelector('#curve-accuracy .plot').getBoundingClientRect())"
    )
    tab.pointer(x, y)
    tip = "[...document.querySelectorAll('#curve-accuracy .tip:not(.gone) div')].map((one) => one.textContent)"
    assert tab.run(tip) == ["Epoch 3, training: 80.0%", "Epoch 3, validation: 76.7%"]
    tab.pointer(2, 2)
    assert tab.run(tip) == []


def test_a_point_of_the_choice_leads_to_its_row(tab: Tab) -> None:
    tab.run("document.querySelector('#pane-latency a.chosen').focus()")
    assert "onnx@onnxruntime, fp32: 95.10%, 1.23 ms, chosen" in tab.run(
        "document.querySelector('#pane-latency .tip').textContent"
    )
    tab.key("Enter", 13)
    assert tab.run("location.hash") == "#row-2"


def test_one_chart_of_the_choice_is_shown_at_a_time(tab: Tab) -> None:
    shown = "[...document.querySelectorAll('.pane')].filter((one) => one.offsetHeight).map((one) => one.id)"
    assert tab.run(shown) == ["pane-latency"]
    tab.run("document.getElementById('show-latency').focus()")
    tab.key("ArrowRight", 39)
    assert tab.run(shown) == ["pane-throughput"]


def test_the_keyboard_reaches_everything(tab: Tab) -> None:
    expected = tab.run(
        "[...document.querySelectorAll('a[href], button, summary, [tabindex=\"0\"], input[type=checkbox]')]"
        ".filter((one) => one.checkVisibility()).length"
    )
    tab.run("window.seen = new Set(); window.bare = []")
    note = """(() => {
      const one = document.activeElement;
      if (one === document.body) return false;
      const style = getComputedStyle(one);
      const marked = style.outlineStyle !== "none" || one.matches("a.point");
      if (!marked && !one.matches(".tabs input")) window.bare.push(one.outerHTML.slice(0, 80));
      window.seen.add(one);
      return true;
    })()"""
    for _ in range(expected + 20):
        tab.key("Tab", 9)
        if not tab.run(note):
            break
    assert tab.run("window.bare") == []
    assert tab.run("window.seen.size") >= expected


def test_the_page_is_whole_without_scripts(tab: Tab, run: RunDirectory) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    tab.open(run.report_path.as_uri())
    assert count(tab, "thead button") == 0
    assert count(tab, ".filters[hidden]") == 2
    assert count(tab, ".plot title") > 10  # what browsers show by themselves
    assert tab.run("document.querySelector('#pane-latency').offsetHeight") > 100
    assert tab.complaints == []


@pytest.mark.parametrize("validation", ["test"])
def test_a_run_of_an_older_version_is_shown(started: Tab, tmp_path: Path, validation: str) -> None:
    older = new_run(tmp_path / "run", validation)
    fill(older, validation)
    started.call("Emulation.setScriptExecutionDisabled", value=False)
    started.complaints.clear()
    started.open(report(older).as_uri())
    assert started.complaints == []
    assert count(started, "thead button") > 10


def test_the_watched_page_follows_the_run(started: Tab, tmp_path: Path) -> None:
    """And keeps what was opened and where one was."""
    followed = new_run(tmp_path / "run")
    fill(followed)
    command = [sys.executable, "-m", "peregrine", "report", str(followed.path), "--watch"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout
    try:
        url = process.stdout.readline().split()[0]
        started.call("Emulation.setScriptExecutionDisabled", value=False)
        started.complaints.clear()
        started.requests.clear()
        started.open(url)
        started.run("document.querySelector('#evaluation details').open = true")
        started.run("document.querySelector('#training details summary').focus()")
        results = followed.results / "inference_results.json"
        files.write_json(results, {**files.read_json(results), "accuracy": 0.9876})
        started.wait("document.querySelector('#summary').textContent.includes('98.8%')")
        assert started.run("document.querySelector('#evaluation details').open")
        assert started.run("document.activeElement.matches('#training summary')")
        assert count(started, "#evaluation thead button") > 0
        assert started.run("document.getElementById('watched').textContent") == "This page follows the run."
        assert {address.removeprefix(url) for address in started.requests} == {"", "version"}
        assert started.complaints == []
    finally:
        process.terminate()
        process.communicate(timeout=20)
    started.wait("document.getElementById('watched').textContent.startsWith('The server has ended')")
