"""`padim-edge bench`: figures that fit together, sensors where there are some, one sentence where it cannot be done."""

from __future__ import annotations

import json
from pathlib import Path

import golden
import pytest
from commands import run

from padim_edge_runtime.bench import sensors
from padim_edge_runtime.bench.measure import FEWEST, Workload, bench
from padim_edge_runtime.memory import resident


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return golden.copy(golden.CROPPED, tmp_path_factory.mktemp("model"))


def test_its_figures_fit_together(model: Path) -> None:
    parts: list[int] = []
    found = bench(model, "cpu", Workload((1, 3), 0.2), progress=parts.append)
    assert (found.device, found.model, found.refused) == ("cpu", model.name, ())
    assert found.calls >= FEWEST
    assert 0 < found.p50_ms <= found.p95_ms <= found.p99_ms
    assert found.first_ms > 0 < found.load_ms
    assert [each.batch for each in found.throughput] == [1, 3]
    for each in found.throughput:
        assert each.rate == pytest.approx(1e3 * each.batch / each.milliseconds, rel=0.05)
    assert len(parts) == Workload((1, 3)).parts == 4
    assert (found.memory is None) == (resident() is None)


def test_the_command_prints_a_table_and_json(model: Path) -> None:
    asked = ("bench", model, "--device", "cpu", "--seconds", 0.1, "--batch", "1,2")
    told = json.loads(run(*asked, "--json")[0])
    assert {
        "p50_ms",
        "p95_ms",
        "p99_ms",
        "first_ms",
        "throughput",
        "memory",
        "celsius",
        "watts",
        "device",
    } <= told.keys()
    stdout, _ = run(*asked)
    assert "p50" in stdout
    assert "batch of 2" in stdout
    assert "cpu; " in stdout


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--batch", "0"), "expected numbers from 1 to 1024"),
        (("--batch", "one"), "expected numbers from 1 to 1024"),
        (("--batch", ","), "expected numbers from 1 to 1024"),
        (("--device", "tpu"), "there is no device 'tpu'"),
        (("--device", "cuda"), "cuda"),
    ],
)
def test_bad_options_are_one_sentence(model: Path, options: tuple[str, str], sentence: str) -> None:
    _, stderr = run("bench", model, *options, code=1)
    assert sentence in stderr
    _, stderr = run("bench", model.with_name("none.onnx"), code=1)
    assert "does not exist" in stderr


def write(root: Path, files: dict[str, object]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")


def test_temperatures_of_zones_and_chips(tmp_path: Path) -> None:
    write(
        tmp_path / "class",
        {
            "thermal/thermal_zone0/type": "cpu-thermal",
            "thermal/thermal_zone0/temp": 51500,
            "thermal/thermal_zone1/type": "gpu-thermal",
            "thermal/thermal_zone1/temp": "",
            "hwmon/hwmon0/name": "coretemp",
            "hwmon/hwmon0/temp1_input": 40000,
            "hwmon/hwmon0/temp1_label": "Package",
            "hwmon/hwmon1/name": "nvme",
            "hwmon/hwmon1/temp1_input": 38850,
            "hwmon/hwmon2/name": "nvme",
            "hwmon/hwmon2/temp1_input": 30000,
        },
    )
    assert sensors.temperatures(tmp_path) == {
        "cpu-thermal": 51.5,
        "coretemp Package": 40.0,
        "nvme": 38.85,
        "nvme 2": 30.0,
    }


def test_power_of_a_jetson_and_of_a_chip_that_tells_it(tmp_path: Path) -> None:
    write(
        tmp_path / "class/hwmon",
        {
            "hwmon0/name": "ina3221",
            "hwmon0/in1_label": "VDD_IN",
            "hwmon0/in1_input": 5000,
            "hwmon0/curr1_input": 1200,
            "hwmon0/curr2_input": 300,
            "hwmon1/name": "amdgpu",
            "hwmon1/power1_input": 15_000_000,
        },
    )
    assert sensors.power(tmp_path) == {"ina3221 VDD_IN": 6.0, "amdgpu": 15.0}


def test_energy_of_whole_packages_only(tmp_path: Path) -> None:
    write(
        tmp_path / "class/powercap",
        {
            "intel-rapl:0/name": "package-0",
            "intel-rapl:0/energy_uj": 2_500_000,
            "intel-rapl:0:0/name": "core",
            "intel-rapl:0:0/energy_uj": 1_000_000,
        },
    )
    assert sensors.energy(tmp_path) == {"package-0": 2.5}


def test_without_sensors_there_is_nothing(tmp_path: Path) -> None:
    assert sensors.temperatures(tmp_path) == sensors.power(tmp_path) == sensors.energy(tmp_path) == {}


def test_heat_and_power_stand_in_the_result(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    degrees = iter((40.0, 45.0))
    joules = iter((100.0, 100.5))
    monkeypatch.setattr(sensors, "temperatures", lambda: {"cpu": next(degrees)})
    monkeypatch.setattr(sensors, "power", lambda: {"VDD_IN": 5.0})
    monkeypatch.setattr(sensors, "energy", lambda: {"package-0": next(joules)})
    found = bench(model, "cpu", Workload((), 0.1))
    assert found.celsius == {"cpu": (40.0, 45.0)}
    assert found.watts["VDD_IN"] == 5.0
    assert found.watts["package-0"] > 0
