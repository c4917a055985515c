"""The report: one file that needs nothing else, says what it was given, and is right about the threshold."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from padim_edge.evaluation.advice import Advice
from padim_edge.evaluation.metrics import Rate
from padim_edge.evaluation.operating import OperatingPoint
from padim_edge.evaluation.report import Case, ClassReport, Curve, KindRow, headline, write_report
from padim_edge.evaluation.report.page import _short, _shown, _truth
from padim_edge.evaluation.report.plots import Strip, _counts, _edges, histogram
from padim_edge.evaluation.report.words import percent
from padim_edge_artifact import PadimEdgeError

EVIL = "<script>alert('&')</script>"
FOREIGN = "Käfer 傷 שריטה $x^2$"
DATA_URI = re.compile(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)")


def case(seed: int, kind: str, *, masked: bool) -> Case:
    """An image of noise, wider than the report embeds it."""
    pixels = np.random.default_rng(seed).integers(0, 256, (300, 500, 3), np.uint8)
    image = Image.fromarray(pixels)
    mask = np.zeros((300, 500), np.bool_)
    mask[100:150, 200:260] = True
    return Case(f"{kind}/{seed}.png", kind, seed + 1.0, image, image.rotate(180), mask if masked else None)


def made(class_name: str = "bottle", *, kind: str = "crack", spread: float = 0.3) -> ClassReport:
    """One class with all that a report can show."""
    draw = np.random.default_rng(0)
    x = np.linspace(0, 1, 50)
    return ClassReport(
        class_name=class_name,
        metrics={"image_auroc": 0.97, "pro": 0.87, "false_alarm_rate": 0.05, "miss_rate": 0.25, "new_metric": 3.0},
        kinds=(KindRow("good", 20, 1, (0.001, 0.25)), KindRow(kind, 8, 6, (0.35, 0.97))),
        calibration=draw.lognormal(1, spread, 60),
        scores={"good": draw.lognormal(1, spread, 20), kind: draw.lognormal(2, spread, 8)},
        threshold=5.0,
        false_alarm_rate=0.01,
        extrapolated=True,
        image_roc=Curve(x, x**0.1),
        pixel_roc=Curve(x, x**0.2),
        pro_curve=Curve(x, x**0.3),
        misses=(case(0, kind, masked=True), case(1, kind, masked=False)),
        false_alarms=(case(2, "good", masked=False),),
        anomalous=(dataclasses.replace(case(3, kind, masked=True), reason="typical"),),
        points=(
            OperatingPoint("now", 0.01, 5.0, Rate(1, 20, 0.001, 0.25), Rate(2, 8, 0.03, 0.65), True, ""),
            OperatingPoint("10 %", 0.1, 4.0, None, Rate(1, 8, 0.0, 0.5), False, f"padim-edge threshold {'m' * 90} 4"),
        ),
        notes=("* 60 good images measure rates down to 1.6 %.",),
        advice=(Advice("Take more good images.", "padim-edge export --class bottle --data DATA"),),
        model={"file": "bottle.onnx", "device": "cpu"},
    )


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.source = path.read_text("utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def page(folder: Path, *classes: ClassReport, title: str = "Evaluation", **means: float | None) -> Page:
    path = folder / "report.html"
    write_report(path, classes, title=title, means=means)
    return Page(path)


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    found = page(tmp_path, made(), made("weave"))
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(found.tags)
    for name, value in found.attributes:
        if name in ("src", "srcset", "poster", "data"):
            assert value.startswith("data:image/")
        if name in ("href", "xlink:href", "action"):
            assert value.startswith("#")
    assert all(target.startswith("#") for target in re.findall(r"url\(\s*['\"]?(.)", found.source))
    assert "@import" not in found.source
    assert "http:" not in found.source
    assert "https:" not in found.source


def test_targets_within_the_page_exist_once(tmp_path: Path) -> None:
    found = page(tmp_path, made(), made("weave"))
    ids = [value for name, value in found.attributes if name == "id"]
    wanted = {value[1:] for name, value in found.attributes if name in ("href", "xlink:href")}
    assert wanted | set(re.findall(r"url\(#([^)]*)\)", found.source)) <= set(ids)
    assert len(ids) == len(set(ids))


def test_every_image_decodes_and_is_small(tmp_path: Path) -> None:
    found = page(tmp_path, made())
    images = DATA_URI.findall(found.source)
    assert len(images) == 3 + 2 + 2 + 3  # the truth of two cases is known
    for encoded in images:
        image = Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)))
        image.load()
        assert image.size == (320, 192)


def test_names_may_hold_anything(tmp_path: Path) -> None:
    for name in (EVIL, FOREIGN):
        report = dataclasses.replace(made(name, kind=name), model={name: name}, reasons={"pro": name})
        report = dataclasses.replace(report, metrics={**report.metrics, "pro": None, name: 1.0})
        found = page(tmp_path, report, report, title=name)
        assert "script" not in found.tags
        # Title twice, class 4 times, kinds in table, histogram and captions, facts, reasons.
        assert found.text.count(name) > 20


def test_a_file_name_that_is_not_text_does_not_end_the_run(tmp_path: Path) -> None:
    found = page(tmp_path, made(kind="torn \udcff name"))
    assert "torn \\udcff name" in found.text


def test_an_undefined_metric_says_why(tmp_path: Path) -> None:
    report = dataclasses.replace(
        made(),
        metrics={"image_auroc": 0.97, "pro": None, "pixel_auroc": None},
        reasons={"pro": "no image has a mask"},
        pixel_roc=None,
        pro_curve=None,
    )
    found = page(tmp_path, report)
    assert "no image has a mask" in found.text
    assert "not defined for these images" in found.text
    assert "None" not in found.text
    assert re.findall(r'aria-label="(.*) curve', found.source) == ["Image ROC"]


def test_several_classes_have_a_table_with_their_mean(tmp_path: Path) -> None:
    assert "Mean" not in page(tmp_path, made(), image_auroc=0.5).text
    found = page(tmp_path, made(), made("weave"), image_auroc=0.1234, pro=None)
    assert "0.1234" in found.text
    assert "At the thresholds of the 2 models, 2 of 40 good images raise an alarm" in found.text


def test_a_class_without_any_image_has_a_page(tmp_path: Path) -> None:
    nothing = np.zeros(0)
    report = dataclasses.replace(
        made(), kinds=(), calibration=nothing, scores={"good": nothing}, image_roc=None, misses=(), false_alarms=()
    )
    assert "No images were judged." in page(tmp_path, report).text


def test_where_nothing_is_wrong_the_page_says_so(tmp_path: Path) -> None:
    rows = (KindRow("good", 20, 0, (0, 0.2)), KindRow("crack", 8, 8, (0.6, 1)))
    text = page(tmp_path, dataclasses.replace(made(), kinds=rows, misses=(), false_alarms=())).text
    assert "No anomalous image is missed." in text
    assert "No good image raises an alarm." in text


def test_the_same_data_gives_the_same_bytes_whatever_matplotlib_is_told(tmp_path: Path) -> None:
    first = page(tmp_path, made()).source
    with mpl.rc_context({"font.size": 30, "axes.grid": True, "svg.fonttype": "path", "text.usetex": True}):
        told = dict(mpl.rcParams)
        assert page(tmp_path, made()).source == first
        assert dict(mpl.rcParams) == told


def test_a_report_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(PadimEdgeError, match="could not be written"):
        page(tmp_path / "missing", made())

    def half(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(PadimEdgeError, match=r"report\.html could not be written \(No space left on device\)"):
        page(tmp_path, made())
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text() == "old"


def test_importing_the_report_imports_neither_matplotlib_nor_jinja2() -> None:
    code = (
        "import sys, padim_edge.evaluation.report; sys.exit(bool({'matplotlib', 'jinja2', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("good", "defective", "sentence"),
    [
        ((20, 0), (63, 59), "0 of 20 good images raise an alarm and 4 of 63 anomalous ones are missed."),
        ((20, 1), (63, 62), "1 of 20 good images raises an alarm and 1 of 63 anomalous ones is missed."),
        ((20, 2), None, "2 of 20 good images raise an alarm; there are no anomalous images to find."),
        (None, (3, 3), "0 of 3 anomalous images are missed; there are no good images to compare with."),
    ],
)
def test_the_headline_counts(good: tuple[int, int] | None, defective: tuple[int, int] | None, sentence: str) -> None:
    rows = [KindRow(kind, *each, (0, 1)) for kind, each in (("good", good), ("hole", defective)) if each]
    assert headline(rows) == f"At the model's threshold, {sentence}"


def test_thresholds_and_advice_are_on_the_page(tmp_path: Path) -> None:
    evil = Advice(EVIL, f"padim-edge export --class {EVIL}")
    found = page(tmp_path, dataclasses.replace(made(), advice=(evil,)))
    for text in (
        "now (1 %) *",
        "2 of 8 (25 %)",
        "the stored one",
        f"padim-edge threshold {'m' * 90} 4",
        "typical:",
    ):
        assert text in found.text, text
    assert found.text.count(EVIL) == 2
    assert "script" not in found.tags
    without = page(tmp_path, dataclasses.replace(made(), points=(), advice=(), notes=()))
    assert "Choosing a threshold" not in without.text
    assert "What to try next" not in without.text


def test_hundreds_of_kinds_are_folded_and_none_is_lost(tmp_path: Path) -> None:
    """Those that are missed most are seen at once. The histogram keeps every image in one of its rows."""
    kinds = {f"kind {i:03d}": i % 9 for i in range(300)}
    rows = [KindRow("good", 20, 1, (0.001, 0.25)), *(KindRow(kind, 8, n, (0, 1)) for kind, n in kinds.items())]
    scores = {"good": np.ones(20)} | {kind: np.full(8, 4.0 + n) for kind, n in kinds.items()}
    found = page(tmp_path, dataclasses.replace(made(), kinds=tuple(rows), scores=scores))
    before, folded = found.source.split("<details", 1)
    assert before.count('class="is-defect"') == 11
    assert folded.count('class="is-defect"') == 300 - 11
    assert all(f"{kind}<" in found.source for kind in kinds)
    assert "289 more kinds" in found.text
    assert "289 other kinds" in found.text
    assert found.source.count(" above</text>") <= 14


def test_no_figure_is_rounded_to_perfection() -> None:
    assert [_shown("pro", value) for value in (1.0, 0.99996, 0.9999, None)] == ["1.0000", ">0.9999", "0.9999", None]
    assert [percent(value) for value in (0, 1e-5, 0.0049, 0.5, 0.9999, 1)] == [
        "0 %", "<0.1 %", "0.5 %", "50 %", ">99.9 %", "100 %",
    ]  # fmt: skip


def test_long_labels_are_cut_to_the_plot() -> None:
    assert _short("x" * 28) == "x" * 28
    assert len(_short("x" * 99)) == 28
    assert len(_short("傷" * 99)) <= 15


def test_labels_that_look_like_placeholders_stay_labels() -> None:
    names = ["slot1left", "slot0right", "$x^2$", EVIL]
    svg = histogram([Strip(name, "note", "good", np.ones(2)) for name in names], 2.0, label="2", salt="")
    for name in names:
        assert svg.count(html.escape(name, quote=False).replace("'", "&#39;")) == 1
    assert svg.count(">note<") == len(names)


values = st.floats(0, 1e6, allow_subnormal=False) | st.floats(-5, 5, width=16)


@given(st.lists(values, min_size=1, max_size=30), values)
def test_no_bar_lies_on_both_sides_of_the_threshold(scores: list[float], threshold: float) -> None:
    """So the bars right of the line are the alarms, of which a score equal to the threshold is none."""
    edges, logarithmic = _edges(np.array(scores), threshold)
    assert (np.diff(edges) > 0).all()
    assert threshold in edges
    assert not logarithmic or edges[0] > 0
    counts = _counts(np.array(scores), edges)
    assert counts.sum() == len(scores)
    assert counts[edges[:-1] >= threshold].sum() == sum(score > threshold for score in scores)


def test_a_defect_one_pixel_wide_is_seen_in_the_small_image() -> None:
    mask = np.zeros((3000, 3000), np.bool_)
    mask[1500, 500:2500] = True
    shown = np.asarray(_truth(Image.new("RGB", (320, 320), (80, 80, 80)), mask)).astype(int)
    assert (shown[..., 0] - shown[..., 2] > 100).sum() > 200


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium(profile: Path, *arguments: str) -> str:
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="neither chromium nor google-chrome is installed")
def test_a_browser_shows_the_page_on_a_phone(tmp_path: Path) -> None:
    long = made("x" * 200, kind="y" * 200, spread=2)
    write_report(tmp_path / "report.html", [long, made()], title="z" * 200, means={})
    shot = tmp_path / "shot.png"
    chromium(tmp_path / "first", "--window-size=390,2400", f"--screenshot={shot}", str(tmp_path / "report.html"))
    with Image.open(shot) as image:
        assert image.size == (390, 2400)
        assert len(image.convert("RGB").getcolors(1 << 24) or []) > 50
    # Browsers' windows are at least 500 pixels wide, a frame may be narrower. The page runs no scripts, its frame does.
    source = html.escape((tmp_path / "report.html").read_text("utf-8"))
    (tmp_path / "frame.html").write_text(
        f'<!doctype html><iframe id=phone width=390 height=800 srcdoc="{source}"></iframe><script>onload = () => '
        "{ document.title = phone.contentDocument.documentElement.scrollWidth }</script>",
        "utf-8",
    )
    shown = chromium(tmp_path / "second", "--dump-dom", str(tmp_path / "frame.html"))
    width = re.search(r"<title>(\d+)</title>", shown)
    assert width
    assert 300 < int(width[1]) <= 390


def test_the_page_promises_no_rate_that_the_images_cannot_measure(tmp_path: Path) -> None:
    report = made()
    highest = float(report.calibration.max())
    for changed, sentence in (
        ({"extrapolated": False}, "is expected to raise an alarm on about 1 % of good images."),
        ({"threshold": highest}, "was asked to raise an alarm on 1 % of good images."),
        ({"threshold": 2 * highest}, "so this is an estimate."),
    ):
        write_report(tmp_path / "r.html", [dataclasses.replace(report, **changed)])
        text = " ".join((tmp_path / "r.html").read_text(encoding="utf-8").split())
        assert sentence in text
        assert ("so it is their highest score." in text) == ("asked" in sentence)
