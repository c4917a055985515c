"""The help: options in groups, the same everywhere, completion, and commands of other packages by entry points."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

import padim_edge_runtime
from padim_edge_runtime.cli import app, program
from padim_edge_runtime.cli.options import DECISION, DEVICE, DEVICE_HELP, INPUT, OUTPUT, devices
from padim_edge_runtime.devices.providers import DEVICES

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
OWN = ("infer", "inspect", "card", "verify", "bundle", "unbundle", "doctor", "warm", "bench")

HELP_RATIO = 3
"""Largest processor time of `padim-edge --help`, as a multiple of that of the libraries which draw it; 1.8 to 2.3 were
measured."""


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    return result.output


def test_the_devices_commands_are_there_and_those_of_others_come_by_entry_points() -> None:
    assert set(OWN) <= set(COMMANDS)
    groups = {entry.name: entry.value for entry in entry_points(group="padim_edge.commands")}
    assert groups["learn"] == "padim_edge_learn.cli:register"
    assert {"recalibrate", "update"} <= set(COMMANDS)
    modules = {name: command.callback.__module__ for name, command in COMMANDS.items()}
    assert {name for name, module in modules.items() if module.startswith("padim_edge_runtime.")} == set(OWN)
    for name in OWN:
        assert modules[name] == f"padim_edge_runtime.cli.{name}"


@pytest.mark.parametrize("name", OWN)
def test_options_stand_in_groups(name: str) -> None:
    for param in COMMANDS[name].params:
        if param.param_type_name == "option" and param.name != "help":
            assert param.rich_help_panel in (INPUT, DECISION, OUTPUT, DEVICE), param.name
            assert f"─ {param.rich_help_panel} ─" in shown(name)


def test_an_option_means_the_same_in_every_command_of_the_device() -> None:
    by_name: dict[str, set[tuple[str, ...]]] = {}
    for name in OWN:
        for param in COMMANDS[name].params:
            if param.param_type_name == "option":
                by_name.setdefault(param.name, set()).add(tuple(param.opts))
    assert {name: options for name, options in by_name.items() if len(options) > 1} == {}
    for name in ("infer", "bench"):
        (device,) = (param for param in COMMANDS[name].params if param.name == "device")
        assert (device.default, device.help) == ("auto", DEVICE_HELP)


@pytest.mark.parametrize("name", OWN)
def test_help_is_sentences_that_end(name: str) -> None:
    command = COMMANDS[name]
    assert command.help.endswith(".")
    for param in command.params:
        if param.param_type_name == "option":
            assert param.help.endswith("."), param.name
            assert not re.match(r"(Of|That|As|What|Where|Such)\b", param.help), param.name


def test_shells_can_complete() -> None:
    assert "--install-completion" in shown()
    assert "--show-completion" in shown()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("padim-edge insp", {"inspect"}),
        ("padim-edge infer --heat", {"--heatmaps"}),
        ("padim-edge infer --device c", {"cpu", "cuda"}),
        ("padim-edge verify --device a", {"auto"}),
    ],
)
def test_a_shell_gets_completions(typed: str, expected: set[str]) -> None:
    """The questions are those that bash asks after --install-completion."""
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1), "_PADIM_EDGE_COMPLETE": "complete_bash"}
    code = "import sys; sys.argv = ['padim-edge']\nfrom padim_edge_runtime.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **words}
    )
    assert set(done.stdout.split()) == expected


@pytest.mark.parametrize("name", COMMANDS)
def test_a_device_is_auto_by_default_or_the_help_says_what_and_why(name: str) -> None:
    for param in COMMANDS[name].params:
        if param.name == "device" and param.default != "auto":
            assert re.search(rf"By default {param.default or 'each usable one'}\b", param.help), param.help


@pytest.mark.parametrize("word", ["cpu", "CPU", "Cpu"])
def test_a_device_may_be_written_in_capitals(golden: Path, word: str) -> None:
    result = CliRunner().invoke(app, ["verify", str(golden), "--device", word, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["devices"].keys() == {"cpu"}


def test_the_device_words_are_those_of_the_runtime() -> None:
    assert devices() == ["auto", *DEVICES]
    assert all(word in DEVICE_HELP for word in devices())


@pytest.mark.parametrize("name", program.TOOLKIT)
@pytest.mark.parametrize("arguments", [(), ("--help",), ("--data", "good")])
def test_commands_of_the_toolkit_say_where_they_are(
    monkeypatch: pytest.MonkeyPatch, name: str, arguments: tuple[str, ...]
) -> None:
    """On a device, which has the runtime only."""
    own = [each for each in app.registered_commands if each.callback.__module__.startswith("padim_edge_runtime.")]
    monkeypatch.setattr(app, "registered_commands", own)
    result = CliRunner().invoke(app, [name, *arguments])
    assert result.exit_code == 1
    assert f"{name} is a command of the package padim-edge" in result.stderr
    assert "install padim-edge" in result.stderr
    assert CliRunner().invoke(app, ["bake"]).exit_code == 2  # a word that is nobody's command


def test_the_version_is_that_of_the_package() -> None:
    assert padim_edge_runtime.__version__ == version("padim-edge-runtime")
    assert padim_edge_runtime.__version__ in CliRunner().invoke(app, ["--version"]).stdout


def test_help_takes_little_more_than_its_libraries() -> None:
    """The best of some runs, since the first one compiles; a ratio, since processors differ and have other work."""
    libraries = "import typer, typer.rich_utils, rich.markdown, rich.panel, rich.table"
    help_ = "sys.argv = ['padim-edge', '--help']; from padim_edge_runtime.cli import main; main()"
    cached = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def seconds(program: str) -> float:
        code = f"import sys, time\ntry:\n    {program}\nfinally:\n    print(time.process_time())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=cached)
        return float(done.stdout.splitlines()[-1])

    found, least = (min(seconds(program) for _ in range(4)) for program in (help_, libraries))
    assert found < HELP_RATIO * least
