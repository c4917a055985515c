"""The page in a real Chromium: what an operator sees, does with the keyboard, and is told when something is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from line import chromium
from line.chromium import Page
from line.served import TOKEN, Served, config_of, served

from padim_edge_line.arrival import now
from padim_edge_line.health import FAILING, WORKING
from padim_edge_line.news import Event

pytestmark = pytest.mark.skipif(chromium.PROGRAM is None, reason="Chromium is not installed")

OTHERS = [((390, 844), True), ((1280, 800), False), ((1920, 1080), False), ((1920, 1080), True)]
"""Sizes and colours for the slow tests."""
LEAST_CONTRAST = 4.5
"""WCAG 2.2, AA, for text that is not large."""

CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(config_of(tmp_path_factory.mktemp("there") / "line")) as found:
        for seed in range(6):
            found.judge(seed, "bottle" if seed % 2 else "screw", part=f"P{seed}")
        yield found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium.opened(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def page(browser: Page, there: Served) -> Iterator[Page]:
    """The page without a token, with the errors of the console looked at."""
    browser.size(1280, 800)
    browser.call("Network.clearBrowserCookies")
    show(browser, there)
    yield browser
    assert not browser.problems
    browser.open("about:blank")


def show(page: Page, there: Served, token: str = "") -> None:
    """Open the page anew, and wait for its first state."""
    page.open("about:blank")
    page.wait("location.href === 'about:blank'")
    page.problems.clear()
    page.open(f"{there.url}#token={token}" if token else there.url)
    page.wait("document.title === 'test-line · padim-edge' && document.querySelectorAll('.tile').length > 5")


def text(page: Page, selector: str) -> str:
    return str(page.evaluate(f"document.querySelector({selector!r}).innerText"))


def view(page: Page) -> None:
    """Open the larger view of the newest image."""
    page.evaluate("document.querySelector('.tile').click()")
    page.wait("document.getElementById('viewer').open")


def test_the_page_shows_each_product_and_its_last_verdict(page: Page) -> None:
    cards = page.evaluate("[...document.querySelectorAll('.product')].map((each) => each.innerText)")
    assert len(cards) == 2
    for card in cards:
        assert re.search(r"Not comparable|Anomalous|Good", card)
        assert "Threshold" in card
    assert page.evaluate("document.querySelectorAll('.chart .mark').length") == 6
    assert page.evaluate("document.querySelectorAll('.chart .threshold').length") == 2
    page.wait("document.querySelector('.active .picture img').naturalWidth > 0")
    assert "ready" in text(page, "#ready")


def test_a_new_image_is_there_without_reloading(page: Page, there: Served) -> None:
    row = there.judge(70, part="brand-new")
    page.wait("document.querySelector('.active').innerText.includes('brand-new')")
    page.wait("document.querySelector('.tile').innerText.includes('brand-new')")
    today = f"[...document.querySelectorAll('.active .today dd')][0].innerText === '{row.seq - 3}'"
    page.wait(today)
    page.wait("document.querySelector('.active .picture img').alt.includes('brand-new')")


def test_reading_only_shows_why_and_marks_are_refused(page: Page, there: Served) -> None:
    assert text(page, "#rights") == "Read-only"
    view(page)
    assert page.evaluate("[...document.querySelectorAll('.mark-button')].every((each) => each.disabled)")
    assert "Read-only" in text(page, ".marks")
    page.evaluate("document.querySelector('[data-key=unlock]').click()")
    page.wait("document.getElementById('unlock').open")
    assert "token" in text(page, "#unlock")
    status = page.evaluate(
        "fetch('/api/rows/1/mark', {method: 'POST', headers: {'Content-Type': 'application/json'}, "
        'body: \'{"mark": "right"}\'}).then((answer) => answer.status)'
    )
    assert status == 401
    assert not there.line.record.reader().mark_of(1)
    page.problems.clear()  # Chromium notes the 401 that was asked for


def test_the_link_allows_marks(page: Page, there: Served) -> None:
    show(page, there, TOKEN)
    page.wait("document.getElementById('rights').innerText === 'Changes allowed'")
    assert page.evaluate("location.hash") == ""
    assert TOKEN not in page.evaluate("document.cookie + document.documentElement.outerHTML")
    view(page)
    page.evaluate("document.querySelector('[data-key=\"false alarm\"]').click()")
    page.wait("document.querySelector('[data-key=\"false alarm\"]').getAttribute('aria-pressed') === 'true'")
    page.wait("document.querySelector('.tile').innerText.includes('false alarm')")
    seq = there.line.record.reader().last()
    mark = there.line.record.reader().mark_of(seq)
    assert mark is not None
    assert mark.mark == "false alarm"


def test_the_token_can_be_typed_and_given_back(page: Page) -> None:
    page.evaluate("document.getElementById('rights').click()")
    page.call("Input.insertText", text="wrong token")
    page.press("Enter", 13, text="\r")
    page.wait("document.querySelector('.problem').innerText.includes('not the token')")
    page.problems.clear()
    page.evaluate("document.getElementById('token').value = ''")
    page.call("Input.insertText", text=TOKEN)
    page.press("Enter", 13, text="\r")
    page.wait("document.getElementById('rights').innerText === 'Changes allowed'")
    page.evaluate("document.getElementById('rights').click()")
    page.evaluate("document.querySelector('#unlock .button').click()")
    page.wait("document.getElementById('rights').innerText === 'Read-only'")


def test_the_product_changes_in_one_click(page: Page, there: Served) -> None:
    assert page.evaluate("[...document.querySelectorAll('.product-head .button')].every((each) => each.hidden)")
    show(page, there, TOKEN)
    page.wait("[...document.querySelectorAll('.product-head .button')].some((each) => !each.hidden)")
    page.evaluate("document.querySelector('.product:not(.active) .product-head .button').click()")
    page.wait("document.querySelector('.active h3').innerText === 'screw'")
    assert there.line.products.active == "screw"
    there.run(there.line.choose("bottle"))
    page.wait("document.querySelector('.active h3').innerText === 'bottle'")


def test_what_fails_is_said_at_the_top(page: Page, there: Served) -> None:
    there.line.board.set("sink", "mqtt", FAILING, "The broker does not answer.")
    page.wait("document.getElementById('alerts').innerText.includes('The broker does not answer.')")
    page.wait("document.getElementById('parts').innerText.includes('The broker does not answer.')")
    there.line.board.set("model", "bottle", FAILING, "The model is gone.")
    page.wait("document.getElementById('ready').innerText.includes('not ready')")
    there.line.board.set("drift", "bottle", FAILING, "The light has become darker.")
    there.line.tell(Event("drift", {"product": "bottle"}))
    page.wait("document.getElementById('alerts').innerText.includes('The light has become darker.')")
    there.line.board.set("model", "bottle", WORKING)
    there.line.board.remove("sink", "mqtt")
    there.line.board.set("drift", "bottle", WORKING)
    page.wait("document.getElementById('alerts').innerText === ''")


def test_a_verdict_that_is_not_live_never_looks_fresh(browser: Page, tmp_path: Path) -> None:
    """The service ends under the page: a wall screen says so, and the colour of the verdict goes."""
    with served(config_of(tmp_path / "line", ["bottle"])) as there:
        for seed in range(6):
            there.judge(seed)
        show(browser, there)
        assert browser.evaluate("document.querySelector('.product').dataset.tone") != "old"
    browser.wait("document.getElementById('alerts').innerText.includes('No connection since')")
    browser.wait("document.querySelector('.product').dataset.tone === 'old'")
    assert "not live" in text(browser, ".when")
    assert browser.evaluate("document.getElementById('ready').hidden")
    port = int(there.url.split(":")[2].strip("/"))
    with served(config_of(tmp_path / "line", ["bottle"], port=port)) as again:
        assert again.url == there.url
        browser.wait("document.getElementById('alerts').innerText === ''", 60)
        again.judge(10, part="after")
        browser.wait("document.querySelector('.active').innerText.includes('after')")
    browser.open("about:blank")
    browser.problems.clear()


def test_an_old_verdict_says_its_age(page: Page, there: Served) -> None:
    there.judge(90, time=now() - 3_600_000_000)
    page.wait("document.querySelector('.active .when').innerText.startsWith('last verdict, 1 h 0 min ago')")
    assert page.evaluate("document.querySelector('.active').dataset.tone") == "old"
    there.judge(91)
    page.wait("document.querySelector('.active').dataset.tone === 'doubt'")


def test_every_control_is_reached_by_tab_and_shows_it(page: Page, there: Served) -> None:
    show(page, there, TOKEN)
    page.wait("document.getElementById('rights').innerText === 'Changes allowed'")
    wanted = page.evaluate(
        "[...document.querySelectorAll('a[href], button, input, select')].filter((each) => !each.disabled && "
        "each.offsetParent !== null).map((each, index) => { each.dataset.control = index; return index; }).length"
    )
    assert wanted > 10
    reached: dict[str, Any] = {}
    for _ in range(wanted + 5):
        page.press("Tab", 9)
        found = page.evaluate(
            "(() => { const each = document.activeElement, style = getComputedStyle(each); "
            "return [each.dataset.control ?? '', style.outlineStyle, parseFloat(style.outlineWidth)]; })()"
        )
        reached[found[0]] = found[1:]
    assert {str(number) for number in range(wanted)} <= set(reached)
    for number in range(wanted):
        style, width = reached[str(number)]
        assert style != "none"
        assert width >= 2


def test_the_larger_view_works_with_keys(page: Page) -> None:
    page.evaluate("document.querySelector('.tile').focus()")
    page.press("Enter", 13, text="\r")
    page.wait("document.getElementById('viewer').open")
    first = text(page, "#viewer-title")
    page.press("ArrowRight", 39)
    page.wait(f"document.getElementById('viewer-title').innerText !== {first!r}")
    before = page.evaluate("document.querySelector('#viewer img').src")
    page.press("o", 79, text="o")
    page.wait(f"document.querySelector('#viewer img').src !== {before!r}")
    page.wait("document.querySelector('#viewer img').naturalWidth > 0")
    page.press("Escape", 27)
    page.wait("!document.getElementById('viewer').open")
    assert page.evaluate("document.activeElement.className") == "tile"


@pytest.mark.parametrize(
    ("size", "dark"),
    [
        ((390, 844), False),
        ((1280, 800), True),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in OTHERS),
    ],
)
def test_text_has_contrast_and_nothing_sticks_out(page: Page, there: Served, size: tuple[int, int], dark: bool) -> None:
    page.size(*size, dark=dark)
    there.line.board.set("sink", "mqtt", FAILING, "The broker does not answer.")
    page.wait("document.getElementById('alerts').innerText.includes('broker')")
    for viewer in (False, True):
        if viewer:
            view(page)
        found = page.evaluate(f"({CONTRAST})({LEAST_CONTRAST})")
        assert found["looked_at"] > 20
        assert not found["weak"]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("document.querySelector('dialog[open]')?.scrollWidth ?? 0") <= size[0]
    for tone in ("good", "bad", "doubt", "old"):
        page.evaluate("document.getElementById('viewer').close()")
        page.evaluate(f"document.querySelectorAll('.product').forEach((each) => {{ each.dataset.tone = '{tone}'; }})")
        assert not page.evaluate(f"({CONTRAST})({LEAST_CONTRAST})")["weak"]
    there.line.board.remove("sink", "mqtt")


def test_the_page_has_landmarks_headings_and_names(page: Page) -> None:
    view(page)
    found = page.evaluate(
        """(() => {
          const all = (query) => [...document.querySelectorAll(query)];
          const name = (each) => (each.getAttribute('aria-label') ?? each.innerText ?? '').trim();
          return {
            language: document.documentElement.lang,
            landmarks: all('header, main').length,
            titles: all('h1').length,
            sections: all('section').every((each) => document.getElementById(each.getAttribute('aria-labelledby'))),
            dialog: all('dialog').every((each) => each.hasAttribute('aria-labelledby')),
            images: all('img').every((each) => each.hasAttribute('alt')),
            drawings: all('svg').every((each) => each.getAttribute('aria-label').length > 5),
            buttons: all('button:not([hidden]):not(:has(img[alt]))').filter((each) => !name(each)).length,
            live: all('[aria-live=polite]').length,
            inputs: all('input').every((each) => each.labels.length === 1),
          };
        })()"""
    )
    assert found == {
        "language": "en",
        "landmarks": 2,
        "titles": 1,
        "sections": True,
        "dialog": True,
        "images": True,
        "drawings": True,
        "buttons": 0,
        "live": 1,
        "inputs": True,
    }


def test_targets_are_large_enough_for_fingers(page: Page) -> None:
    page.size(390, 844)
    view(page)
    small = page.evaluate(
        "[...document.querySelectorAll('button, input')].filter((each) => each.offsetParent !== null)"
        ".filter((each) => each.getBoundingClientRect().height < 24 || each.getBoundingClientRect().width < 24)"
        ".map((each) => each.outerHTML)"
    )
    assert not small


def test_nothing_is_asked_of_other_machines(page: Page, there: Served) -> None:
    found = page.evaluate("performance.getEntriesByType('resource').map((each) => each.name)")
    assert found
    assert all(name.startswith(there.url) for name in found)


def test_names_may_hold_anything(browser: Page, tmp_path: Path) -> None:
    evil = "<img src=x onerror=\"document.title='broken in'\">&amp;"
    with served(config_of(tmp_path / "line", ["bottle"])) as there:
        for seed in range(6):
            there.judge(seed, part=evil)
        show(browser, there)
        browser.wait(f"document.querySelector('.active').innerText.includes({evil!r})")
        view(browser)
        assert evil in text(browser, "#viewer-title")
        assert browser.evaluate("document.title") == "test-line · padim-edge"
        assert not browser.problems
        browser.open("about:blank")
        browser.wait("location.href === 'about:blank'")
