"""Promoting a proposal and going back, with a line that runs and without one."""

from __future__ import annotations

import asyncio
import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run
from learning_line import FITTED, dimmed, exported, line_config, recorded
from lines import running
from small_models import weave

from padim_edge_artifact import ArtifactError, PadimEdgeError, read_metadata
from padim_edge_artifact.files import reserved
from padim_edge_line.arrival import Arrival
from padim_edge_line.learning.current import current_of
from padim_edge_line.learning.promote import Promoted, promote, rollback
from padim_edge_line.learning.propose import propose
from padim_edge_line.record import Reader, tables

NEW = weave(FITTED + 8)[FITTED:]


@pytest.fixture(scope="module")
def proposed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a line and a proposal, to be copied."""
    folder = tmp_path_factory.mktemp("proposed")
    config = line_config(folder, exported(folder))
    recorded(
        config,
        {f"dim {i}": dimmed(image) for i, image in enumerate(NEW)},
        {f"dim {i}": "false alarm" for i in range(7)},
    )
    propose(config, config.products[0])
    return folder


@pytest.fixture
def config(proposed: Path, tmp_path: Path) -> Any:
    shutil.copytree(proposed, tmp_path / "copy")
    return line_config(tmp_path / "copy", tmp_path / "copy" / "part.onnx")


def revision(config: Any) -> int:
    reader = Reader(config.folder)
    found = read_metadata(current_of(config, config.products[0], reader).model).revision
    reader.close()
    return found


def test_without_a_running_line_the_next_start_begins_with_it(config: Any) -> None:
    (product,) = config.products
    found = promote(config, product)
    assert (found.revision, found.before, found.running) == (2, 1, False)
    assert str(found) == "part: revision 2, revision 1 before; the line begins with it at its next start"
    assert revision(config) == 2
    (row,) = recorded(config, {"next": dimmed(NEW[0])}, {})
    assert row.revision == 2
    found = rollback(config, product)
    assert (found.revision, found.before, revision(config)) == (1, 2, 1)
    with pytest.raises(PadimEdgeError, match="there is none to go back to"):
        rollback(config, product)


def test_each_proposal_learns_on_from_the_one_before_and_rollback_goes_back_step_by_step(config: Any) -> None:
    (product,) = config.products
    promote(config, product)
    recorded(config, {"plain": NEW[3]}, {"plain": "right"})
    second = propose(config, product)
    assert (second.before.revision, second.after.revision, second.folder.name) == (2, 3, "part-r3")
    assert promote(config, product).revision == 3
    assert [rollback(config, product).revision for _ in range(2)] == [2, 1]
    again = propose(config, product)
    assert again.folder.name == "part-r2"
    with pytest.raises(PadimEdgeError, match="made from another model than the present one"):
        promote(config, product, "part-r3")


def test_a_proposal_in_use_is_not_overwritten(config: Any) -> None:
    (product,) = config.products
    promote(config, product)
    before = (config.folder / "proposals" / "part-r2" / "part.onnx").read_bytes()
    recorded(config, {"plain": NEW[3]}, {"plain": "right"})
    propose(config, product)
    assert (config.folder / "proposals" / "part-r2" / "part.onnx").read_bytes() == before


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["part.onnx", "part.npz"])
def test_a_damaged_proposal_changes_nothing(config: Any, name: str) -> None:
    damaged(config.folder / "proposals" / "part-r2" / name)
    with pytest.raises(ArtifactError):
        promote(config, config.products[0])
    assert revision(config) == 1


def test_a_proposal_is_found_by_name_only_for_its_product(config: Any) -> None:
    with pytest.raises(PadimEdgeError, match=r"no proposal 'part-r9' for part .*, expected one of: part-r2"):
        promote(config, config.products[0], "part-r9")
    report = config.folder / "proposals" / "part-r2" / "report.json"
    content = json.loads(report.read_text())
    report.write_text(json.dumps({**content, "product": "other"}))
    with pytest.raises(PadimEdgeError, match="make one with padim-edge propose"):
        promote(config, config.products[0])
    report.write_text(json.dumps({**content, "model": "../../part.onnx"}))
    with pytest.raises(ArtifactError, match="was changed"):
        promote(config, config.products[0])


def test_a_running_line_swaps_without_a_gap(config: Any) -> None:
    """Images are judged all the time; each by the old model or by the new one, and none fails."""
    (product,) = config.products

    async def inside() -> tuple[Promoted, Promoted, list[int], list[str]]:
        with reserved([config.folder / tables.FILE]):
            async with running(config) as line:
                revisions, verdicts = [], []
                stop = asyncio.Event()

                async def judging() -> None:
                    number = 0
                    while not stop.is_set():
                        pixels = np.asarray(NEW[number % len(NEW)])
                        row = await line.judge(Arrival(source="t", name=str(number), image=pixels, product="part"))
                        revisions.append(row.revision)
                        verdicts.append(row.verdict)
                        number += 1

                task = asyncio.create_task(judging())
                there = await asyncio.to_thread(promote, config, product)
                count = len(revisions)
                while len(revisions) < count + 5:
                    await asyncio.sleep(0.01)
                back = await asyncio.to_thread(rollback, config, product)
                while revisions[-1] != 1:
                    await asyncio.sleep(0.01)
                stop.set()
                await task
                return there, back, revisions, verdicts

    there, back, revisions, verdicts = asyncio.run(inside())
    assert (there.running, there.revision, back.running, back.revision) == (True, 2, True, 1)
    steps = [revisions[0], *(new for old, new in pairwise(revisions) if old != new)]
    assert steps == [1, 2, 1]
    assert "failed" not in verdicts


def test_a_running_line_that_refuses_keeps_its_model(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (product,) = config.products

    def refusing(*_: object) -> None:
        raise ArtifactError("it does not fit")

    async def inside() -> int:
        with reserved([config.folder / tables.FILE]):
            async with running(config) as line:
                with monkeypatch.context() as patch:
                    patch.setattr("padim_edge_line.loading.load", refusing)
                    with pytest.raises(PadimEdgeError, match=r"refuses the model \(it does not fit\); part keeps"):
                        await asyncio.to_thread(promote, config, product)
                pixels = np.asarray(NEW[0])
                row = await line.judge(Arrival(source="t", name="x", image=pixels, product="part"))
                return row.revision

    assert asyncio.run(inside()) == 1
    assert revision(config) == 1


def test_the_commands_promote_and_go_back(config: Any, tmp_path: Path) -> None:
    line = tmp_path / "line.toml"
    line.write_text(f'folder = "{config.folder}"\n[products.part]\nmodel = "{config.products[0].model}"\n[server]\n')
    stdout, _ = run("promote", line)
    assert "part: revision 2" in stdout
    _, stderr = run("promote", line, "part", "part-r2", code=1)
    assert "has the model of this proposal already" in stderr
    stdout, _ = run("rollback", line, "part")
    assert "part: revision 1" in stdout
