"""From marks to a proposal: it learns what persons called good, and tells what is known on images it has not seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import run
from learning_line import FITTED, dimmed, exported, line_config, recorded, spotted
from small_models import weave

from padim_edge_artifact import PadimEdgeError, read_verified
from padim_edge_artifact.kept import read_kept
from padim_edge_line.learning.current import product_of
from padim_edge_line.learning.material import material_of
from padim_edge_line.learning.proposal import Proposal
from padim_edge_line.learning.propose import propose
from padim_edge_line.record import Reader

ALARMS, DEFECTS = 18, 4

pytestmark = pytest.mark.slow  # a model is exported


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def marked(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A line under a lamp that was dimmed: false alarms, defects, one of each mark besides."""
    config = line_config(tmp_path_factory.mktemp("marked"), model)
    new = weave(FITTED + ALARMS + DEFECTS + 4)[FITTED:]
    images = {f"dim {i}": dimmed(image) for i, image in enumerate(new[:ALARMS])}
    images |= {f"bad {i}": spotted(image) for i, image in enumerate(new[ALARMS : ALARMS + DEFECTS])}
    images |= {f"good {i}": image for i, image in enumerate(new[ALARMS + DEFECTS :])}
    images |= {"fitted": dimmed(weave(1)[0]), "twice": dimmed(new[0]), "odd": new[-1]}
    marks = {name: "false alarm" for name in images if name.startswith(("dim", "fitted", "twice", "odd"))}
    marks |= {name: "right" for name in images if name.startswith("bad")}
    marks |= {"good 0": "right", "good 1": "missed"}
    rows = recorded(config, images, marks)
    assert all(row.verdict != "good" for row in rows[:ALARMS])
    return config


@pytest.fixture(scope="module")
def proposal(marked: Any) -> Proposal:
    return propose(marked, product_of(marked, None))


def test_images_are_sorted_by_verdict_and_mark(marked: Any) -> None:
    reader = Reader(marked.folder)
    found = material_of(reader, "part")
    assert (len(found.false_alarms), len(found.confirmed_alarms)) == (ALARMS + 2, DEFECTS)
    assert [len(each) for each in (found.confirmed_good, found.missed, found.samples)] == [1, 1, 2]
    assert (found.gone, found.odd) == (0, 1)
    for each in found.all:
        assert each.path.is_file()
    reader.close()


def test_false_alarms_fall_on_images_that_were_not_learned_from(proposal: Proposal) -> None:
    held = proposal.held_out
    assert (held.folds, held.false_alarms_before) == (3, held.false_alarms)
    assert held.fall is not None
    assert held.fall >= 0.5
    assert proposal.before.defects_passed == proposal.after.defects_passed == 0
    assert proposal.after.verdicts["good"] > proposal.before.verdicts["good"]


def test_defects_and_repeats_are_never_learned_from(proposal: Proposal, model: Path) -> None:
    assert proposal.learned_marked == ALARMS + 2  # with the confirmed good one and the dimmed fitted one
    assert proposal.learned_samples == 2
    assert [reason for _, reason in proposal.set_aside] == ["repeated"]
    metadata = read_verified(proposal.path)
    assert metadata.images == FITTED + proposal.learned_marked + proposal.learned_samples
    assert metadata.parent == read_verified(model).digests.model
    assert read_kept(proposal.path.with_suffix(".npz")).statistics.digest() == metadata.statistics
    marks = {mark for _, mark, _, _ in proposal.scores}
    assert marks == {"false alarm", "right", "missed"}


def test_the_proposal_stands_beside_the_model_as_a_whole(proposal: Proposal, marked: Any, model: Path) -> None:
    folder = marked.folder / "proposals"
    assert proposal.folder == folder / "part-r2"
    assert [path.name for path in folder.iterdir()] == ["part-r2"]
    report = json.loads((proposal.folder / "report.json").read_text())
    assert report == json.loads(json.dumps(proposal.to_json()))
    assert str(marked.folder) not in json.dumps(report)
    text = (proposal.folder / "report.txt").read_text()
    assert text.startswith("part: learned from")
    assert "still lets 1 of 1 missed defects pass" in text
    assert sorted(path.name for path in model.parent.iterdir()) == ["part.npz", "part.onnx", *_data(model)]


def _data(model: Path) -> list[str]:
    return [path.name for path in model.parent.glob("part.onnx.*")]


def test_the_command_prints_old_against_new(marked: Any, model: Path, tmp_path: Path) -> None:
    line = tmp_path / "line.toml"
    line.write_text(f'folder = "{marked.folder}"\n[products.part]\nmodel = "{model}"\n[server]\n')
    stdout, _ = run("propose", line, "part")
    assert "false alarms, of 20 marked and held out" in stdout
    assert "next: padim-edge promote" in stdout
    stdout, _ = run("propose", line, "--json", "--false-alarm-rate", 0.05)
    assert json.loads(stdout)["after"]["revision"] == 2
    _, stderr = run("propose", line, "other", code=1)
    assert "there is no product 'other', expected one of part" in stderr


def test_without_marks_it_says_what_to_do(model: Path, tmp_path: Path) -> None:
    config = line_config(tmp_path, model)
    with pytest.raises(PadimEdgeError, match="expected the folder of a line that has run"):
        propose(config, config.products[0])
    recorded(config, {"bad": spotted(weave(FITTED + 1)[-1])}, {"bad": "right"})
    with pytest.raises(PadimEdgeError, match="mark some on the page"):
        propose(config, config.products[0])


def test_few_marks_make_a_proposal_that_says_so(model: Path, tmp_path: Path) -> None:
    config = line_config(tmp_path, model)
    recorded(config, {"dim": dimmed(weave(FITTED + 1)[-1])}, {"dim": "false alarm"})
    found = propose(config, config.products[0])
    assert found.held_out.folds == 0
    assert found.held_out.fall is None
    assert any("too few different marked images" in warning for warning in found.warnings)
    assert any("nothing is known about defects" in warning for warning in found.warnings)
