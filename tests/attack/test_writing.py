"""Commands that are killed, or whose system calls fail, tear nothing, lose nothing, and leave nothing for long."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from disturbing import COMMANDS, Found, Server, base, disturbed, points

EACH = 7
"""Number of disturbed system calls of each command and manner; `python tests/attack/disturbing.py` disturbs all."""


@pytest.fixture
def server() -> Iterator[Server]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed here, which fails and kills at chosen system calls")
    server = Server()
    yield server
    server.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_kill_or_a_failure_at_any_system_call_tears_and_loses_nothing(server: Server, tmp_path: Path) -> None:
    source, found, generator = base(server, tmp_path / "base"), Found(), random.Random(17)
    for name, args in COMMANDS.items():
        shutil.copytree(source, tmp_path / name)
        ran = server.run(tmp_path / name, args)
        assert ran.status == 0, ran.output
        where = list(points(ran.calls, 40))
        for how in ("kill", "fail"):
            for what in generator.sample(where, min(EACH, len(where))):
                disturbed(server, source, name, what, how, found)
    assert not found.faults, str(found)
    assert found.counts["missed"] < found.counts["fail"] / 10, str(found)  # only the last calls of one of two threads
    assert found.counts["told"] > len(COMMANDS)  # failures reach the user
