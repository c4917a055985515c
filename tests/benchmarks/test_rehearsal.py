"""`benchmarks.rehearsal`: planted figures beside true ones, ranks, promises, and a whole run on the drawn sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.choosing import rehearsals
from benchmarks.choosing.rehearsals import ranks_agree
from benchmarks.choosing.rehearsing import DRAWS, KINDS, rehearsed
from padim_edge.datasets import from_source

Row = dict[str, Any]


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=20, unique=True))
def test_ranks_of_a_rising_function_agree_and_of_a_falling_one_do_not(values: list[float]) -> None:
    assert ranks_agree(values, [3 * each + 1 for each in np.argsort(np.argsort(values))]) == pytest.approx(1)
    assert ranks_agree(values, (-np.argsort(np.argsort(values))).tolist()) == pytest.approx(-1)


def test_equal_values_share_their_rank() -> None:
    assert ranks_agree([1, 1, 2], [5, 5, 9]) == pytest.approx(1)
    assert ranks_agree([1, 1, 2], [5, 6, 9]) == pytest.approx(np.sqrt(3) / 2)


def said(auroc: float, level: str = "sees", difference: float | None = None) -> Row:
    chart = (
        {} if difference is None else {"chart_difference": difference, "chart_groups": 1, "real": 0.5, "expected": 0.5}
    )
    return {"auroc": auroc, "plain": 20, "found": auroc, "level": level} | chart


def row(class_name: str, seed: int, aurocs: dict[str, float], **changes: Any) -> Row:
    """A run in which planted and true image AUROC are equal, and nobody misses anything."""
    true = {kind: {"auroc": aurocs[kind], "miss": 0.0, "false_alarm": 0.0} for kind in KINDS}
    planted = {kind: [said(aurocs[kind], difference=0.1) for _ in DRAWS] for kind in KINDS}
    return {
        "run": f"{class_name} all seed {seed}",
        "product": "abc",
        "class_name": class_name,
        "images": None,
        "seed": seed,
        "weights": [0.5] * 3,
        "true": true,
        "true_by_draw": [aurocs["auto"]] * 3,
        "planted": planted,
    } | changes


ROWS = [
    row(name, seed, {"edge": 0.9, "free": base, "equal": base, "auto": base})
    for name, base in (("screw", 0.98), ("bottle", 1.0), ("kolektor", 0.91), ("cookie", 0.99))
    for seed in range(3)
]


def test_promises_are_about_means_over_seeds_and_draws() -> None:
    found = {target.what: target for target in rehearsals.targets_of(ROWS)}
    assert all(each.reached for each in found.values())
    assert found["screw: regret of auto"].found == pytest.approx(0)
    assert found["mean regret of auto over the classes"].found == pytest.approx(0)
    lost = [*ROWS[:-1], ROWS[-1] | {"true_by_draw": [0.9, 0.9, 0.9]}]
    worse = {target.what: target for target in rehearsals.targets_of(lost)}
    assert worse["cookie: regret of auto"].found == pytest.approx(0.03)
    assert worse["mean regret of auto over the classes"].found == pytest.approx(0.09 / 12)
    assert not worse["mean regret of auto over the classes"].reached


def test_blind_models_must_be_warned_of_and_seeing_ones_not() -> None:
    blind = ROWS[0] | {
        "images": 20,
        "true": ROWS[0]["true"] | {"edge": {"auroc": 0.5, "miss": 0.9, "false_alarm": 0.0}},
    }
    levels = [said(0.5, level) for level in ("blind", "blind", "weak")]
    rows = [*ROWS, blind | {"planted": blind["planted"] | {"edge": levels}}]
    found = {target.what: target for target in rehearsals.targets_of(rows)}
    assert found["blind models of 20 screws that are warned of"].found == pytest.approx(2 / 3)
    assert found["seeing models that are called blind"].found == 0
    assert "2 of 3 rehearsals of models that miss over 60 %" in rehearsals.tables(rows)


def test_every_run_has_a_name_of_its_own_and_can_be_chosen() -> None:
    runs = rehearsals.matching(())
    assert len({run.name for run in runs}) == len(runs)
    assert len(rehearsals.matching(("screw 20 *",))) == 10
    assert not rehearsals.matching(("nothing",))


@pytest.mark.slow
def test_a_run_on_the_drawn_sample_has_every_figure() -> None:
    dataset = from_source(None, "bottle")
    found = rehearsed(dataset, 20, 0, "builtin", "auto", 64)
    assert found["fitted"] == 20
    assert len(found["weights"]) == len(DRAWS)
    for kind in KINDS:
        assert 0 <= found["true"][kind]["auroc"] <= 1
        assert len(found["planted"][kind]) == len(DRAWS)
        assert all(each["level"] in ("blind", "weak", "sees") for each in found["planted"][kind])
    assert found["true"]["auto"]["auroc"] == pytest.approx(found["true_by_draw"][0])
