"""Two PLCs, 2 000 triggers, and a service that is killed 50 times: is a part ever accepted wrongly?

    python -m benchmarks.line_plc --triggers 2000 --kills 50 --json FILE

A Modbus client and an OPC UA client each run a belt. A camera sees the part that lies below it at this moment: a good
one or one with a defect. The service runs as a process of its own, and is killed at random moments; every second time
it is frozen before, so that the connections stay open and only the heartbeat tells. A PLC takes GOOD only with its own
trigger number and part id, while the heartbeat changes within each period. In the end the answers are compared with
the parts and with the record.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # where the golden model lies

import golden

from benchmarks import report
from benchmarks.line_plc_camera import picture
from benchmarks.line_plc_clients import Connection, ModbusConnection, OpcUaConnection, Seen
from padim_edge_line.plc import following
from padim_edge_line.record import Reader
from padim_edge_runtime import Detector

__all__: list[str] = []

ROOT = Path(__file__).parents[1]

HEARTBEAT_S = 0.5
TIMEOUT_S = 2.0
POLL_S = 0.01
GIVE_UP_S = 60.0
"""Seconds in which a restarted service must be ready again."""
NONE, GOOD, REJECT = 0, 1, 2


@dataclass
class Tally:
    """Counts of one PLC."""

    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Sentences about what must not happen."""
    unconfirmed: list[str] = field(default_factory=list)
    """Results that were seen of a trigger whose confirmation was lost, so that the PLC had gone on."""
    answers: list[tuple[int, str, int]] = field(default_factory=list)
    """Row, part and result of each answer that names a row."""
    milliseconds: list[float] = field(default_factory=list)
    """Time from the trigger to the answer as the PLC sees it."""
    lost_after: list[float] = field(default_factory=list)
    """Seconds from each end of the service to the moment at which the PLC knew."""
    false_losses: int = 0
    """Number of times that the heartbeat seemed lost although nothing was wrong."""


class Plc:
    """The program of a PLC: one part after the other, with a watch on the heartbeat."""

    def __init__(self, name: str, make: Any, belt: Path, parts: list[str]) -> None:
        self.name = name
        self.tally = Tally()
        self.alive = asyncio.Event()
        self.parts_done = 0
        self.ended: float | None = None
        """Time at which the service was ended, until the loss is noticed."""
        self.other: Plc | None = None
        """The other PLC; neither runs ahead, so that every end of the service hits both."""
        self._make, self._belt, self._parts = make, belt, parts
        self._connection: Connection | None = None
        self._seen: Seen | None = None
        self._changed = 0.0
        self._number = 0
        self._confirmed = 0
        self._asked: dict[int, str] = {}

    async def run(self) -> None:
        """Bring all parts under the camera."""
        watch = asyncio.create_task(self._watch())
        try:
            for number, part in enumerate(self._parts):
                while self.other is not None and self.other.parts_done < number - 2:
                    await asyncio.sleep(POLL_S)
                await asyncio.wait_for(self.alive.wait(), GIVE_UP_S)
                outcome = await self._inspected(part)
                self.tally.outcomes[f"{part.split('-')[0]}: {outcome}"] += 1
                self.parts_done += 1
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _inspected(self, part: str) -> str:
        """Trigger one part and return the PLC's decision."""
        self._number = following(self._number)
        self._asked[self._number] = part
        self._belt.write_text(part, encoding="ascii")
        start = time.monotonic()
        try:
            assert self._connection is not None
            await self._connection.order(self._number, part)
            self._confirmed = self._number
        except Exception:  # noqa: BLE001 - whatever the client raises: the service is away
            return "rejected by the PLC"
        while self.alive.is_set() and time.monotonic() - start < TIMEOUT_S + 1:
            seen = self._seen
            if seen is not None and (seen.trigger, seen.part) == (self._number, part) and seen.result:
                self.tally.milliseconds.append(1e3 * (time.monotonic() - start))
                self.tally.reasons[seen.reason] += 1
                if seen.row:
                    self.tally.answers.append((seen.row, part, seen.result))
                if seen.result == GOOD and not part.startswith("good"):
                    self.tally.wrong.append(f"{self.name}: GOOD for {part}")
                return "accepted" if seen.result == GOOD else "rejected"
            await asyncio.sleep(POLL_S / 2)
        return "rejected by the PLC"

    async def _watch(self) -> None:
        """Read the status all the time, and connect again after a loss."""
        while True:
            connection = self._make()
            end = asyncio.Event()  # a client may swallow a cancellation
            poll = asyncio.create_task(self._poll(connection, end))
            try:
                while not poll.done():
                    await asyncio.wait([poll], timeout=POLL_S)
                    if self.alive.is_set() and time.monotonic() - self._changed > HEARTBEAT_S:
                        break
                self._lost()
            finally:
                end.set()
                poll.cancel()
                await asyncio.gather(poll, return_exceptions=True)
                with suppress(Exception):
                    await asyncio.wait_for(connection.close(), 1)
            await asyncio.sleep(0.05)

    async def _poll(self, connection: Connection, end: asyncio.Event) -> None:
        with suppress(Exception):  # whatever the client raises: the service is away
            await connection.connect()
            self._connection = connection
            beats = 0
            while not end.is_set():
                confirmed = self._confirmed
                self._look(seen := await connection.read(), confirmed)
                if self._seen is None or seen.heartbeat != self._seen.heartbeat:
                    beats += 1
                    self._changed = time.monotonic()
                self._seen = seen
                if beats > 2 and seen.ready:
                    self.alive.set()
                await asyncio.sleep(POLL_S)

    def _look(self, seen: Seen, confirmed: int) -> None:
        """Check what must hold whenever anybody reads.

        Args:
            seen: What was read.
            confirmed: Trigger number whose writing was confirmed before the reading began: nothing older is seen.
        """
        if seen.busy and (seen.result or seen.trigger):
            self.tally.wrong.append(f"{self.name}: busy with a result")
        if seen.result == NONE:
            return
        if seen.part != self._asked.get(seen.trigger) or not confirmed <= seen.trigger <= self._number:
            asked = f"{confirmed} confirmed, {self._number} asked"
            self.tally.wrong.append(f"{self.name}: trigger {seen.trigger} of {seen.part}, {asked}")
        elif seen.trigger not in (confirmed, self._number):
            self.tally.unconfirmed.append(f"{seen.trigger}, {confirmed} confirmed, {self._number} asked")
        if seen.result == GOOD and not seen.part.startswith("good"):
            self.tally.wrong.append(f"{self.name}: GOOD for {seen.part}")

    def _lost(self) -> None:
        if self.alive.is_set():
            if self.ended is None:
                self.tally.false_losses += 1
            else:
                self.tally.lost_after.append(time.monotonic() - self.ended)
        self.ended = None
        self.alive.clear()
        self._seen = None


class Service:
    """The service as a process."""

    def __init__(self, folder: Path, ports: tuple[int, int], belts: tuple[Path, Path]) -> None:
        self._folder = folder
        (folder / "line.toml").write_text(_toml(ports, belts), encoding="utf-8")
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the service; a lock that the killed one has left is waited for."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}
        with (self._folder / "service.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "padim_edge_runtime", "run", "line.toml"),
                cwd=self._folder, stdout=log, stderr=log, env=environment,
            )  # fmt: skip

    async def end(self, plcs: list[Plc], *, frozen: bool) -> None:
        """Kill the service; freeze it before for as long as the PLCs take to notice, if wanted."""
        assert self._process is not None
        if self._process.returncode is not None:
            raise RuntimeError(f"the service has ended by itself, see {self._folder / 'service.log'}")
        self._process.send_signal(signal.SIGSTOP if frozen else signal.SIGKILL)
        now = time.monotonic()
        watching = [plc for plc in plcs if plc.alive.is_set()]
        for plc in watching:
            plc.ended = now
        while frozen and any(plc.alive.is_set() for plc in watching) and time.monotonic() - now < 10:
            await asyncio.sleep(POLL_S)
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


def _toml(ports: tuple[int, int], belts: tuple[Path, Path]) -> str:
    lines = ['folder = "data"', "[products.disc]", f"model = {json.dumps(str(golden.WHOLE))}", 'device = "cpu"']
    for kind, port, belt in zip(("modbus", "opcua"), ports, belts, strict=True):
        lines += ["[[sources]]", 'kind = "camera"', f'name = "camera-{kind}"', 'trigger = "software"']
        lines += ['camera = "benchmarks.line_plc_camera:camera"', f"url = {json.dumps(str(belt))}"]
        lines += ["[[sinks]]", f'kind = "{kind}"', f"port = {port}", f'source = "camera-{kind}"']
        lines += [f"timeout_s = {TIMEOUT_S}", f"heartbeat_s = {HEARTBEAT_S}"]
    return "\n".join(lines) + "\n"


def _parts(count: int, name: str, draw: random.Random) -> list[str]:
    """Return ids of parts, good and bad ones, of which the model knows for sure which they are."""
    detector = Detector.load(golden.WHOLE, "cpu")
    sure = {
        kind: [n for n in range(12) if _verdict(detector, f"{kind}-{n}") == (kind == "good")]
        for kind in ("good", "bad")
    }
    kinds = draw.choices(("good", "bad"), k=count)
    return [f"{kind}-{draw.choice(sure[kind])}-{name}-{number}" for number, kind in enumerate(kinds)]


def _verdict(detector: Detector, part: str) -> bool:
    return detector.inspect(picture(part)).verdict == "good"


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


async def _run(folder: Path, triggers: int, kills: int, seed: int) -> dict[str, Any]:
    draw = random.Random(seed)
    ports, belts = (_free(), _free()), (folder / "belt-modbus", folder / "belt-opcua")
    makes = (lambda: ModbusConnection(ports[0]), lambda: OpcUaConnection(ports[1]))
    plcs = []
    for name, make, belt, count in zip(
        ("modbus", "opcua"), makes, belts, (triggers // 2, -(-triggers // 2)), strict=True
    ):
        plcs.append(Plc(name, make, belt, _parts(count, name, draw)))
        belt.write_text("bad-0", encoding="ascii")
    plcs[0].other, plcs[1].other = plcs[1], plcs[0]
    service = Service(folder, ports, belts)
    start = time.monotonic()
    await service.start()
    work = [asyncio.create_task(plc.run()) for plc in plcs]
    done = 0
    try:
        for number in range(kills):
            enough = (number + 1) * triggers // (kills + 1)
            while not all(task.done() for task in work) and _count(plcs) < enough:
                await asyncio.sleep(POLL_S)
            for plc, task in zip(plcs, work, strict=True):
                while not plc.alive.is_set() and not task.done():
                    await asyncio.sleep(POLL_S)
            if all(task.done() for task in work):
                break
            await asyncio.sleep(draw.uniform(0, 0.1))
            await service.end(plcs, frozen=number % 2 == 1)
            done += 1
            await service.start()
        await asyncio.gather(*work)
    finally:
        for task in work:
            task.cancel()
        await service.end([], frozen=False)
    return _report(folder, plcs, done, time.monotonic() - start)


def _count(plcs: list[Plc]) -> int:
    return sum(sum(plc.tally.outcomes.values()) for plc in plcs)


def _report(folder: Path, plcs: list[Plc], kills: int, seconds: float) -> dict[str, Any]:
    wrong = [sentence for plc in plcs for sentence in plc.tally.wrong]
    rows = {row.seq: row for row in Reader(folder / "data").rows()}
    for plc in plcs:
        for number, part, result in plc.tally.answers:
            row = rows.get(number)
            if row is None or row.part != part or (row.verdict == "good") != (result == GOOD):
                wrong.append(f"{plc.name}: row {number} is not that of {part}")
    lost = [seconds for plc in plcs for seconds in plc.tally.lost_after]
    late = [each for each in lost if each > HEARTBEAT_S + 0.1]
    return {
        "triggers": _count(plcs),
        "kills": kills,
        "rows": len(rows),
        "seconds": round(seconds, 1),
        "wrong": wrong,
        "heartbeat_s": HEARTBEAT_S,
        "losses_noticed": len(lost),
        "slowest_loss_s": round(max(lost, default=0.0), 3),
        "losses_later_than_a_period": len(late),
        "plcs": {
            plc.name: {
                "outcomes": dict(sorted(plc.tally.outcomes.items())),
                "reasons": dict(sorted(plc.tally.reasons.items())),
                "answer_ms_p50": _share(plc.tally.milliseconds, 0.5),
                "answer_ms_p95": _share(plc.tally.milliseconds, 0.95),
                "false_losses": plc.tally.false_losses,
                "unconfirmed": plc.tally.unconfirmed,
            }
            for plc in plcs
        },
    }


def _share(values: list[float], share: float) -> float | None:
    return round(sorted(values)[int(share * (len(values) - 1))], 1) if values else None


def targets_of(found: dict[str, Any]) -> list[report.Target]:
    """Compare with the promises."""
    late = found["losses_later_than_a_period"]
    return [
        report.Target("results on a wrong part, or stale GOOD", 0, len(found["wrong"]), True),
        report.Target("losses of the heartbeat noticed later than a period", 0, late, True),
    ]


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.line_plc", description=__doc__.splitlines()[0])
    parser.add_argument("--triggers", type=int, default=2000, help="Parts of both PLCs together.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="File for the counts.")
    options = parser.parse_args()
    environment = report.probe(("onnxruntime", "asyncua", "pymodbus"), threads=None)
    report.print_header("PLCs and a service that is killed", environment)
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(_run(Path(folder), options.triggers, options.kills, options.seed))
    print(json.dumps(found, indent=1))
    targets = targets_of(found)
    report.print_targets(targets)
    settings = {"triggers": options.triggers, "kills": options.kills}
    report.write_json(options.json, "line_plc", environment, settings, [found], targets)
    return int(bool(found["wrong"]) or found["losses_later_than_a_period"] > 0)


if __name__ == "__main__":
    sys.exit(main())
