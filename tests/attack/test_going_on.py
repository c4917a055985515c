"""One thing that fails costs that thing: maps that cannot be written, closed streams, poor environments, signals."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import commands
import drawn_images
import numpy as np
import pytest
from PIL import Image

from padim_edge_artifact import PadimEdgeError
from padim_edge_runtime import Detector, Inspection, heatmaps, inspection, overlay
from padim_edge_runtime.results import Table, cell
from padim_edge_runtime.terminal_text import visible

pytestmark = pytest.mark.skipif(os.name != "posix", reason="streams and signals of Unix")


def images(folder: Path, count: int = 3) -> Path:
    folder.mkdir()
    for number in range(count):
        drawn_images.good(number).save(folder / f"{number}.png")
    return folder


def process(*arguments: object, shell: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process; `shell` holds redirections."""
    command = [sys.executable, "-m", "padim_edge_runtime", *map(str, arguments)]
    line = ["/bin/sh", "-c", f'exec "$@" {shell}', "sh", *command]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, check=False, **options)


class TestMaps:
    """A heat map or an anomaly map that fails costs itself only."""

    @pytest.mark.parametrize("option", ["--heatmaps", "--maps"])
    def test_a_name_that_is_too_long(self, golden: Path, tmp_path: Path, option: str) -> None:
        folder = images(tmp_path / "images")
        drawn_images.good(1).save(buffer := io.BytesIO(), "PNG")
        for length in (240, 251, 255):
            (folder / ("n" * length)).write_bytes(buffer.getvalue())
        given = [*sorted(folder.iterdir())]
        stdout, stderr = commands.run("infer", golden, *given, "--device", "cpu", option, tmp_path / "maps", code=1)
        assert len(stdout.splitlines()) == 6
        assert 1 <= sum("was not written" in line for line in stderr.splitlines()) <= 2
        assert {"0", "1", "2"} <= {path.stem for path in (tmp_path / "maps").iterdir()}
        assert not [path for path in (tmp_path / "maps").iterdir() if path.name.startswith(".")]

    @pytest.mark.parametrize("error", [MemoryError(), OSError(28, "No space left on device"), ValueError("odd")])
    def test_whatever_drawing_raises(
        self, golden: Path, tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = images(tmp_path / "images", 6)
        drawn = Inspection.overlay

        def failing(inspected: Inspection) -> Image.Image:
            if inspected.path is not None and inspected.path.stem in "14":
                raise error
            return drawn(inspected)

        monkeypatch.setattr(Inspection, "overlay", failing)
        stdout, stderr = commands.run(
            "infer", golden, folder, "--device", "cpu", "--heatmaps", tmp_path / "heat", code=1
        )
        assert len(stdout.splitlines()) == 6
        told = [line for line in stderr.splitlines() if "was not written" in line]
        assert len(told) == 2
        assert all("the heat map of" in line for line in told)
        assert "0 unreadable, 2 maps not written" in stderr
        assert sorted(path.stem for path in (tmp_path / "heat").iterdir()) == ["0", "2", "3", "5"]

    def test_a_caller_of_the_library_gets_the_error(self, golden: Path, tmp_path: Path) -> None:
        folder = images(tmp_path / "images", 1)
        file = folder / "0.png"
        hook = heatmaps.heat_maps(tmp_path / "heat", [(file, Path("0.png"))], workers=1)
        (tmp_path / "heat").rmdir()
        (tmp_path / "heat").write_text("a file", encoding="utf-8")
        with pytest.raises(PadimEdgeError, match="was not written"):
            list(Detector.load(golden, "cpu").inspect_many([file], hook=hook))

    @pytest.mark.slow
    def test_a_large_image_needs_600_megabytes(self, golden: Path, tmp_path: Path) -> None:
        if sys.platform != "linux":
            pytest.skip("only Linux tells the peak of the memory in /proc")
        drawn_images.defective(1, (4000, 6000))[0].save(path := tmp_path / "large.png", compress_level=1)
        program = (
            "import sys\nfrom padim_edge_runtime.cli import app\n"
            "from padim_edge_runtime.memory import peak_memory\n"
            "try:\n    app(sys.argv[1:])\nfinally:\n    print(peak_memory() // 10**6)\n"
        )
        command = [sys.executable, "-c", program, "infer", golden, path, path, "--heatmaps", tmp_path / "heat"]
        done = subprocess.run([*map(str, command), "--device", "cpu"], capture_output=True, text=True, check=True)
        assert int(done.stdout.splitlines()[-1]) < 600, done.stdout
        with Image.open(tmp_path / "heat" / "large.png") as written:
            assert written.size == (6000, 4000)
        print(done.stdout.splitlines()[-1], "MB")


class TestStrips:
    """A heat map that is drawn in strips is the one that is drawn at once."""

    @pytest.mark.parametrize("size", [(96, 96), (131, 77), (40, 400), (400, 40), (400, 350), (8, 8)])
    @pytest.mark.parametrize("threshold", [None, 0.0, 1e9])
    @pytest.mark.parametrize("model", ["golden", "golden_data"])
    def test_strips_give_the_whole(
        self, size: tuple[int, int], threshold: float | None, model: str, request: pytest.FixtureRequest
    ) -> None:
        detector = Detector.load(request.getfixturevalue(model), "cpu", threads=1)
        pixels = drawn_images.noise(3, size) // 2 + np.asarray(drawn_images.good(1, size)) // 2
        inspected = detector.inspect(pixels, threshold=threshold)
        drawn = []
        for at_once in (3 * size[1], 20_000, 1 << 30):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(overlay, "_AT_ONCE", at_once)
                drawn.append(np.asarray(inspected.overlay()))
        assert np.array_equal(drawn[0], drawn[2])
        assert np.array_equal(drawn[1], drawn[2])

    def test_grey_images_and_maps_given_as_a_whole(self) -> None:
        grey = drawn_images.good(1, (60, 90)).convert("L")
        levels = np.linspace(0, 30, 60 * 90, dtype=np.float32).reshape(60, 90)
        levels[:4] = np.nan
        options: Any = {"verdict": "good", "score": 1.0}
        first = overlay.overlay(grey, levels, 10.0, **options)
        second = overlay.overlay(grey.convert("RGB"), lambda rows: levels[slice(*rows)], 10.0, **options)
        assert np.array_equal(np.asarray(first), np.asarray(second))


class TestStreams:
    """Results reach whoever can be told."""

    @pytest.mark.parametrize(
        ("shell", "code", "lines"),
        [
            ("2>&-", 0, 3),
            pytest.param(">&-", 0, 0, marks=pytest.mark.slow),
            pytest.param("<&- >&- 2>&-", 0, 0, marks=pytest.mark.slow),
            pytest.param("2>/dev/full", 0, 3, marks=pytest.mark.slow),
            (">/dev/full", 1, 0),
            pytest.param(">/dev/full 2>/dev/full", 1, 0, marks=pytest.mark.slow),
        ],
    )
    def test_closed_and_full_streams(self, golden: Path, tmp_path: Path, shell: str, code: int, lines: int) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("this system has no /dev/full")
        folder, table = images(tmp_path / "images"), tmp_path / "t.csv"
        done = process("infer", golden, folder, "--device", "cpu", "--csv", table, shell=shell)
        assert done.returncode == code, done.stderr
        assert len(done.stdout.splitlines()) == lines
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
        if code:
            assert not table.exists()
            assert "results could not be printed" in done.stderr or "2>" in shell
        else:
            rows = list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))))
            assert len(rows) == 3, "and nothing of a stream is in the file"

    @pytest.mark.slow
    @pytest.mark.parametrize("command", [("--help",), ("--version",), ("infer", "--help")])
    @pytest.mark.parametrize("shell", ["2>&-", ">&-", "<&-"])
    def test_help_with_closed_streams(self, command: tuple[str, ...], shell: str) -> None:
        done = process(*command, shell=shell)
        assert done.returncode == 0, done.stderr
        assert bool(done.stdout) == (shell != ">&-")

    @pytest.mark.slow
    def test_a_reader_of_stderr_that_goes_away_stops_nothing(self, golden: Path, tmp_path: Path) -> None:
        folder = images(tmp_path / "images")
        (folder / "bad.png").write_bytes(b"")
        command = [sys.executable, "-m", "padim_edge_runtime", "infer", golden, folder, "--device", "cpu"]
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [*map(str, command)], stdout=subprocess.PIPE, stderr=writing, text=True, timeout=120, check=False
        )
        os.close(writing)
        assert done.returncode == 1
        assert len(done.stdout.splitlines()) == 3

    @pytest.mark.slow
    def test_a_poor_environment(self, golden: Path, tmp_path: Path) -> None:
        """No HOME, plain C, ASCII, a dumb terminal, and a folder that cannot be written to."""
        folder = images(tmp_path / "images")
        (folder / "0.png").rename(folder / "grün 图.png")
        home = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        poor = {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "TERM": "dumb", "PYTHONUTF8": "0"}
        (tmp_path / "shut").mkdir(mode=0o555)
        for command in (("infer", golden, folder, "--device", "cpu"), ("inspect", golden), ("verify", golden)):
            done = process(*command, env=home | poor, cwd=tmp_path / "shut")
            assert done.returncode == 0, done.stderr
            assert "Traceback" not in done.stderr
            assert done.stdout.isascii()

    @pytest.mark.slow
    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the whole address space")
    def test_an_image_beyond_the_address_space_costs_that_image(self, golden: Path, tmp_path: Path) -> None:
        folder = images(tmp_path / "images")
        Image.new("RGB", (13_000, 13_000)).save(folder / "large.bmp")
        program = (
            "import resource, sys\nfrom padim_edge_runtime import Detector\nfrom padim_edge_runtime.cli import app\n"
            "Detector.load(sys.argv[2], 'cpu')\n"
            "pages = int(open('/proc/self/statm').read().split()[0])\n"
            "limit = pages * resource.getpagesize() + 400_000_000\n"
            "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\napp(sys.argv[1:])\n"
        )
        command = [sys.executable, "-c", program, "infer", str(golden), str(folder), "--device", "cpu"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 1, done.stderr
        assert len(done.stdout.splitlines()) == 3
        assert "large.bmp takes more memory than this process may use" in done.stderr


class TestSignals:
    """SIGTERM ends a command as Ctrl-C does."""

    PROGRAM = (
        "import time\nfrom pathlib import Path\n"
        "from padim_edge_artifact.files import replacing\n"
        "from padim_edge_runtime.cli import app, main\n"
        "@app.command()\n"
        "def work() -> None:\n"
        "    with replacing(Path('final')) as temporary:\n"
        "        temporary.write_text('half')\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
        "main()\n"
    )

    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
    def test_it_tidies_up_and_says_one_sentence(self, tmp_path: Path, how: signal.Signals) -> None:
        (tmp_path / "worked.py").write_text(self.PROGRAM, encoding="utf-8")
        started = self.started(tmp_path)
        started.send_signal(how)
        _, stderr = started.communicate(timeout=60)
        word, code = ("ended by SIGTERM", 143) if how == signal.SIGTERM else ("interrupted", 1)
        assert started.returncode == code
        assert stderr.strip() == f"padim-edge: {word}; nothing unfinished stands under a final name"
        assert [path.name for path in tmp_path.iterdir() if "final" in path.name] == []

    @pytest.mark.slow
    def test_where_it_is_ignored_it_stays_ignored(self, tmp_path: Path) -> None:
        (tmp_path / "worked.py").write_text(self.PROGRAM.replace("60", "1"), encoding="utf-8")
        started = self.started(tmp_path, preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN))
        started.send_signal(signal.SIGTERM)
        started.communicate(timeout=60)
        assert started.returncode == 0
        assert (tmp_path / "final").read_text(encoding="utf-8") == "half"

    @pytest.mark.slow
    def test_an_inference_in_progress_ends_soon(self, golden: Path, tmp_path: Path) -> None:
        folder = images(tmp_path / "images", 2)
        given = [folder / "0.png", folder / "1.png"] * 5_000
        listed = json.dumps([*map(str, given)])
        program = (
            "import json, sys\nfrom padim_edge_runtime.cli import program\n"
            "given = json.loads(sys.stdin.read())\n"
            "sys.argv[1:] = ['infer', sys.argv[1], *given, '--device', 'cpu', '--csv', 't.csv']\n"
            "program.main()\n"
        )
        command = [sys.executable, "-c", program, str(golden)]
        started = subprocess.Popen(
            command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert started.stdin is not None
        assert started.stdout is not None
        started.stdin.write(listed)
        started.stdin.close()
        started.stdin = None
        assert started.stdout.readline().startswith("good")
        begin = time.monotonic()
        started.send_signal(signal.SIGTERM)
        _, stderr = started.communicate(timeout=60)
        assert started.returncode == 143
        assert time.monotonic() - begin < 20
        assert "ended by SIGTERM" in stderr.splitlines()[-1]
        assert [path.name for path in tmp_path.iterdir()] == ["images"]

    @staticmethod
    def started(folder: Path, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "worked", "work"]
        # A shell that starts tests in the background has them ignore Ctrl-C.
        options.setdefault("preexec_fn", lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
        made = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )
        assert made.stdout is not None
        assert made.stdout.readline() == "ready\n"
        return made


class TestNames:
    """Names of files come from others, and reach terminals and spreadsheets."""

    HOSTILE = ("a\x1b[2J\x1b[1;31mgood.png", "b\nanomalous  c.png", "d\r\x07.png", "e\x9b31m.png", "\x7f\x08f.png")

    def test_control_characters_do_not_reach_the_terminal(self, golden: Path, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        for name in self.HOSTILE:
            drawn_images.good(1).save(tmp_path / "images" / name, "PNG")
            (tmp_path / "images" / f"bad {name}").write_bytes(b"")
        stdout, stderr = commands.run("infer", golden, tmp_path / "images", "--device", "cpu", code=1)
        assert len(stdout.splitlines()) == len(self.HOSTILE), "one line for each image"
        for text in (stdout, stderr):
            assert not [each for each in text if ord(each) < 32 and each != "\n"]
            assert not [each for each in text if 0x7F <= ord(each) < 0xA0]
        assert "\\x1b[2J" in stdout
        assert "\\nanomalous" in stdout

    def test_json_names_the_very_file(self, golden: Path, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        for name in self.HOSTILE:
            drawn_images.good(1).save(tmp_path / "images" / name, "PNG")
        stdout, _ = commands.run("infer", golden, tmp_path / "images", "--device", "cpu", "--json")
        assert {Path(json.loads(line)["path"]).name for line in stdout.splitlines()} == set(self.HOSTILE)

    def test_visible_text_is_one_line_and_leaves_other_letters_alone(self) -> None:
        for point in (*range(0x300), 0x2028, 0x2029, 0x56FE, 0x1F600, 0xDCE9):
            shown = visible(f"a{chr(point)}b")
            assert len(shown.splitlines()) == 1
            controlled = point < 32 or 0x7F <= point < 0xA0 or point in (0x2028, 0x2029)
            assert (shown == f"a{chr(point)}b") == (not controlled)

    @pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
    def test_no_cell_of_a_table_is_a_formula(
        self, golden: Path, tmp_path: Path, first: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        name = f"{first}cmd|' C calc'!A0.png"
        drawn_images.good(1).save(name, "PNG")
        file = io.StringIO(newline="")
        table = Table(file)
        table.add(Detector.load(golden, "cpu").inspect(name))
        table.add(inspection.Unreadable(Path(name), f"{name} is empty"))
        for row in csv.DictReader(io.StringIO(file.getvalue())):
            assert row["path"] == f"'{name}"
            for column, value in row.items():
                assert column == "shift" or not value.startswith(("=", "+", "-", "@", "\t", "\r")), column

    def test_numbers_of_a_table_stay_numbers(self) -> None:
        for value in (-1.5, 0, -7, True, None, "a=b", "", " =1", "good"):
            assert cell(value) == value
        assert cell("-1.5") == "'-1.5", "a text that looks like a number is a name"
