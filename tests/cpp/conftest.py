"""The C++ program of runtime/cpp, built once as its README says."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from judge_program import HEADER, SOURCE, readme, shell

SUITE = "trixie"
"""The oldest Debian that has the headers; they are of 1.21, and older headers fit every newer library."""


def debian_headers(folder: Path) -> Path:
    """The headers out of Debian's package, fetched with an apt state of its own: the machine's stays as it is."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip(f"{HEADER} is not installed, and there is no apt-get to fetch it with")
    listing = ["apt-get", "indextargets", "--no-release-info", "--format", "$(REPO_URI)", "Created-By: Packages"]
    mirrors = subprocess.run(listing, capture_output=True, text=True, check=False).stdout.split()
    mirror = next((uri for uri in mirrors if uri.rstrip("/").endswith("/debian")), None)
    if mirror is None:
        pytest.skip(f"{HEADER} is not installed, and this machine's apt has no Debian mirror to fetch it from")
    for name in ("state/lists/partial", "cache/archives/partial", "parts"):
        (folder / name).mkdir(parents=True)
    (folder / "state" / "status").touch()
    (folder / "sources.list").write_text(f"deb {mirror} {SUITE} main\n")
    configuration = folder / "apt.conf"
    configuration.write_text(
        f'Dir::State "{folder}/state"; Dir::State::status "{folder}/state/status"; Dir::Cache "{folder}/cache";\n'
        f'Dir::Etc::SourceList "{folder}/sources.list"; Dir::Etc::SourceParts "{folder}/parts";\n'
        'APT::Sandbox::User ""; Acquire::Languages "none";\n'
    )
    for command in (["update", "--error-on=any"], ["download", "libonnxruntime-dev"]):
        done = subprocess.run(
            ["apt-get", *command],
            capture_output=True,
            text=True,
            cwd=folder,
            env=os.environ | {"APT_CONFIG": str(configuration)},
            check=False,
        )
        if done.returncode:
            pytest.skip(f"{HEADER} cannot be had: apt-get {command[0]} {SUITE}: {' '.join(done.stderr.split())[-300:]}")
    (package,) = folder.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", package, folder / "root"], check=True)
    return folder / "root" / "usr" / "include" / "onnxruntime"


@pytest.fixture(scope="session")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the headers."""
    for folder in (Path("/usr/include/onnxruntime"), Path("/usr/local/include/onnxruntime")):
        if (folder / HEADER).exists():
            return folder
    return debian_headers(tmp_path_factory.mktemp("apt"))


@pytest.fixture(scope="session")
def cmake(tmp_path_factory: pytest.TempPathFactory) -> str:
    """PATH with cmake on it."""
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("there is no C++ compiler")
    if shutil.which("cmake"):
        return os.environ["PATH"]
    if shutil.which("uv") is None:
        pytest.skip("neither cmake nor uv, which could fetch it, is installed")
    folder = tmp_path_factory.mktemp("cmake")
    (folder / "cmake").write_text('#!/bin/sh\nexec uv tool run cmake "$@"\n')
    (folder / "cmake").chmod(0o755)
    done = subprocess.run([folder / "cmake", "--version"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cmake is not installed, and uv cannot fetch it: {' '.join(done.stderr.split())[-300:]}")
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(scope="session")
def workplace(headers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runtime/cpp`, and `onnxruntime` with these headers and the library of this Python."""
    folder = tmp_path_factory.mktemp("cpp")
    (folder / "runtime").mkdir()
    (folder / "runtime" / "cpp").symlink_to(SOURCE)
    (folder / "onnxruntime").mkdir()
    (folder / "onnxruntime" / "include").symlink_to(headers)
    done = shell(readme("library"), folder)
    assert done.returncode == 0, done.stderr
    found = importlib.util.find_spec("onnxruntime")
    assert found is not None
    assert found.origin is not None
    library = (folder / "onnxruntime" / "lib" / "libonnxruntime.so").resolve()
    assert library.is_file()
    assert library.parent == Path(found.origin).resolve().parent / "capi"
    return folder


@pytest.fixture(scope="session")
def program(workplace: Path, cmake: str) -> Path:
    """Built as the README says, with every warning an error."""
    done = subprocess.run(
        ["bash", "-euc", readme("build")],
        capture_output=True,
        text=True,
        cwd=workplace,
        env=os.environ | {"PATH": cmake, "CXXFLAGS": "-Wall -Wextra -Wpedantic -Werror"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return workplace / "build" / "padim-edge-judge"
