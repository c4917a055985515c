"""An ARM64 device where there is none: Debian's Python and the wheels for aarch64, under qemu's user mode.

Nothing of the host changes: apt gets a state of its own, and packages are unpacked, not installed. Whatever cannot be
had is a skip with its reason, but for a wheel that the index does not have: devices would miss it, too.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
import wheels

__all__ = ["CORES", "Core", "Emulator", "Run", "debian", "packages", "qemu"]

QEMU = "qemu-aarch64-static"
PYTHON = "3.11"
"""The one of Debian 12."""

DEBIAN = (f"python{PYTHON}-minimal", f"libpython{PYTHON}-stdlib", "libstdc++6")
"""The rest, such as the C library, comes with them."""

APT = """\
APT::Architecture "arm64";
APT::Architectures {{ "arm64"; {host} }};
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Dir::State "{folder}/state";
Dir::State::status "{folder}/state/status";
Dir::Cache "{folder}/cache";
"""


@dataclass(frozen=True)
class Core:
    """A processor, as qemu and the kernel name it."""

    name: str
    """Name for qemu's `-cpu`."""
    part: str
    """Part number that ARM gives it."""
    features: str
    """Features that the kernel lists. They must be those of `name`, or onnxruntime chooses instructions that fail."""

    def cpuinfo(self) -> str:
        """Text of `/proc/cpuinfo`, with as many cores as the host has, since `/sys` is the host's."""
        return "".join(
            f"processor\t: {i}\n"
            "BogoMIPS\t: 108.00\n"
            f"Features\t: {self.features}\n"
            "CPU implementer\t: 0x41\n"
            "CPU architecture: 8\n"
            "CPU variant\t: 0x0\n"
            f"CPU part\t: {self.part}\n"
            "CPU revision\t: 3\n\n"
            for i in range(os.cpu_count() or 1)
        )


CORES = (
    Core("cortex-a72", "0xd08", "fp asimd evtstrm crc32 cpuid"),
    Core(
        "neoverse-n1",
        "0xd0c",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
    ),
)
"""Cores of a Raspberry Pi 4 (ARM v8.0), and of servers and a Raspberry Pi 5 (ARM v8.2 with dot products)."""


@dataclass(frozen=True)
class Run:
    """A program that has ended."""

    code: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Emulator:
    """Everything that a device needs, without the device."""

    qemu: Path
    root: Path
    """Folder with the files of Debian."""
    site: Path
    """Folder with the installed wheels."""
    home: Path

    def python(self, core: Core, *arguments: object, cwd: Path, timeout: float = 240) -> Run:
        """Run `python ARGUMENTS` on a core.

        No process that it starts itself can run, since the kernel knows nothing of the emulator.
        """
        # qemu 7.2 shows the host's file, of which onnxruntime's cpuinfo dies, unless there is one below its root.
        (self.root / "proc" / "cpuinfo").write_text(core.cpuinfo())
        interpreter = self.root / "usr" / "bin" / f"python{PYTHON}"
        # Bytecode may be written, since compiling all anew takes 5 s a run here.
        environment = {"PATH": "/usr/bin", "HOME": str(self.home), "PYTHONPATH": str(self.site), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [self.qemu, "-cpu", core.name, "-L", self.root, interpreter, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=cwd,
            env=environment,
            timeout=timeout,
            check=False,
        )
        return Run(done.returncode, done.stdout, done.stderr)

    def padim_edge(self, core: Core, *arguments: object, cwd: Path) -> Run:
        """Run `padim-edge ARGUMENTS`; the program of that name would need a shebang of the device."""
        return self.python(core, "-m", "padim_edge_runtime", *arguments, cwd=cwd)


def qemu() -> Path | None:
    """The installed emulator, if there is one."""
    found = shutil.which(QEMU)
    return Path(found) if found else None


def debian(folder: Path) -> tuple[Path, Path]:
    """(emulator, root of an arm64 Debian with Python), fetched into a folder."""
    if sys.platform != "linux" or platform.machine() == "aarch64":
        pytest.skip(
            f"emulating ARM64 takes Linux on another processor, and this is {sys.platform} {os.uname().machine}"
        )
    for program in ("apt-get", "dpkg", "dpkg-deb"):
        if shutil.which(program) is None:
            pytest.skip(f"Debian's packages for ARM64 cannot be had without {program}")
    emulator = qemu()
    host = _run("dpkg", "--print-architecture").strip()
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "state" / "status").touch()
    (folder / "apt.conf").write_text(APT.format(folder=folder, host="" if emulator else f'"{host}";'))
    configured = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C"}
    extra = () if emulator else (f"qemu-user-static:{host}",)
    _run("apt-get", "-q", "update", environment=configured)
    download = ("-q", "install", "--yes", "--download-only", "--no-install-recommends")
    _run("apt-get", *download, *DEBIAN, *extra, environment=configured)
    root, tools = folder / "root", folder / "tools"
    for package in sorted((folder / "cache" / "archives").glob("*.deb")):
        _run("dpkg-deb", "-x", package, tools if package.name.startswith("qemu-") else root)
    shutil.rmtree(folder / "cache")
    shutil.rmtree(folder / "state")
    (root / "proc").mkdir(exist_ok=True)
    return emulator or tools / "usr" / "bin" / QEMU, root


def packages(folder: Path) -> Path:
    """Our wheel and what it asks for, for aarch64, in the versions that the host has."""
    names = ("numpy", "onnxruntime", "pillow", "typer")
    built = wheels.runtime(folder / "wheel")
    target = folder / "site"
    wheels.uv(
        "pip",
        "install",
        *("--python-platform", "aarch64-manylinux_2_28", "--python-version", PYTHON, "--only-binary", ":all:"),
        *("--target", target, f"{built}[cpu]", *(f"{name}=={version(name)}" for name in names)),
        cwd=folder,
    )
    return target


def _run(*command: object, environment: dict[str, str] | None = None) -> str:
    """Stdout of a command that only fetches or unpacks; skip where it fails."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        reason = next((line for line in said if line.startswith("E: ")), said[-1] if said else "no word")
        pytest.skip(f"{command[0]} cannot bring Debian for ARM64: {reason}")
    return done.stdout
