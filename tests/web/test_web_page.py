"""The page of examples/web in a real Chromium: the scores and maps of Python, and what a user sees and does."""

from __future__ import annotations

import functools
import io
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import drawn_images
import golden
import numpy as np
import pytest
from line import chromium
from line.chromium import Page
from PIL import Image
from web import web_page

from padim_edge_runtime import Detector

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(chromium.PROGRAM is None, reason="Chromium is not installed"),
]

SAME = 1e-4
"""Largest relative difference of scores, and of map values in units of the highest: other kernels round otherwise."""
CODES = (2e-3, 2e-2)
"""Largest such differences of int8, of scores and of maps: a rounding may fall to the next of 256 codes. Two levels of
optimisation of the same onnxruntime differ by .0008 and .005 on photographs, and the self-test of int8 allows .03."""
JPEG = 1e-2
"""Largest relative difference of scores where the browser decodes a JPEG: its pixels may differ by a level."""
LEAST_CONTRAST = 4.5
"""WCAG 2.2, AA, for text that is not large."""

CONTRAST = (Path(chromium.__file__).parent / "contrast.js").read_text(encoding="utf-8")
MODELS = ("golden", "golden_data", "edge", "edge-int8", "free", "free-int8", "auto")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return web_page.site(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both golden models, one of them with a data file, and all kinds of distance in fp32 and int8."""
    import small_models

    from padim_edge_artifact.method import Precision

    folder, good = tmp_path_factory.mktemp("models"), small_models.dataset(small_models.weave(24))
    found = {"golden": golden.copy(golden.WHOLE, folder), "golden_data": golden.copy(golden.CROPPED, folder)}
    for name in MODELS[2:]:
        kind, _, precision = name.partition("-")
        method = small_models.small(kind, precision=Precision(precision or "fp32"))
        found[name] = small_models.export_model(good, folder / f"{name}.onnx", method).path
    return found


@pytest.fixture(scope="module")
def address(site: Path, models: dict[str, Path]) -> Iterator[str]:
    with web_page.served(web_page.serve.files_of(models.values(), site)) as (url, _):
        yield url


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium.opened(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def page(browser: Page, address: str) -> Iterator[Page]:
    """The page without a model, with the errors of the console looked at."""
    show(browser, address)
    yield browser
    assert not browser.problems
    browser.open("about:blank")


def show(page: Page, url: str) -> None:
    """Open the page anew."""
    page.size(1280, 900)
    page.open("about:blank")
    page.wait("location.href === 'about:blank'")
    page.problems.clear()
    page.open(url)
    page.wait("document.readyState === 'complete' && document.getElementById('threads')?.options.length > 0")


def choose(page: Page, selector: str, *files: Path) -> None:
    """Choose files, as a user does in the dialog."""
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    node = page.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=node, files=[str(each) for each in files])


def text(page: Page, selector: str) -> str:
    return str(page.evaluate(f"document.querySelector({selector!r}).innerText"))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def images() -> list[bytes]:
    """Encoded PNGs: good ones, defects, a large one, grey, palette, turned by EXIF, one of another product."""
    import small_models

    *good, hole, _ = small_models.judged()
    turned = Image.Exif()
    turned[0x0112] = 6
    noise = np.random.default_rng(3).integers(0, 256, (90, 120, 3), np.uint8)
    return [
        *map(encoded, (good[0], hole, hole.resize((333, 421)), hole.convert("L"), hole.convert("P"))),
        encoded(hole, exif=turned),
        encoded(Image.fromarray(noise)),
        encoded(drawn_images.good(70)),
        encoded(drawn_images.defective(71)[0]),
    ]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_scores_maps_and_verdicts_are_those_of_python(
    page: Page, models: dict[str, Path], name: str, threads: int
) -> None:
    about = web_page.load(page, models[name].name, threads)
    assert about["isolated"] is True
    assert about["threads"] == threads
    assert about["whole"] is True
    assert about["exact"] is True
    detector, verdicts, off = Detector.load(models[name], "cpu"), set(), [0.0, 0.0]
    for image in images():
        found, values = web_page.judged(page, image)
        expected = detector.inspect(image)
        frame = expected.view.frame_map.ravel()
        off[0] = max(off[0], abs(found["score"] - expected.score) / expected.score)
        off[1] = max(off[1], float(np.abs(values - frame).max() / frame.max()))
        assert found["threshold"] == expected.threshold
        assert (found["width"], found["height"]) == (expected.width, expected.height)
        assert found["verdict"] == expected.verdict
        assert tuple(found["warnings"]) == expected.warnings
        if "int8" not in name:
            assert [tuple(each["box"]) for each in found["regions"]] == [each.box for each in expected.regions]
        verdicts.add(found["verdict"])
    print(f"{name}, {threads} threads: scores {off[0]:.1e}, maps {off[1]:.1e}")
    assert np.all(np.array(off) <= (CODES if "int8" in name else SAME))
    assert len(verdicts) > 1


def test_a_jpeg_has_nearly_the_same_score(page: Page, models: dict[str, Path]) -> None:
    web_page.load(page, "edge.onnx", 2)
    detector = Detector.load(models["edge"], "cpu")
    for quality in (60, 95):
        for sampling in (0, 2):
            jpeg = encoded(Image.open(io.BytesIO(images()[2])), "JPEG", quality=quality, subsampling=sampling)
            found, expected = web_page.judged(page, jpeg)[0], detector.inspect(jpeg)
            assert found["score"] == pytest.approx(expected.score, rel=JPEG)


def test_profiles_and_gamma_change_nothing(page: Page, models: dict[str, Path]) -> None:
    """Pillow ignores them, and so does the page."""
    from PIL import ImageCms, PngImagePlugin

    web_page.load(page, "edge.onnx", 2)
    image = Image.open(io.BytesIO(images()[1]))
    gamma = PngImagePlugin.PngInfo()
    gamma.add(b"gAMA", (100_000).to_bytes(4, "big"))
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    plain = web_page.judged(page, encoded(image))[0]["score"]
    assert web_page.judged(page, encoded(image, pnginfo=gamma))[0]["score"] == plain
    assert web_page.judged(page, encoded(image, icc_profile=lab))[0]["score"] == plain
    assert plain == pytest.approx(Detector.load(models["edge"], "cpu").inspect(image).score, rel=SAME)


def test_a_user_chooses_a_model_and_images(page: Page, models: dict[str, Path], tmp_path: Path) -> None:
    assert page.evaluate("document.getElementById('choose-image').disabled")
    choose(page, "#model-files", models["golden_data"], *models["golden_data"].parent.glob("golden_data.onnx*.data"))
    page.wait("document.getElementById('state').dataset.state === 'ready'")
    names = ["bad.png", "good.png", "notes.png"]
    drawn_images.defective(71)[0].save(tmp_path / names[0])
    drawn_images.good(70).save(tmp_path / names[1])
    (tmp_path / names[2]).write_text("no image")
    choose(page, "#image-files", *(tmp_path / name for name in names))
    page.wait("document.querySelectorAll('#list li').length === 3")
    assert text(page, "#word") == "Unreadable"
    assert "cannot decode" in text(page, "#hint")
    assert text(page, "#tally") == "1 good, 1 anomalous, 1 unreadable"
    page.evaluate("document.querySelectorAll('#list button')[2].click()")
    page.wait("document.getElementById('word').innerText === 'Anomalous'")
    expected = Detector.load(models["golden_data"], "cpu").inspect(tmp_path / names[0])
    assert page.evaluate("Number(document.getElementById('score').value)") == pytest.approx(expected.score, rel=SAME)
    assert page.evaluate("document.querySelectorAll('#regions tr').length") == len(expected.regions)
    assert "passed" in text(page, "#model-facts")
    drawn = "document.getElementById('picture').toDataURL()"
    heat = page.evaluate(drawn)
    page.evaluate("document.getElementById('show-plain').click()")
    assert page.evaluate(drawn) != heat


def test_contrast_and_names_are_sound_in_light_and_dark(page: Page, models: dict[str, Path], tmp_path: Path) -> None:
    drawn_images.defective(71)[0].save(tmp_path / "bad.png")
    choose(page, "#model-files", models["golden"], tmp_path / "bad.png")  # an image may come along
    page.wait("document.getElementById('word').innerText === 'Anomalous'")
    for dark in (False, True):
        for size in ((390, 844), (1280, 900)):
            page.size(*size, dark=dark)
            found = page.evaluate(f"({CONTRAST})({LEAST_CONTRAST})")
            assert found["weak"] == []
            assert found["looked_at"] > 30
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    unnamed = "[...document.querySelectorAll('button')].filter((each) => !each.innerText.trim() && !each.hidden).length"
    assert page.evaluate(unnamed) == 0


def test_everything_is_reached_by_keyboard(page: Page, models: dict[str, Path]) -> None:
    choose(page, "#model-files", models["golden"])
    page.wait("document.getElementById('state').dataset.state === 'ready'")
    reached = []
    for _ in range(8):
        page.press("Tab", 9)
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert reached[:5] == ["skip", "choose-image", "camera", "choose-model", "threads"]


def test_what_cannot_be_judged_is_said(page: Page, models: dict[str, Path], tmp_path: Path) -> None:
    flipped = golden.flipped(models["golden"].read_bytes(), 5000, 1)
    (tmp_path / "damaged.onnx").write_bytes(flipped)
    (tmp_path / "foreign.onnx").write_bytes(golden.foreign())
    (tmp_path / "text.onnx").write_text("no model")
    for name, said in (("damaged", "digest"), ("foreign", "no padim-edge metadata"), ("text", "no ONNX file")):
        choose(page, "#model-files", tmp_path / f"{name}.onnx")
        page.wait(f"document.getElementById('problem').innerText.includes({said!r})")
        assert text(page, "#state") == "no model"
    choose(page, "#model-files", models["golden_data"])
    page.wait("document.getElementById('problem').innerText.includes('Choose both files together')")
    choose(page, "#model-files", models["golden"])
    page.wait("document.getElementById('state').dataset.state === 'ready'")
    assert page.evaluate("document.getElementById('problem').hidden")
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)).save(tmp_path / "deep.png")
    choose(page, "#image-files", tmp_path / "deep.png")
    page.wait("document.getElementById('hint').innerText.includes('16 bits')")


def test_nothing_can_be_sent_elsewhere(page: Page) -> None:
    refused = "fetch('https://example.invalid/').then(() => 'sent', () => 'refused')"
    assert page.evaluate(refused) == "refused"
    assert any("Content Security Policy" in each for each in page.problems)
    page.problems.clear()


def test_a_page_that_was_opened_once_works_without_its_server(
    browser: Page, site: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    drawn_images.defective(71)[0].save(tmp_path / "bad.png")
    with web_page.served(web_page.serve.files_of([models["golden"]], site)) as (url, _):
        show(browser, f"{url}?model=models/golden.onnx")
        browser.wait("document.getElementById('state').dataset.state === 'ready'")
        browser.wait("navigator.serviceWorker.ready.then((found) => found.active?.state === 'activated')")
        show(browser, f"{url}?model=models/golden.onnx")  # so that the model passes the worker
        browser.wait("document.getElementById('state').dataset.state === 'ready'")
    browser.call("Network.clearBrowserCache")
    show(browser, f"{url}?model=models/golden.onnx")
    browser.wait("document.getElementById('state').dataset.state === 'ready'")
    assert browser.evaluate("crossOriginIsolated")
    choose(browser, "#image-files", tmp_path / "bad.png")
    browser.wait("document.getElementById('word').innerText === 'Anomalous'")
    browser.problems.clear()  # Chromium notes that the server is gone
    browser.open("about:blank")


def test_any_static_server_gives_one_thread(browser: Page, site: Path, models: dict[str, Path], tmp_path: Path) -> None:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    drawn_images.good(70).save(tmp_path / "good.png")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        show(browser, f"http://127.0.0.1:{server.server_address[1]}/")
        assert browser.evaluate("crossOriginIsolated") is False
        choose(browser, "#model-files", models["golden"])
        browser.wait("document.getElementById('state').dataset.state === 'ready'")
        choose(browser, "#image-files", tmp_path / "good.png")
        browser.wait("document.getElementById('word').innerText === 'Good'")
        assert browser.evaluate("document.getElementById('threads').options.length") == 1
    finally:
        browser.open("about:blank")
        server.shutdown()
        server.server_close()
        thread.join(10)
    assert not browser.problems


def test_the_camera_is_judged(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chromium's own moving test image stands for a camera."""
    wrapper = tmp_path / "chromium"
    flags = "--use-fake-device-for-media-stream --use-fake-ui-for-media-stream"
    wrapper.write_text(f'#!/bin/sh\nexec {chromium.PROGRAM} {flags} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setattr(chromium, "PROGRAM", str(wrapper))
    with chromium.opened(tmp_path / "profile") as page:
        show(page, f"{address}?model=models/golden.onnx")
        page.wait("document.getElementById('state').dataset.state === 'ready'")
        page.evaluate("document.getElementById('camera').click()")
        page.wait("!document.getElementById('take').hidden")
        page.evaluate("document.getElementById('take').click()")
        page.wait("document.getElementById('word').innerText === 'Not comparable'")
        assert "Camera" in text(page, "#image-name")
        page.evaluate("document.getElementById('always').click()")
        first = page.evaluate("document.getElementById('score').value")
        page.wait(f"document.getElementById('score').value !== {first!r}")
        page.evaluate("document.getElementById('camera').click()")
        page.wait("document.getElementById('take').hidden && !document.getElementById('video').srcObject")
        assert not page.problems
