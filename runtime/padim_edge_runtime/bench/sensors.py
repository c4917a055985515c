"""Temperatures and power, from the files in which Linux shows them: thermal zones, hwmon, energy counters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["energy", "power", "temperatures"]

SYS = Path("/sys")


def temperatures(root: Path = SYS) -> dict[str, float]:
    """Read temperatures in degrees Celsius by name; empty where the system shows none.

    Args:
        root: Folder that holds `class`; another one for tests.
    """
    found: dict[str, float] = {}
    for zone in sorted((root / "class/thermal").glob("thermal_zone*")):
        _add(found, _text(zone / "type") or zone.name, _number(zone / "temp"), 1e-3)
    for chip, name in _chips(root):
        for file in sorted(chip.glob("temp*_input")):
            label = _text(chip / file.name.replace("_input", "_label"))
            _add(found, f"{name} {label}" if label else name, _number(file), 1e-3)
    return found


def power(root: Path = SYS) -> dict[str, float]:
    """Read power in watts by name, from sensors of power or of voltage and current (such as the INA3221 of Jetsons).

    Args:
        root: Folder that holds `class`; another one for tests.
    """
    found: dict[str, float] = {}
    for chip, name in _chips(root):
        for file in sorted(chip.glob("power*_input")):
            label = _text(chip / file.name.replace("_input", "_label"))
            _add(found, f"{name} {label}" if label else name, _number(file), 1e-6)
        for file in sorted(chip.glob("curr*_input")):
            number = file.name[4:-6]
            label = _text(chip / f"in{number}_label")
            volts, amperes = _number(chip / f"in{number}_input"), _number(file)
            if volts is not None and amperes is not None:
                _add(found, f"{name} {label}" if label else f"{name} {number}", volts * amperes, 1e-6)
    return found


def energy(root: Path = SYS) -> dict[str, float]:
    """Read the energy in joules that processors have counted (RAPL), by name. A full counter starts again at 0.

    Args:
        root: Folder that holds `class`; another one for tests.
    """
    found: dict[str, float] = {}
    for zone in sorted((root / "class/powercap").glob("*:*")):
        if zone.name.count(":") == 1:  # a whole package, which includes its parts
            _add(found, _text(zone / "name") or zone.name, _number(zone / "energy_uj"), 1e-6)
    return found


def _chips(root: Path) -> Iterator[tuple[Path, str]]:
    for chip in sorted((root / "class/hwmon").glob("hwmon*")):
        yield chip, _text(chip / "name") or chip.name


def _add(found: dict[str, float], name: str, value: float | None, unit: float) -> None:
    """Add a value under a free name, since two sensors of one kind have the same."""
    if value is None:
        return
    free = next(each for number in range(1, 1000) if (each := name if number == 1 else f"{name} {number}") not in found)
    found[free] = round(value * unit, 3)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:  # many need rights
        return ""


def _number(file: Path) -> float | None:
    try:
        return float(_text(file))
    except ValueError:
        return None
