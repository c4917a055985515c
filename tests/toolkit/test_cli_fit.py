"""`fit`, `merge` and `export --statistics`: apart or together, in one process or several, the same statistics."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from commands import run, torchrun

from padim_edge import sample
from padim_edge.cli.export import export
from padim_edge_artifact import read_verified
from padim_edge_artifact.kept import Kept, Progress, read_kept, write_kept
from padim_edge_artifact.method import Precision
from padim_edge_model.comparable import reference_of
from padim_edge_runtime import Detector

HOW = ("--class", "weave", "--backbone", "builtin", "--size", "64", "--dims", "20", "--seed", "3")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    sample.write(sample.images("weave", size=80, train=45, test_good=2, per_defect=1), folder)
    return folder


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "weave.npz"
    run("fit", "--data", data, *HOW, "--output", path)
    return path


def halves(data: Path, folder: Path) -> tuple[Path, Path]:
    """The good images in two folders."""
    good = sorted((data / "weave" / "train" / "good").iterdir())
    for name, part in (("a", good[:20]), ("b", good[20:])):
        (folder / name).mkdir()
        for path in part:
            (folder / name / path.name).write_bytes(path.read_bytes())
    return folder / "a", folder / "b"


def away(a: Kept, b: Kept) -> float:
    """Relative difference of mean and scatter, the larger one."""
    pairs = ((a.statistics.mean, b.statistics.mean), (a.statistics.scatter, b.statistics.scatter))
    return max(float(np.linalg.norm(x - y) / np.linalg.norm(y)) for x, y in pairs)


def test_statistics_of_machines_that_never_meet_merge_to_the_whole(data: Path, whole: Path, tmp_path: Path) -> None:
    a, b = halves(data, tmp_path)
    how = HOW[2:]
    run("fit", "--data", a, *how, "--output", tmp_path / "a.npz")
    # The second machine needs neither the weights nor the options, only what the first one kept.
    run("fit", "--data", b, "--like", tmp_path / "a.npz", "--output", tmp_path / "b.npz")
    stdout, _ = run("merge", tmp_path / "a.npz", tmp_path / "b.npz", "--output", tmp_path / "c.npz", "--json")
    told = json.loads(stdout)
    assert told == {
        "statistics": str(tmp_path / "c.npz"),
        "bytes": (tmp_path / "c.npz").stat().st_size,
        "images": 45,
    }
    assert away(read_kept(tmp_path / "c.npz"), read_kept(whole)) < 1e-6
    stdout, _ = run("merge", tmp_path / "b.npz", tmp_path / "a.npz", "--output", tmp_path / "d.npz")
    assert "45 good images from 2 files" in stdout
    assert away(read_kept(tmp_path / "d.npz"), read_kept(tmp_path / "c.npz")) < 1e-12


def test_a_model_comes_from_statistics(data: Path, whole: Path, tmp_path: Path) -> None:
    run("export", "--data", data, *HOW, "--output", tmp_path / "built.onnx")
    stdout, _ = run("export", "--data", data, "--statistics", whole, "--output", tmp_path / "made.onnx", "--json")
    assert json.loads(stdout)["images"] == 45
    built, made = (read_verified(tmp_path / f"{name}.onnx") for name in ("built", "made"))
    assert built.digests.model == made.digests.model
    assert Detector.load(tmp_path / "made.onnx", "cpu").self_test().passed
    run("export", "--data", data, "--statistics", whole, "--rank", 5, "--output", tmp_path / "ranked.onnx")
    assert read_verified(tmp_path / "ranked.onnx").precision.rank == 5


# What the fit decides, and what can only come with one; each with a value.
FIXED: dict[str, tuple[object, ...]] = {
    "backbone": ("resnet18",),
    "layers": ("stage1",),
    "weights": ("auto",),
    "preset": ("edge",),
    "precision": ("fp32",),
    "target": ("cpu",),
    "reduction": ("random",),
    "dims": (20,),
    "size": (64,),
    "frame": ("80x80",),
    "levels": ("0:1023",),
    "color": ("bgr",),
    "seed": (0,),
    "prototypes": (100,),
    "turned": (),
    "improve": (1,),
    "budget": ("1GB",),
    "keep_statistics": ("kept.npz",),
}
TOO_LATE = {"exclude", "exclude_suspects"}
"""Options about the images of the fit; tests/toolkit/test_evidence.py has their refusal."""
APPLY = {
    "class_name",
    "data",
    "every",
    "group",
    "perturb",
    "statistics",
    "rank",
    "diagonal",
    "memory_share",
    "fast",
    "false_alarm_rate",
    "roi",
    "output",
    "suspects",
    "trtexec",
    "triton",
    "device",
    "as_json",
}


def test_every_option_of_export_applies_to_statistics_or_is_refused() -> None:
    options = inspect.signature(export).parameters.keys() - {"context"}
    assert options == FIXED.keys() | APPLY | TOO_LATE
    assert not FIXED.keys() & APPLY


@pytest.mark.parametrize("name", FIXED)
def test_statistics_refuse_what_the_fit_decides_by_name(
    data: Path, whole: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the value is the default, or what the statistics have anyway."""
    monkeypatch.chdir(tmp_path)
    option = f"--{name.replace('_', '-')}"
    _, stderr = run("export", "--data", data, "--statistics", whole, option, *FIXED[name], code=1)
    assert f"--statistics fixes {option}; leave that out, or fit again" in stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", [each for each in FIXED if each not in ("budget", "improve", "keep_statistics")])
def test_a_fit_like_another_refuses_what_that_decides_by_name(
    data: Path, whole: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, stderr = run("fit", "--data", data, "--like", whole, f"--{name}", *FIXED[name], code=1)
    assert f"--like fixes --{name}; leave that out, or fit again" in stderr
    assert not any(tmp_path.iterdir())


def test_statistics_take_what_a_model_leaves_open(data: Path, whole: Path, tmp_path: Path) -> None:
    """Rank, rate, trtexec, and a seed where it is that of --perturb; the variances alone in another model."""
    common = ("export", "--data", data, "--statistics", whole, "--output", tmp_path / "m.onnx")
    stdout, stderr = run(*common, "--rank", 5, "--false-alarm-rate", 0.1, "--trtexec", 4)
    about = read_verified(tmp_path / "m.onnx")
    assert (about.precision, about.false_alarm_rate) == (Precision(rank=5), 0.1)
    assert [line.split()[0] for line in stdout.splitlines() if "trtexec" in line] == ["trtexec", "trtexec"]
    assert "image:4x64x64x3" in stdout
    assert "--rank makes thresholds come out low" in stderr
    told = json.loads(run(*common, "--diagonal", "--trtexec", 4, "--json")[0])
    assert read_verified(tmp_path / "m.onnx").precision == Precision(diagonal=True)
    assert told["trtexec"].keys() == {"10", "11"}
    assert all(line in stdout for line in told["trtexec"].values())
    _, stderr = run(*common, "--perturb", "crop", "--seed", 3, code=1)
    assert "at random, seed 3" in stderr
    assert "were not fitted on" in stderr, "turned and cropped, they are other images"


def test_fit_says_what_it_wrote_and_leaves_no_checkpoint(data: Path, tmp_path: Path) -> None:
    stdout, _ = run("fit", "--data", data, *HOW, "--output", tmp_path / "s.npz", "--json")
    told = json.loads(stdout)
    assert told.keys() == {"statistics", "bytes", "images", "ranks", "seconds"}
    assert (told["images"], told["ranks"]) == (45, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["s.npz"]


def test_principal_components_are_fitted_and_shipped(data: Path, tmp_path: Path) -> None:
    run("export", "--data", data, *HOW, "--reduction", "pca", "--output", tmp_path / "m.onnx")
    assert read_verified(tmp_path / "m.onnx").method.reduction == "pca"
    assert Detector.load(tmp_path / "m.onnx", "cpu").self_test().passed


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("fit",), "neither --class nor --data"),
        (("fit", "--class", "bottle", "--output", "no/where.npz"), "does not exist; make it"),
        (
            ("fit", "--class", "bottle", "--like", "missing.npz"),
            "does not exist; expected the .npz that padim-edge kept",
        ),
        (("fit", "--class", "bottle", "--reduction", "lda"), "there is no reduction 'lda'"),
        (("merge", "a.npz", "--output", "b.npz"), "there is 1 file to merge"),
        (("merge", "a.npz", "./a.npz", "--output", "b.npz"), "named twice"),
        (("merge", "a.npz", "missing.npz", "--output", "b.npz"), "missing.npz does not exist"),
        (("merge", "a.npz", "copy.npz", "--output", "b.npz"), "holds the same images as"),
        (("merge", "a.npz", "half.npz", "--output", "b.npz"), "unfinished fit; finish it with --resume"),
        (("export", "--class", "all", "--statistics", "a.npz"), "takes one class at a time"),
    ],
)
def test_bad_options_are_one_sentence(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[object, ...], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.npz", "copy.npz"):
        (tmp_path / name).write_bytes(whole.read_bytes())
    if "half.npz" in command:
        found = read_kept(whole)
        half = Kept(found.recipe, found.graph, found.statistics, found.seen, progress=Progress(3, "x"))
        write_kept(tmp_path / "half.npz", half)
    _, stderr = run(*command, code=1)
    assert sentence in stderr
    assert not (tmp_path / "b.npz").exists()


@pytest.mark.slow
def test_two_ranks_give_what_one_process_gives(data: Path, whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "two.npz"
    asked = torchrun("--data", data, *HOW, "--output", path, "--json")
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["images"], told["ranks"]) == (45, 2)
    two, one = read_kept(path), read_kept(whole)
    assert two.same == one.same
    assert away(two, one) < 1e-6
    assert reference_of(two.seen) == reference_of(one.seen)
    assert [each.name for each in tmp_path.iterdir()] == ["two.npz"]


def test_resume_without_an_interrupted_fit_says_so(data: Path, whole: Path, tmp_path: Path) -> None:
    command = ("fit", "--data", data, *HOW, "--output", tmp_path / "a.npz")
    _, stderr = run(*command, "--resume")
    assert f"--resume found no interrupted fit of {tmp_path / 'a.npz'}, so this one begins anew" in stderr
    assert away(read_kept(tmp_path / "a.npz"), read_kept(whole)) == 0
    _, stderr = run(*command)
    assert "--resume" not in stderr


@pytest.mark.slow
def test_a_killed_rank_is_told_and_leaves_no_file_and_resume_goes_on(data: Path, whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "two.npz"
    asked = torchrun("--data", data, *HOW, "--output", path)
    # The second rank is stopped at its first image, as by a machine that fails.
    patient = {**os.environ, "PADIM_EDGE_TEST_STALL": "1", "PYTHONPATH": str(_stalling(tmp_path))}
    with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=patient) as process:
        victim = _wait_for(tmp_path / "stalled")
        os.kill(victim, signal.SIGKILL)
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode != 0
    assert stdout == ""
    told = [line for line in stderr.splitlines() if line.startswith("padim-edge: ")]
    assert any("another rank has" in line and "no file was written" in line for line in told), stderr
    assert not path.exists()
    assert not [each for each in tmp_path.iterdir() if each.name.endswith(".tmp")]
    done = subprocess.run([*asked, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert away(read_kept(path), read_kept(whole)) < 1e-6


def _stalling(folder: Path) -> Path:
    """A folder for PYTHONPATH in which the second rank waits at its first image, and says who it is."""
    (place := folder / "site").mkdir()
    (place / "sitecustomize.py").write_text(
        f"""
import os, time
if os.environ.get("RANK") == "1" and os.environ.get("PADIM_EDGE_TEST_STALL"):
    from padim_edge_runtime import image_files
    def stall(*_):
        with open({str(folder / "stalled.tmp")!r}, "w") as file:
            file.write(str(os.getpid()))
        os.replace({str(folder / "stalled.tmp")!r}, {str(folder / "stalled")!r})
        time.sleep(600)
    image_files.prepare = stall
"""
    )
    return place


def _wait_for(path: Path) -> int:
    deadline = time.monotonic() + 120
    while not path.is_file():
        assert time.monotonic() < deadline, "the second rank never came to its first image"
        time.sleep(0.1)
    return int(path.read_text())
