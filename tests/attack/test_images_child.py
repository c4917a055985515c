"""A child that decodes for a service: the same pixels, and no death, hang or size of it reaches the parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from attack import mutated_images
from attack.bombs import BOMBS
from PIL import Image

from padim_edge_artifact import ImageError, PadimEdgeError
from padim_edge_runtime import decoding_child, image_files
from padim_edge_runtime.decoding_child import DecodingChild

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")


@pytest.fixture(scope="module")
def child() -> Iterator[DecodingChild]:
    with closing(DecodingChild()) as made:
        yield made


def process_of(child: DecodingChild) -> subprocess.Popen[bytes]:
    assert child._process is not None
    return child._process


def test_pixels_are_those_of_decoding_here(child: DecodingChild, tmp_path: Path) -> None:
    for name, content in mutated_images.originals().items():
        levels = (0.0, 1023.0)
        (path := tmp_path / name).write_bytes(content)
        for source in (path, content):
            try:
                expected = np.asarray(image_files.decode(source, levels=levels).image)
            except ImageError as error:
                with pytest.raises(ImageError) as found:
                    child.decode(source, levels=levels)
                assert str(found.value) == str(error)  # noqa: PT017  # both outcomes are right
            else:
                assert np.array_equal(child.decode(source, levels=levels), expected)


def test_one_process_serves_many_images_and_a_refusal_does_not_end_it(child: DecodingChild, tmp_path: Path) -> None:
    good = mutated_images.originals()["rgb.png"]
    child.decode(good)
    number = process_of(child).pid
    for bad in (b"", b"nothing", good[:100], tmp_path / "missing.png", tmp_path):
        with pytest.raises(ImageError):
            child.decode(bad)
    assert child.decode(good).shape == (*mutated_images.SIZE, 3)
    assert process_of(child).pid == number


def test_a_name_that_is_no_text_is_read(child: DecodingChild, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\n.png"))
    path.write_bytes(mutated_images.originals()["rgb.png"])
    assert child.decode(path).shape == (*mutated_images.SIZE, 3)


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGSEGV, marks=pytest.mark.slow)])
def test_a_death_between_images_costs_none(child: DecodingChild, how: int) -> None:
    good = mutated_images.originals()["rgb.png"]
    child.decode(good)
    before = process_of(child)
    before.send_signal(how)
    before.wait(10)
    assert child.decode(good).shape == (*mutated_images.SIZE, 3)
    assert process_of(child).pid != before.pid


@pytest.mark.slow
def test_a_death_while_decoding_costs_that_image(child: DecodingChild, monkeypatch: pytest.MonkeyPatch) -> None:
    good = mutated_images.originals()["rgb.png"]
    child.decode(good)
    send = decoding_child._send

    def dying(*arguments: object) -> None:
        process_of(child).kill()
        process_of(child).wait(10)
        send(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(decoding_child, "_send", dying)
        with pytest.raises(ImageError, match=r"the encoded image ended the process that decoded it \(exit code -9\)"):
            child.decode(good)
    assert child.decode(good).shape == (*mutated_images.SIZE, 3)


def test_an_image_that_takes_too_long_is_given_up() -> None:
    with closing(DecodingChild()) as child:
        good = mutated_images.originals()["rgb.png"]
        child.decode(good)
        os.kill(process_of(child).pid, signal.SIGSTOP)
        child._seconds = 0.3
        with pytest.raises(ImageError, match=r"took longer than 0\.3 s to decode"):
            child.decode(good)
        child._seconds = 30
        assert child.decode(good).shape == (*mutated_images.SIZE, 3)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the whole address space")
def test_the_memory_of_the_child_is_limited(tmp_path: Path) -> None:
    Image.new("RGB", (6000, 4000)).save(path := tmp_path / "large.bmp")
    good = mutated_images.originals()["rgb.png"]
    with closing(DecodingChild()) as child:
        child.decode(good)
        pages = int(Path(f"/proc/{process_of(child).pid}/statm").read_text(encoding="ascii").split()[0])
    with closing(DecodingChild(memory=pages * os.sysconf("SC_PAGESIZE") + 60_000_000)) as child:
        with pytest.raises(ImageError, match="takes more memory than this process may use"):
            child.decode(path)
        number = process_of(child).pid
        assert child.decode(good).shape == (*mutated_images.SIZE, 3)
        assert process_of(child).pid == number


def test_a_child_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for program, word in (("/bin/false", r"did not start \(exit code 1\)"), ("/nowhere", "can be started")):
        monkeypatch.setattr(sys, "executable", program)
        with closing(DecodingChild()) as child, pytest.raises(PadimEdgeError, match=word):
            child.decode(b"anything")


def test_threads_share_a_child(child: DecodingChild) -> None:
    contents = [content for name, content in mutated_images.originals().items() if name.startswith("rgb")] * 6
    expected = [np.asarray(image_files.decode(content).image) for content in contents]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(child.decode, contents))
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("answer", [b"", b"x" * 3, b"\xff" * 8, b"\2" + bytes(7) + b"[]", b"\2" + bytes(7) + b"{}"])
def test_no_answer_of_a_child_is_believed(answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile file may have taken it over."""
    program = (
        "import sys\n"
        "sys.stdout.buffer.write(bytes([15, *bytes(7)]) + b'{\"ready\": true}')\n"
        "sys.stdout.flush()\nsys.stdin.buffer.read(20)\n"
        f"sys.stdout.buffer.write({answer!r})\n"
    )
    (tmp_path / "liar").write_text(f"#!{sys.executable}\n{program}")
    (tmp_path / "liar").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "liar"))
    with closing(DecodingChild()) as child, pytest.raises(ImageError, match="ended the process that decoded it"):
        child.decode(b"anything")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["black.png", "tiles.jp2", "chunks.png", "words.pgm"])
def test_bombs_cost_one_image_at_most(name: str, child: DecodingChild) -> None:
    try:
        child.decode(BOMBS[name]())
    except ImageError as error:
        assert "\n" not in str(error)  # noqa: PT017  # both outcomes are right
    assert child.decode(mutated_images.originals()["rgb.png"]).shape == (*mutated_images.SIZE, 3)
