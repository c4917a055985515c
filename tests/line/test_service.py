"""The service as a process: it starts, tells, and ends as its manager expects."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import golden
import pytest
from lines import pictures

from padim_edge_line.record import Reader

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "examples" / "line" / "padim-edge-line.service"


@contextmanager
def started(*arguments: object, folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A running command; it is killed at the end."""
    command = [sys.executable, "-m", "padim_edge_runtime", *map(str, arguments)]
    with (
        (folder / "stdout").open("w") as out,
        (folder / "stderr").open("w") as err,
        subprocess.Popen(
            command, stdout=out, stderr=err, text=True, cwd=folder, env={**os.environ, **environment}
        ) as it,
    ):
        try:
            yield it
        finally:
            it.kill()


def eventually(condition: object, folder: Path, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, (folder / "stderr").read_text()
        time.sleep(0.02)


def log_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "stderr").read_text().splitlines() if line.startswith("{")]


def messages(folder: Path) -> str:
    return " | ".join(str(each["message"]) for each in log_of(folder))


def test_watch_judges_what_is_written_and_ends_on_sigterm(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    pictures(inbox, 3)
    with started(
        "watch",
        inbox,
        "--model",
        golden.WHOLE,
        "--folder",
        "data",
        "--port",
        0,
        "--json",
        "--log-json",
        folder=tmp_path,
    ) as service:
        eventually(lambda: (tmp_path / "stdout").read_text().count("\n") == 3, tmp_path)
        pictures(inbox, 2, first=3)
        eventually(lambda: (tmp_path / "stdout").read_text().count("\n") == 5, tmp_path)
        service.send_signal(signal.SIGTERM)
        assert service.wait(30) == 0
    rows = [json.loads(line) for line in (tmp_path / "stdout").read_text().splitlines()]
    assert sorted(row["name"] for row in rows) == [f"{i:05}.png" for i in range(5)]
    assert [row["seq"] for row in rows] == [1, 2, 3, 4, 5]
    reader = Reader(tmp_path / "data")
    assert [row.to_json() for row in reader.rows()] == rows
    reader.close()
    token = (tmp_path / "data" / "token").read_text().strip()
    assert (tmp_path / "data" / "token").stat().st_mode & 0o077 == 0
    assert token not in (tmp_path / "stderr").read_text()
    assert str(tmp_path) not in messages(tmp_path)
    assert "stopped" in messages(tmp_path)


def test_two_services_cannot_run_one_line(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    arguments = ("watch", inbox, "--model", golden.WHOLE, "--folder", "data", "--no-page", "--log-json")
    with started(*arguments, folder=tmp_path):
        eventually(lambda: "ready" in messages(tmp_path), tmp_path)
        command = [sys.executable, "-m", "padim_edge_runtime", *map(str, arguments)]
        second = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert "another process is writing" in second.stderr
        assert "Traceback" not in second.stderr


def test_systemd_is_told_ready_alive_and_stopping(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(60)
        with started(
            "watch", inbox, "--model", golden.WHOLE, "--folder", "data", "--no-page",
            folder=tmp_path, NOTIFY_SOCKET=str(address), WATCHDOG_USEC="600000",
        ) as service:  # fmt: skip
            assert manager.recv(1000).decode().startswith("READY=1\n")
            assert manager.recv(1000) == b"WATCHDOG=1"
            assert manager.recv(1000) == b"WATCHDOG=1"
            service.send_signal(signal.SIGTERM)
            while (told := manager.recv(1000)) == b"WATCHDOG=1":
                pass
            assert told == b"STOPPING=1"
            assert service.wait(30) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("watch", "none", "--model", golden.WHOLE, "--no-page"), "none is no folder"),
        (("watch", ".", "--model", "none.onnx", "--no-page"), "the model file cannot be read"),
        (("run", "none.toml"), "none.toml cannot be read"),
        (("serve", "--model", golden.WHOLE, "--model", golden.WHOLE), "two models are called golden"),
        (("serve", "--model", golden.WHOLE, "--host", "0.0.0.0"), "there is no token_file in [server]"),
        (("watch", ".", "--model", golden.WHOLE, "--mqtt", "a:b:c"), "expected a host"),
        (("log", "nowhere"), "nowhere cannot be read"),
    ],
)
def test_what_cannot_start_says_why(tmp_path: Path, arguments: tuple[object, ...], sentence: str) -> None:
    command = [sys.executable, "-m", "padim_edge_runtime", *map(str, arguments)]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert found.returncode == 1, found.stderr
    assert sentence in found.stderr
    assert "Traceback" not in found.stderr
    assert len(found.stderr.strip().splitlines()[-1]) < 400


def test_the_unit_is_one_that_systemd_takes_and_rates_well(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/padim-edge/bin/padim-edge", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert unit.name not in done.stderr, done.stderr
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", unit], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        assert "OK" in done.stdout.splitlines()[-1], done.stdout.splitlines()[-1]


def test_the_units_command_runs_as_a_plain_user(tmp_path: Path) -> None:
    """DynamicUser, StateDirectory and UMask of the unit, as far as they go without systemd."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv, to become another user")
    (command,) = [line.partition("=")[2] for line in UNIT.read_text().splitlines() if line.startswith("ExecStart=")]
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 12345, 12345)
    pictures(state / "inbox", 2)
    os.chown(state / "inbox", 12345, 12345)
    for parent in state.parents:
        if parent.stat().st_mode & 0o005 != 0o005 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    line = (ROOT / "examples" / "line" / "line.toml").read_text()
    line = line.replace("/var/lib/padim-edge", str(state)).replace("/etc/padim-edge/bottle.onnx", str(golden.WHOLE))
    line = line.replace("port = 8765", "port = 0")
    (tmp_path / "line.toml").write_text(line)
    words = command.split()[1:]
    words[words.index("/etc/padim-edge/line.toml")] = str(tmp_path / "line.toml")
    user = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
    probe = subprocess.run([*user, sys.executable, "-c", "import padim_edge_line"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("a plain user may not read this environment")
    with (
        (tmp_path / "stderr").open("w") as err,
        subprocess.Popen(
            [*user, sys.executable, "-m", "padim_edge_runtime", *words], stderr=err, cwd=state, umask=0o077
        ) as service,
    ):
        try:
            eventually(lambda: not list((state / "inbox").iterdir()), tmp_path)
            service.send_signal(signal.SIGTERM)
            assert service.wait(30) == 0
        finally:
            service.kill()
    reader = Reader(state / "line-3")
    assert reader.last() == 2
    reader.close()
