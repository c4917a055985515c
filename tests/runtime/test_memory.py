"""Memory as the system tells it: of the machine, of a container that has less, and of a process."""

from __future__ import annotations

import gc
import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from padim_edge_runtime.memory import Available, Resident, available_memory, of_machine, peak_memory, resident

MB = 1_000_000

on_linux = pytest.mark.skipif(resident() is None, reason="this system does not tell private memory from mapped files")


def write(root: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def group(folder: str, limit: object, current: int, inactive: int) -> dict[str, object]:
    return {
        f"{folder}/memory.max": limit,
        f"{folder}/memory.current": current,
        f"{folder}/memory.stat": f"anon 5\ninactive_file {inactive}",
    }


MACHINE = {"proc/meminfo": "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:   700 kB"}
TOP = "sys/fs/cgroup"


def test_a_machine_says_what_it_has_and_what_is_left(tmp_path: Path) -> None:
    assert of_machine(write(tmp_path, MACHINE)) == Available(1000 * 1024, 700 * 1024)
    assert available_memory(tmp_path) == 700 * 1024


@pytest.mark.parametrize("text", ["nonsense", "", "MemTotal: 10 kB", "MemAvailable: many kB\nMemTotal: 10 kB"])
def test_a_system_that_does_not_tell_gives_none(tmp_path: Path, text: str) -> None:
    assert of_machine(tmp_path) is None
    assert of_machine(write(tmp_path, {"proc/meminfo": text})) is None
    assert available_memory(tmp_path) is None


def test_a_container_with_a_limit_has_no_more_than_that(tmp_path: Path) -> None:
    """Less what is taken, but for cached files, which the system gives back."""
    write(tmp_path, {**MACHINE, **group(TOP, 400_000, 300_000, 50_000)})
    assert of_machine(tmp_path) == Available(400_000, 150_000)


def test_a_container_without_a_limit_or_with_a_larger_one_changes_nothing(tmp_path: Path) -> None:
    for limit in ("max", 10**9):
        write(tmp_path, {**MACHINE, **group(TOP, limit, 300_000, 0)})
        assert of_machine(tmp_path) == Available(1000 * 1024, 700 * 1024)


def test_a_full_container_has_nothing_left_and_never_less(tmp_path: Path) -> None:
    write(tmp_path, {**MACHINE, **group(TOP, 400_000, 500_000, 0)})
    assert available_memory(tmp_path) == 0


def test_a_limit_of_any_group_around_the_process_counts(tmp_path: Path) -> None:
    """A service of systemd has a group below the top one."""
    write(tmp_path, {**MACHINE, "proc/self/cgroup": "1:cpu:/x\n0::/system.slice/inspect.service"})
    write(tmp_path, group(f"{TOP}/system.slice/inspect.service", "max", 100_000, 0))
    write(tmp_path, group(f"{TOP}/system.slice", 300_000, 100_000, 0))
    assert available_memory(tmp_path) == 200_000
    write(tmp_path, group(f"{TOP}/system.slice/inspect.service", 150_000, 100_000, 0))
    assert available_memory(tmp_path) == 50_000


def test_a_group_whose_path_is_the_hosts_still_has_the_limit_at_the_top(tmp_path: Path) -> None:
    write(tmp_path, {**MACHINE, "proc/self/cgroup": "0::/docker/0123", **group(TOP, 400_000, 300_000, 0)})
    assert available_memory(tmp_path) == 100_000


def test_the_memory_of_a_process_is_read_from_its_status(tmp_path: Path) -> None:
    write(tmp_path, {"proc/7/status": "Name:\tpython\nVmHWM:\t 900 kB\nRssAnon:\t 10 kB\nRssFile:\t 20 kB"})
    assert resident("7", tmp_path) == Resident(10 * 1024, 20 * 1024)
    assert resident("8", tmp_path) is None
    write(tmp_path, {"proc/self/status": "VmHWM:\t 900 kB"})
    assert peak_memory(tmp_path) == 900 * 1024


@on_linux
def test_what_a_process_writes_is_private_and_a_file_that_it_maps_is_not(tmp_path: Path) -> None:
    size = 32 * MB
    file = tmp_path / "constants"
    file.write_bytes(b"x" * size)
    gc.collect()
    before = resident()
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert set(mapped[:: mmap.PAGESIZE]) == {ord("x")}  # touches every page
        with_file = resident()
    # Mapped, since the heap of a process that has run for long may have so much room already.
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as own:
        for page in range(0, size, mmap.PAGESIZE):
            own[page] = 1
        with_own = resident()
    assert before is not None
    assert with_file is not None
    assert with_own is not None
    assert with_file.mapped - before.mapped == pytest.approx(size, rel=0.1)
    assert abs(with_file.private - before.private) < size / 10
    assert with_own.private - before.private == pytest.approx(size, rel=0.1)


PEAK = """
from padim_edge_runtime.memory import peak_memory
before = peak_memory()
taken = bytearray(80_000_000)
del taken
print(peak_memory() - before)
"""


def test_the_peak_stays_after_the_memory_was_given_back() -> None:
    if peak_memory() is None:
        pytest.skip("this system does not tell the peak")
    grown = int(subprocess.run([sys.executable, "-c", PEAK], check=True, capture_output=True, text=True).stdout)
    assert grown > 70 * MB
    if (now := resident()) is not None:
        assert (peak_memory() or 0) >= now.private


def test_this_machine_has_some_memory() -> None:
    found = of_machine()
    if found is None:
        pytest.skip("this system does not tell")
    assert 0 < found.free <= found.total
