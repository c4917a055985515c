"""The watch over one model's good images: a baseline first, then charts, and a sentence when something has changed.

Light and place are causes of what the distances show. So a change of the distances is told only where neither of them
has changed, and a change that both show is told once, as one of the light or of the place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from padim_edge_line.drift import words
from padim_edge_line.drift.baseline import IMAGES, Baseline
from padim_edge_line.drift.channels import CHANNELS, KINDS, LIGHT, PLACE, REGION, SCORES, values_of
from padim_edge_line.drift.charts import LIMIT, Charts
from padim_edge_line.drift.observation import Observation

__all__ = ["Change", "Monitor"]

_HINT = 1 / 3
"""Share of the limit from which a cause counts as the reason for a change that the distances show."""
_OVER = 1 / 4
"""Share of the limit below which a change is over."""
_KINDS = np.array([channel.kind for channel in CHANNELS])
_CAUSES = (LIGHT, PLACE)
_EFFECTS = (REGION, SCORES)
_OF = {kind: kind == _KINDS for kind in KINDS}


@dataclass(frozen=True, kw_only=True)
class Change:
    """The beginning or the end of a change."""

    kind: str
    """`light`, `place`, `region` or `scores`."""
    over: bool
    """Whether good images are again as they were."""
    since: int
    """Time of the first image that shows the change, in microseconds since 1970."""
    sentence: str
    """The change in words, and what to look at."""

    def to_json(self) -> dict[str, Any]:
        """Return the object that others are told."""
        from padim_edge_line.row import utc

        return {"kind": self.kind, "over": self.over, "since": utc(self.since), "sentence": self.sentence}


class Monitor:
    """Watch over the good images of one model. One thread at a time may call it.

    Args:
        model: Digest of the model.
        grid: (h, w) of its patches.
    """

    def __init__(self, model: str, grid: tuple[int, int]) -> None:
        self.model = model
        """Digest of the model."""
        self._grid = grid
        self._first: dict[int, npt.NDArray[np.float64]] = {}
        self._baseline: Baseline | None = None
        self._charts: Charts | None = None
        self._lasting: dict[str, Change] = {}

    @property
    def learned(self) -> int:
        """Number of good images that the baseline has, `IMAGES` when it is complete."""
        return len(self._first) if self._baseline is None else IMAGES

    @property
    def lasting(self) -> tuple[Change, ...]:
        """Changes that have been told and are not over."""
        return tuple(self._lasting.values())

    def add(self, observation: Observation) -> tuple[Change, ...]:
        """Add an image, and return what is to be told. Images that are not good do not count."""
        if not observation.good:
            return ()
        values = values_of(observation)
        if self._baseline is None or self._charts is None:
            self._first[observation.time] = values
            if len(self._first) >= IMAGES:
                self._begin(Baseline(np.array(list(self._first.values()))))
            return ()
        values = self._baseline.completed(values)
        self._charts.add(values, self._baseline.scores(values), observation.time)
        ended = self._ended(observation.time) if self._lasting else []
        begun = self._begun() if self._charts.sums.max() > LIMIT else []
        return (*ended, *begun)

    def forget(self, time: int) -> None:
        """Take the image of this time out of an unfinished baseline: a person has said that it is not good."""
        self._first.pop(time, None)

    def restart(self) -> None:
        """Begin with a new baseline: what has changed is as it should be."""
        self._baseline = self._charts = None
        self._first.clear()
        self._lasting.clear()

    def state(self) -> dict[str, Any]:
        """Return what `restored` reads. The sums of the charts are not in it: they grow anew."""
        return {
            "model": self.model,
            "grid": list(self._grid),
            "first": [[time, *values.astype(np.float32).tolist()] for time, values in self._first.items()],
            "baseline": None if self._baseline is None else self._baseline.to_json(),
            "lasting": [[each.kind, each.since, each.sentence] for each in self.lasting],
        }

    @classmethod
    def restored(cls, found: Mapping[str, Any]) -> Monitor:
        """Return the monitor that had this state.

        Raises:
            ValueError: It is no such state.
        """
        try:
            made = cls(str(found["model"]), (int(found["grid"][0]), int(found["grid"][1])))
            made._first = {int(time): np.array(values, np.float64) for time, *values in found["first"]}
            if any(values.shape != (len(CHANNELS),) for values in made._first.values()):
                raise ValueError("it has other channels")
            if found["baseline"] is not None:
                made._begin(Baseline.from_json(found["baseline"]))
            for kind, since, sentence in found["lasting"]:
                made._hold(Change(kind=kind, over=False, since=int(since), sentence=str(sentence)))
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"it is no state of a monitor ({error})") from error
        return made

    def _begin(self, baseline: Baseline) -> None:
        self._baseline, self._charts = baseline, Charts()
        self._first.clear()

    def _hold(self, change: Change) -> None:
        """Let a change that was told before a restart last until the charts have come down again."""
        if self._charts is None or change.kind not in KINDS:
            raise ValueError("it has a change without a baseline")
        self._lasting[change.kind] = change
        self._charts.sums[:, _OF[change.kind]] = LIMIT

    def _ended(self, time: int) -> list[Change]:
        assert self._charts is not None, "there is a baseline"
        ended = []
        for kind in list(self._lasting):
            if self._charts.sums[:, _OF[kind]].max() <= _OVER * LIMIT:
                del self._lasting[kind]
                if kind in _CAUSES:
                    self._charts.reset(np.isin(_KINDS, _EFFECTS))
                words_of = {LIGHT: "the light", PLACE: "the place", REGION: "the region"}
                sentence = f"{words_of.get(kind, 'the scores of good images')} is again as before"
                ended.append(Change(kind=kind, over=True, since=time, sentence=sentence))
        return ended

    def _begun(self) -> list[Change]:
        """Return the changes that begin to be told, causes first."""
        assert self._charts is not None, "there is a baseline"
        assert self._baseline is not None, "there is one"
        highest = {kind: float(self._charts.sums[:, _OF[kind]].max()) for kind in KINDS}
        begun = [kind for kind in _CAUSES if highest[kind] > LIMIT and kind not in self._lasting]
        caused = begun or any(kind in self._lasting for kind in _CAUSES)
        if not caused and not any(kind in self._lasting for kind in _EFFECTS):
            shown = [kind for kind in _EFFECTS if highest[kind] > LIMIT]
            if shown:
                hints = [kind for kind in _CAUSES if highest[kind] > _HINT * LIMIT]
                begun = [max(hints or shown, key=lambda kind: highest[kind])]
        made = []
        for kind in begun:
            sums = np.where(_OF[kind], self._charts.sums, 0)
            since = int(self._charts.since[np.unravel_index(int(sums.argmax()), sums.shape)])
            sentence = words.sentence(
                kind, self._charts.sums, self._baseline.typical, self._charts.present(since), self._grid, since
            )
            made.append(Change(kind=kind, over=False, since=since, sentence=sentence))
            self._lasting[kind] = made[-1]
        return made
