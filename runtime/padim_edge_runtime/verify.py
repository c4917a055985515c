"""Check a model on this machine: every byte, the contract, and its self-test on each device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from padim_edge_artifact import DeviceError
from padim_edge_runtime.detector import Detector, SelfTestOutcome
from padim_edge_runtime.devices.providers import DEVICES

__all__ = ["Verified", "verify"]


@dataclass(frozen=True)
class Verified:
    """Outcome of the self-test on one device."""

    device: str
    """A key of `DEVICES`."""
    outcome: SelfTestOutcome | None
    """Answer of the model; `None` where the device is not usable here."""
    reason: str | None
    """Reason why the device is not usable here."""

    @property
    def passed(self) -> bool | None:
        """Whether the self-test passed; `None` where the device is not usable here."""
        return None if self.outcome is None else self.outcome.passed

    def __str__(self) -> str:
        found = self.outcome
        if found is None:
            return f"not here  {self.device}: {self.reason}"
        return (
            f"{'passed' if found.passed else 'FAILED'}    {self.device}: score {found.score:.5f}, expected "
            f"{found.expected_score:.5f}; largest difference {found.difference:.1e} of {found.tolerance:.0e}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the object that `verify --json` prints for the device."""
        return {"passed": None, "reason": self.reason} if self.outcome is None else asdict(self.outcome)


def verify(
    model: Path,
    device: str | None = None,
    tell: Callable[[str], object] = lambda _: None,
    *,
    product: str | None = None,
) -> Iterator[Verified]:
    """Run the self-test of a model on each device.

    Args:
        model: The `.onnx` file.
        device: Only this device; `None` tries all of them.
        tell: As for `Detector.load`.
        product: Name of the product in a bundle.

    Raises:
        ArtifactError: The model is refused.
        DeviceError: The device that was asked for is not usable here, or the CPU is not.
    """
    for each in DEVICES if device is None else (device,):
        try:
            yield Verified(each, Detector.load(model, each, product=product, tell=tell).self_test(), None)
        except DeviceError as error:
            if device is not None or each == "cpu":
                raise
            yield Verified(each, None, str(error))
