"""The values that a PLC reads and writes, laid out in registers of 16 bits. The OPC UA node `Block` has them, too."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from padim_edge_line.plc import NO_ANSWER, PART_BYTES, Answer

__all__ = ["INPUTS", "INPUT_COUNT", "PART", "RECIPE", "STATUS", "STATUS_COUNT", "TRIGGER", "Status", "status_bytes"]

STATUS = 0
"""Address of the first register of the status, which only the service writes."""
INPUTS = 100
"""Address of the first register that the PLC writes."""
RECIPE = 0
"""Place of the recipe within the inputs."""
PART = 1
"""Place of the part id within the inputs."""
TRIGGER = PART + PART_BYTES // 2
"""Place of the trigger within the inputs: the last one, so that whoever writes in rising order writes it last."""
INPUT_COUNT = TRIGGER + 1
"""Number of input registers."""

_NAME_BYTES = 32
_LAYOUT = struct.Struct(f">8H 2f 6I {PART_BYTES}s 2H {_NAME_BYTES}s")

STATUS_COUNT = _LAYOUT.size // 2
"""Number of status registers. One request reads them all, and with it a consistent state."""
assert STATUS_COUNT <= INPUTS, STATUS_COUNT
assert STATUS_COUNT <= 125, STATUS_COUNT  # the most that one Modbus request reads


@dataclass(frozen=True, kw_only=True)
class Status:
    """All that a PLC reads, at one moment."""

    heartbeat: int = 0
    """Number that changes in each period while the service can judge; 0 before it could for the first time."""
    ready: bool = False
    """Whether a trigger would be worked on."""
    busy: bool = False
    """Whether an order has no answer yet."""
    answer: Answer = NO_ANSWER
    """Answer to the last trigger."""
    answer_product: int = 0
    """Place of the product that the answer was found with, from 1; 0 without an answer."""
    product: int = 0
    """Place of the product that is made, from 1."""
    products: int = 0
    """Number of products."""
    product_name: str = ""
    """Name of the product that is made."""
    orders: int = 0
    """Number of triggers since the start."""
    good: int = 0
    """Number of triggers that were answered GOOD."""
    rejected: int = 0
    """Number of triggers that were answered REJECT."""

    @property
    def score(self) -> float:
        """Score of the answer; 0 where there is none."""
        return _number(self.answer.row.score if self.answer.row else None)

    @property
    def threshold(self) -> float:
        """Threshold of the answer; 0 where there is none."""
        return _number(self.answer.row.threshold if self.answer.row else None)

    @property
    def row(self) -> int:
        """Number of the row in the record, without what exceeds 32 bits; 0 where there is none."""
        return _counter(self.answer.row.seq) if self.answer.row else 0

    @property
    def latency_ms(self) -> int:
        """Whole milliseconds from the trigger to the answer."""
        return min(round(self.answer.latency_ms), 2**32 - 1)


def status_bytes(status: Status) -> bytes:
    """Lay out a status: big-endian, strings in UTF-8 and filled up with zeros."""
    answer = status.answer
    return _LAYOUT.pack(
        status.heartbeat,
        status.ready,
        status.busy,
        answer.number,
        answer.result,
        answer.reason,
        status.answer_product,
        0,
        status.score,
        status.threshold,
        status.row,
        status.latency_ms,
        _counter(status.orders),
        _counter(status.good),
        _counter(status.rejected),
        0,
        answer.part.encode(),
        status.product,
        status.products,
        status.product_name.encode()[:_NAME_BYTES],
    )


def _counter(number: int) -> int:
    return number % 2**32


def _number(value: float | None) -> float:
    """Return the nearest number of 32 bits, and 0 for none."""
    if value is None:
        return 0.0
    try:
        return float(struct.unpack(">f", struct.pack(">f", value))[0])
    except OverflowError:
        return float("inf")
