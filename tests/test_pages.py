"""The pages under runtime/install: commands that exist, nothing that the doctor says otherwise, and links to them."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer.main

from padim_edge_runtime.cli import app
from padim_edge_runtime.doctor import graphics, jetson

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "runtime" / "install").glob("*.md"))
NAMES = {"industrial-pc.md", "jetson.md", "offline.md", "raspberry-pi.md"}


def page(name: str) -> str:
    return (ROOT / "runtime" / "install" / name).read_text(encoding="utf-8")


def calls(text: str) -> list[list[str]]:
    """The words of each `padim-edge ...` in the shell blocks of a page."""
    found = []
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")  # a comment begins with #
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if set(word) <= set("&|;"):
                    found += [words] if words[:1] == ["padim-edge"] else []
                    words = []
                else:
                    words.append(word)
    return found


def wrong(words: list[str]) -> str | None:
    """What of `padim-edge COMMAND --option ...` does not exist."""
    group = typer.main.get_command(app)
    context = group.make_context("padim-edge", [], resilient_parsing=True)
    command = group.get_command(context, words[1]) if len(words) > 1 else None  # type: ignore[attr-defined]
    if command is None:
        return f"no command {words[1:2]}"
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {"--help", "-h"}
    options = {word.partition("=")[0] for word in words[2:] if word.startswith("-")}
    return f"no options {sorted(options - known)} of {words[1]}" if options - known else None


def test_there_are_four_pages_and_both_readmes_name_them() -> None:
    assert {each.name for each in PAGES} == NAMES
    for readme, prefix in (("README.md", "runtime/install/"), ("runtime/README.md", "install/")):
        text = (ROOT / readme).read_text(encoding="utf-8")
        for name in NAMES:
            assert f"]({prefix}{name})" in text, (readme, name)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_commands_and_options_exist(path: Path) -> None:
    found = calls(path.read_text(encoding="utf-8"))
    assert ["padim-edge", "doctor"] in found
    for words in found:
        assert wrong(words) is None, words


def test_what_does_not_exist_would_be_found() -> None:
    lines = (
        "export X=1 && padim-edge infer a.onnx b/ --jsn  # no such",
        ". a; padim-edge judge x",
        "padim-edge doctor",
    )
    first, second, third = calls("\n".join(("```sh", *lines, "```")))
    assert wrong(first) == "no options ['--jsn'] of infer"
    assert wrong(second) == "no command ['judge']"
    assert wrong(third) is None


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_says_what_to_expect_what_goes_wrong_and_what_was_tried(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "models run on" in text
    assert "## What goes wrong most often" in text
    assert "## What was tried" in text
    assert not re.search(r"https?://", text), "indices are named in words"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_wheel_has_its_version(path: Path) -> None:
    version = tomllib.loads((ROOT / "runtime" / "pyproject.toml").read_text())["project"]["version"]
    assert set(re.findall(r"padim_edge_runtime-([\d.]+)-py3", path.read_text(encoding="utf-8"))) == {version}


def test_the_doctor_sends_jetsons_where_the_page_does() -> None:
    text = page("jetson.md")
    for model, jetpack, architecture in (("Orin", "6", None), ("Orin", "7", "87"), ("Thor", "7", "110")):
        source = jetson.Jetson(model, "", jetpack).source
        for path in re.findall(r"path ([\w/]+)", source):
            assert f"`{path}`" in text
        if architecture:
            assert f"CMAKE_CUDA_ARCHITECTURES={architecture}" in source
            assert re.search(rf"=87`.*`{architecture}`|ARCHITECTURES={architecture}`", text)
    for capability in graphics._KERNELS["1.31", "aarch64"]:
        assert capability in text


def test_the_doctors_drivers_are_those_of_the_page() -> None:
    text = page("industrial-pc.md")
    for cuda, driver in graphics._OLDEST_DRIVERS.items():
        assert re.search(rf"{driver} or newer for CUDA {cuda}|{driver} for CUDA {cuda}", text)


@pytest.mark.parametrize(
    ("name", "lacking", "board"),
    [
        ("industrial-pc.md", ["libcuda.so.1"], None),
        ("industrial-pc.md", ["libcublasLt.so.13"], None),
        ("industrial-pc.md", ["libnvinfer.so.10"], None),
        ("jetson.md", ["libcublasLt.so.12"], jetson.Jetson("Orin", "36.4.3", "6")),
    ],
)
def test_cures_stand_on_the_pages(name: str, lacking: list[str], board: jetson.Jetson | None) -> None:
    cuda = 13 if board is None else 12
    (cure,) = graphics._cures(lacking, cuda, board, None, ("onnxruntime-gpu",))
    text = page(name)
    # With another program before it, or --python behind it, where the environment's pip is not the shell's.
    telling = re.findall(
        r'install "[^"]+"|--gpus all|--runtime nvidia|sudo apt install nvidia-jetpack|580 or newer', cure
    )
    assert telling
    for words in telling:
        assert words in text
