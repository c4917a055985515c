"""The way in which a model adds up both kinds of distance, and the evidence that it rests on, as a value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_artifact.schema import MOST_IMAGES, Number, Text, Whole, check

__all__ = ["EQUAL", "GIVEN", "REHEARSED", "Combination"]

EQUAL = "equal"
"""Choice of the weight: one half, without a look at planted defects."""
GIVEN = "given"
"""Choice of the weight: by the user."""
REHEARSED = "rehearsed"
"""Choice of the weight: by planted defects."""

_Share: TypeAlias = Annotated[float, Number(0, 1)]
_Unit: TypeAlias = Annotated[float, Number(0, 1e38, inside=True)]
_Many: TypeAlias = Annotated[int, Whole(0, MOST_IMAGES)]


@dataclass(frozen=True)
class Combination:
    """Weights of Gaussians and memory in one model.

    distance = (1 - weight) / units[0] * distance to the Gaussian + weight / units[1] * distance to the prototype

    Raises:
        PadimEdgeError: A value is outside its range.
    """

    weight: _Share
    """Share of the memory, 0 to 1; 0 and 1 leave one kind out, and the other keeps its own distances."""
    units: tuple[_Unit, _Unit]
    """Spread of the held-out good images' scores, from their median to their ninetieth percentile: for the Gaussians
    and for the memory; positive."""
    choice: Annotated[str, Text(16, f"{EQUAL}|{GIVEN}|{REHEARSED}", "the choice of a weight")] = EQUAL
    """`EQUAL`, `GIVEN` or `REHEARSED`."""
    good: _Many = 0
    """Number of held-out good images that the units rest on."""
    plants: _Many = 0
    """Number of planted defects that were compared; 0 without a rehearsal."""
    auroc: tuple[_Share, _Share] | None = None
    """Image AUROC of plainly visible plants against held-out good images, for the Gaussians and for the memory."""
    certainty: _Share | None = None
    """Probability that the memory finds plants better, 0 to 1, over draws of images and plants; `None` without them."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise PadimEdgeError(f"the weight of the memory is {self.weight}, expected a share from 0 to 1 such as 0.5")
        if not all(0 < each < math.inf for each in self.units):
            raise PadimEdgeError(f"the spreads of the good images' scores are {self.units}, expected positive numbers")
        check(self)

    @property
    def factors(self) -> tuple[float, float]:
        """Factor of each distance, of the Gaussians and of the memory; one that is left alone keeps its own."""
        if self.kept is not None:
            return (1.0, 0.0) if self.kept == 0 else (0.0, 1.0)
        return (1 - self.weight) / self.units[0], self.weight / self.units[1]

    @property
    def kept(self) -> int | None:
        """Number of the one kind that is left, 0 for the Gaussians and 1 for the memory; `None` for both."""
        return {0.0: 0, 1.0: 1}.get(self.weight)

    def __str__(self) -> str:
        shares = f"Gaussians {100 * (1 - self.weight):.0f} %, memory {100 * self.weight:.0f} %"
        if self.choice == EQUAL:
            return f"{shares}; without a rehearsal"
        if self.choice == GIVEN or self.auroc is None or self.certainty is None:
            return f"{shares}; {self.choice}"
        better, sure = ("memory", self.certainty) if self.certainty > 0.5 else ("Gaussians", 1 - self.certainty)
        verdict = f"{better} better, {100 * sure:.0f} % sure"
        return (
            f"{shares}; of {self.plants} planted defects and {self.good} good images, the Gaussians rank "
            f"{self.auroc[0]:.3f} and the memory {self.auroc[1]:.3f} ({verdict})"
        )
