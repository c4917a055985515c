"""The documentation tells the truth: its commands, code, links and tables are run or compared with the product."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import golden
import pages
import pytest
from commands import run
from PIL import Image
from typer.testing import CliRunner

import padim_edge
from padim_edge import sample
from padim_edge_artifact.combination import Combination
from padim_edge_artifact.metadata import Metadata, PastThreshold
from padim_edge_artifact.method import Bank, Method, Precision
from padim_edge_artifact.names import FORMAT_VERSION
from padim_edge_artifact.reference import Reference
from padim_edge_runtime.cli import app

PAGES = pages.markdown()
WITH_MODELS = ("README.md", "docs/getting-started.md", "docs/python.md", "runtime/README.md")
"""Pages whose Python blocks make models."""
EXAMPLES = sorted((pages.ROOT / "examples").glob("*.py"))
LONGEST_README = 130
"""Lines."""

FOLDERS = ("padim_edge", "export", "runtime", "tests", "benchmarks", "tools", "examples")
"""Folders with code."""

FOREIGN = {
    *("--gpus", "--runtime"),  # docker
    *("--no-deps", "--only-binary", "--python-version", "--no-index", "--find-links"),  # pip
    *("--offline", "--package"),  # uv
}
"""Options of other programs that pages name in their text."""

SMALL = 'padim_edge.preset("edge", backbone="builtin", dims=10, size=64)'
"""Put for `preset="edge"`, whose ResNet-18 is large and would be downloaded."""

EXECUTED = ("README", "getting-started", "thresholds", "command-line", "data", "presets", "scale")
"""Pages whose commands are run; those about other machines are only looked at."""

REFUSED_HERE = {"warm"}
"""Commands that need a device which is not there: they must end in a sentence."""


def key(path: Path) -> str:
    return path.relative_to(pages.ROOT).as_posix()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders and models that the pages speak of, small."""
    folder = tmp_path_factory.mktemp("made")
    sample.write(sample.images("bottle", size=96, train=32, test_good=4, per_defect=1), folder / "mvtec_ad")
    good = sorted((folder / "mvtec_ad" / "bottle" / "train" / "good").glob("*.png"))
    (folder / "held_out_good").mkdir()
    good, held_out = good[:28], [path.rename(folder / "held_out_good" / path.name) for path in good[28:]]
    test = sorted((folder / "mvtec_ad" / "bottle" / "test").rglob("*.png"))
    shutil.copytree(folder / "mvtec_ad" / "bottle", folder / "bracket_data")
    for name, paths in {
        "good_images": good[:24],
        "frames": good[:14],
        "more_frames": good[14:],
        "more_good_images": held_out,
        "new_good_images": held_out,
        "new_images": test,
        "images": test,
    }.items():
        (folder / name).mkdir()
        for index, path in enumerate(paths):
            shutil.copyfile(path, folder / name / f"{index:03d}.png")
    shutil.copyfile(good[0], folder / "part.png")
    lines = ["path,label,lot"]
    for index, path in enumerate(good):
        copy = folder / "good" / f"part {index // 2}" / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        lines.append(f"{copy.relative_to(folder).as_posix()},good,{index // 4}")
    (folder / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    (folder / "odd.txt").write_text("003.png\n", encoding="utf-8")
    for name, path in zip("ab", test, strict=False):
        shutil.copyfile(path, folder / "new_images" / f"{name}.png")
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that is the working folder."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Links, lengths, tables


@pytest.mark.parametrize("page", PAGES, ids=key)
def test_links_lead_somewhere(page: Path) -> None:
    for link in pages.links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in headings(target), link


def headings(page: Path) -> set[str]:
    """The anchors that MkDocs and GitHub give to the headings of a page."""
    text = re.sub(r"^```.*?^```", "", pages.text_of(page), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", each).strip().lower()) for each in found}


def test_the_readme_is_short_and_names_every_page() -> None:
    text = pages.text_of(pages.README)
    assert len(text.splitlines()) <= LONGEST_README
    for page in pages.DOCS.rglob("*.md"):
        if page != pages.DOCS / "index.md":
            assert f"]({key(page)})" in text, page.name


def test_every_page_is_in_the_contents() -> None:
    contents = (pages.ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r"[\w/-]+\.md", contents))
    assert listed == {page.relative_to(pages.DOCS).as_posix() for page in pages.DOCS.rglob("*.md")}


@pytest.mark.parametrize("page", PAGES, ids=key)
def test_pages_say_image(page: Path) -> None:
    text = pages.text_of(page)
    if page.name == "CHANGELOG.md":
        text = text.replace("`pictures`", "")  # what the keys were called
    assert not re.search(r"\bpicture", text, re.IGNORECASE)


def test_the_format_page_names_every_field() -> None:
    text = pages.text_of(pages.DOCS / "file-format.md")
    assert f"# File format, version {FORMAT_VERSION}\n" in text
    tables = re.findall(r"^\| field \|.*?\n\n", text, re.DOTALL | re.MULTILINE)
    named = [re.findall(r"^\| `(\w+)`", table, re.MULTILINE) for table in tables]
    for kind, names in zip((Metadata, Method, Bank, Combination, Reference, PastThreshold), named, strict=True):
        assert sorted(names) == sorted(field.name for field in dataclasses.fields(kind))
    for field in dataclasses.fields(Precision):
        assert f"`{field.name}`" in text


def test_the_threshold_can_be_found_without_parsing_json() -> None:
    """The program for Node reads it so, and the format page promises it."""
    assert golden.WHOLE.read_bytes().count(b'"threshold":') == 1


@pytest.mark.parametrize("page", PAGES, ids=key)
def test_files_of_the_repository_that_a_page_names_exist(page: Path) -> None:
    """A page names `folder/file.py` from the root or from a package's folder, or a bare name."""
    for name in re.findall(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|cpp|toml|yml))`", pages.text_of(page)):
        roots = [pages.ROOT / folder for folder in (*FOLDERS, "runtime/padim_edge_runtime", "")]
        assert any((root / name).is_file() for root in roots) or ("/" not in name and somewhere(name)), name


def somewhere(name: str) -> bool:
    return any(next((pages.ROOT / folder).rglob(name), None) for folder in FOLDERS)


def test_mkdocs_builds_the_pages(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=pages.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "deployment" / "cpp.html").read_text(encoding="utf-8")
    assert "CMAKE" in page.upper(), "the README of the C++ program is shown"
    hosts = re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"https?://", page)
    assert not hosts, "the pages open without a network"


# Commands


@pytest.mark.parametrize("page", PAGES, ids=key)
def test_commands_and_their_options_exist(page: Path) -> None:
    for words in pages.calls(pages.text_of(page)):
        assert pages.wrong(words) is None, words


@pytest.mark.parametrize("page", PAGES, ids=key)
def test_options_named_in_the_text_exist(page: Path) -> None:
    known = set().union(*pages.options_of().values()) | FOREIGN
    words = re.sub(r"^ *```.*?^ *```", "", pages.text_of(page), flags=re.DOTALL | re.MULTILINE)
    for span in re.findall(r"`([^`\n]+)`", words):
        if span.split()[0] in ("pip", "uv", "mkdocs", "pytest", "python", "docker", "uv run"):
            continue
        found = {word.partition("=")[0] for word in re.findall(r"(?<![\w-])--[a-z][\w-]*", span)}
        assert found <= known, span


def test_what_does_not_exist_would_be_found() -> None:
    lines = (
        "export X=1 && padim-edge infer a.onnx b/ --jsn  # no such",
        ". a; uv run padim-edge judge x",
        "torchrun --nproc-per-node 2 -m padim_edge doctor",
    )
    first, second, third = pages.calls("\n".join(("```sh", *lines, "```")))
    assert pages.wrong(first) == "no options ['--jsn'] of infer"
    assert pages.wrong(second) == "no command ['judge']"
    assert pages.wrong(third) is None


def test_every_command_is_explained() -> None:
    text = pages.text_of(pages.DOCS / "command-line.md")
    for name in pages.options_of():
        if name:
            assert f"\n### {name}\n" in text, name
            assert re.search(rf"^padim-edge {name}\b", text, re.MULTILINE), name


def try_and_test(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n```sh\n(.*?)\n```", pages.text_of(pages.README), re.DOTALL)
    assert found, name
    return found[1]


def test_the_readmes_commands_need_nothing_but_python_pip_and_git() -> None:
    for name in ("try", "test"):
        assert try_and_test(name).startswith("pip install uv && uv run "), name


@pytest.mark.slow  # .ci/run gives the very command, too
def test_the_readmes_first_command_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each `uv run padim-edge ...` of it, without installing uv."""
    monkeypatch.chdir(tmp_path)
    output = ""
    for step in try_and_test("try").split(" && ")[1:]:
        words = shlex.split(step)
        assert words[:3] == ["uv", "run", "padim-edge"]
        result = CliRunner().invoke(app, words[3:])
        assert result.exit_code == 0, result.output
        output += result.stdout
    decisions = dict(re.findall(r"^(?:\w+) +score.*sample/bottle/test/(\w+)/(\d+)\.png$", output, re.MULTILINE))
    assert decisions.keys() == {"good", "chip"}
    chips = [line for line in output.splitlines() if "/chip/" in line]
    goods = [line for line in output.splitlines() if "/test/good/" in line]
    assert any(line.startswith("ANOMALOUS") for line in chips)
    assert sum(line.startswith("ANOMALOUS") for line in goods) <= 1
    assert (tmp_path / "heatmaps" / "chip" / "000.png").stat().st_size > 10_000


ELSEWHERE = {
    *("run", "watch", "serve", "log", "propose", "promote", "rollback"),  # tests/line
    *("import", "package", "card", "bundle", "unbundle"),
}
"""Commands that run for months, or need files of other programs and models; tests of their own run them."""


def smaller(words: list[str]) -> list[str]:
    """The same command with a small method and no download."""
    name, given = words[1], {word.partition("=")[0] for word in words}
    if name not in ("export", "fit") or given & {"--statistics", "--like"}:
        return words[1:]
    added = [] if "--backbone" in given else ["--backbone", "builtin"]
    added += [] if "--dims" in given else ["--dims", "10"]
    return [*words[1:], *added, *([] if "--size" in given else ["--size", "64"])]


def needs_what_is_not_here(words: list[str]) -> bool:
    """Another device, weights to download, an extra that is not installed, or no command at all."""
    return (
        words[1].startswith("-")
        or words[1] in ELSEWHERE
        or ">" in words  # the shell's
        or "cuda" in words
        or "densenet121" in words
        or ("recordings/" in words and importlib.util.find_spec("av") is None)
    )


@pytest.fixture(scope="module")
def with_models(made: Path) -> Path:
    """The same folder with models and statistics in it."""
    small = ("--data", made / "mvtec_ad", "--class", "bottle", "--backbone", "builtin", "--dims", 10, "--size", 64)
    run("export", *small, "--output", made / "bottle.onnx", "--keep-statistics", made / "bottle.npz")
    run("export", *small, "--output", made / "small.onnx", "--rank", 4)
    run("fit", "--data", made / "frames", *small[4:], "--output", made / "a.npz")
    run("fit", "--data", made / "more_frames", "--like", made / "a.npz", "--output", made / "b.npz")
    shutil.copyfile(made / "bottle.onnx", made / "bracket.onnx")
    mask = Image.new("L", (96, 96))
    mask.paste(255, (16, 16, 80, 80))
    mask.save(made / "mask.png")
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", EXECUTED)
def test_the_commands_of_a_page_run(
    with_models: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(with_models, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    if name == "data" and importlib.util.find_spec("av") is not None:
        import videos

        Path("recordings").mkdir()
        for video in ("day", "night"):
            videos.write(Path(f"recordings/{video}.mp4"), count=20)
    page = pages.README if name == "README" else pages.DOCS / f"{name}.md"
    calls = [words for words in pages.calls(pages.text_of(page)) if not needs_what_is_not_here(words)]
    assert calls
    for words in calls:
        run(*smaller(words), code=1 if words[1] in REFUSED_HERE else 0)


# Code


def code_of(page: Path) -> str:
    code = "\n".join(pages.blocks(pages.text_of(page), "python"))
    assert code, page
    return code.replace('preset="edge"', SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_MODELS)
def test_python_blocks_run(here: Path, page: str) -> None:
    """All blocks of a page, one behind the other, as a reader would type them."""
    names: dict[str, object] = {"__name__": "page"}
    if page == "runtime/README.md":
        method = padim_edge.preset("edge", backbone="builtin", dims=10, size=64)
        padim_edge.fit("good_images", method).export("bottle.onnx")
        shutil.copyfile("new_images/a.png", "image.png")
    exec(compile(code_of(pages.ROOT / page), page, "exec"), names)
    assert (here / ("bracket.onnx" if "getting-started" in page else "bottle.onnx")).is_file()


def test_the_python_of_planted_defects_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = pages.DOCS / "planted-defects.md"
    exec(compile(code_of(page), str(page.name), "exec"), {"__name__": "page"})
    assert len(capsys.readouterr().out.splitlines()) > 4


def test_every_python_block_is_run_somewhere() -> None:
    with_code = {key(page) for page in PAGES if pages.blocks(pages.text_of(page), "python")}
    assert with_code == {*WITH_MODELS, "docs/planted-defects.md", "docs/import.md"}  # tests/toolkit/test_import runs it


def test_the_python_of_the_readme_is_six_lines() -> None:
    (block,) = pages.blocks(pages.text_of(pages.README), "python")
    assert len([line for line in block.splitlines() if line.strip()]) <= 6


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short_and_say_how_they_are_called(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 40
    assert f"python examples/{path.name}" in text


@pytest.mark.slow
def test_examples_run(made: Path, tmp_path: Path) -> None:
    """Run each as a user does, in this order, in the folder given and without one."""
    assert [path.stem for path in EXAMPLES] == ["evaluate_report", "fit_and_export", "inspect_folder"]

    def example(name: str, *arguments: object) -> str:
        command = [sys.executable, pages.ROOT / "examples" / name, *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    assert "120 good images" in example("fit_and_export.py", "out")
    model = tmp_path / "out" / "bottle.onnx"
    assert model.is_file()
    assert "bottle" in example("evaluate_report.py", model, "out")
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    defective = made / "mvtec_ad" / "bottle" / "test" / "chip"
    said = example("inspect_folder.py", model, defective, "overlays")
    assert said.startswith("anomalous")
    assert list((tmp_path / "overlays").glob("*.png"))
    assert re.search(r"overlays in \S+padim-edge-", example("inspect_folder.py", model, defective))


def test_the_device_example_needs_no_toolkit() -> None:
    text = (pages.ROOT / "examples" / "inspect_folder.py").read_text(encoding="utf-8")
    imported = set(re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE))
    assert imported == {"__future__", "sys", "tempfile", "pathlib", "padim_edge_runtime"}
