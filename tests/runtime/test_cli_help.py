"""The help: options in groups, the same everywhere, completion, and commands of other packages by entry points."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from padim_edge_runtime.cli import app
from padim_edge_runtime.cli.options import DECISION, DEVICE, DEVICE_HELP, INPUT, OUTPUT

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
OWN = ("infer", "inspect", "verify", "doctor", "warm", "bench")

HELP_SECONDS = 0.4
"""Bound on `padim-edge --help`, of processor time: other programs on a machine must not make it fail."""


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


def test_help_is_quick() -> None:
    """The best of some runs, since the first one compiles."""
    program = "from padim_edge_runtime.cli import main; main()"
    arguments = "sys.argv = ['padim-edge', '--help']"
    code = f"import sys, time\n{arguments}\ntry:\n    {program}\nfinally:\n    print(time.process_time())"
    cached = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code]
    found = [subprocess.run(command, capture_output=True, text=True, check=True, env=cached).stdout for _ in range(3)]
    assert min(float(each.splitlines()[-1]) for each in found) < HELP_SECONDS
