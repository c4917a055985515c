"""One child of `attack.children`: takes mutants one after another and says on stdout what became of each."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from pathlib import Path

__all__: list[str] = []

_OURS = (".py", ".pyc", ".so", ".pth")
_SYSTEM = ("/proc/", "/sys/", "/etc/os-release")  # read by onnxruntime when it is imported


def _limit_memory(extra: int) -> None:
    """Let this process take so many bytes more than it has now."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _say(number: int, outcome: str, seconds: float = 0.0, told: str = "") -> None:
    told = " ".join(told.split())[:400]
    text = f"{number} {outcome} {seconds:.3f} {_peak()} {told}\n"
    os.write(1, text.encode(errors="backslashreplace"))


def main(family: str, seed: int, start: int, stop: int, folder: Path) -> None:
    """Take the mutants `start` to `stop` of a family."""
    from attack.children import MEMORY
    from attack.families import FAMILIES

    from padim_edge_artifact import PadimEdgeError

    attempt = FAMILIES[family] if family != "harness" else _harness
    if family == "weights":
        import attack.weights  # noqa: F401  # torch takes more memory than any mutant
    for number in range(3) if family != "harness" else ():
        with contextlib.suppress(Exception):  # what is imported or set up late, before the limit
            attempt(0, number, folder)
    opened: list[str] = []
    watched = [False]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watched[0] and event == "open" and isinstance(arguments[0], str | os.PathLike):
            opened.append(os.fspath(arguments[0]))  # type: ignore[arg-type]

    sys.addaudithook(hook)
    _limit_memory(MEMORY)
    roots = (str(folder), str(Path(__file__).parents[1]), sys.prefix, sys.base_prefix)
    for number in range(start, stop):
        _say(number, "began")
        opened.clear()
        began, watched[0] = time.monotonic(), True
        outcome, told = "answered", ""
        try:
            attempt(seed, number, folder)
        except PadimEdgeError as error:
            outcome, told = "refused", str(error)
            if "\n" in told or not told.isprintable() or len(told) > 2000:
                outcome = "traceback"  # no sentence
        except Exception as error:  # noqa: BLE001  # this is what is looked for
            last = traceback.extract_tb(error.__traceback__)[-1]
            outcome, told = "traceback", f"{type(error).__name__}: {error} at {last.filename}:{last.lineno}"
        watched[0] = False
        away = [each for each in opened if each.startswith("/") and not each.startswith((*roots, *_SYSTEM))]
        away = [each for each in away if not each.endswith(_OURS)]
        if away and outcome != "traceback":
            outcome, told = "outside", away[0]
        if _peak() > 2 * MEMORY:
            outcome, told = "over_memory", f"{_peak()} bytes"
        _say(number, outcome, time.monotonic() - began, told)


def _harness(_: int, number: int, folder: Path) -> None:
    """Misbehave in every way that the harness must see."""
    from padim_edge_artifact import PadimEdgeError

    match number:
        case 1:
            raise PadimEdgeError("a sentence")
        case 2:
            raise ValueError("no sentence")
        case 3:
            os.abort()
        case 4:
            time.sleep(600)
        case 5:
            bytearray(8 << 30)
        case 6:
            Path("/etc/hostname").open().close()
        case 7:
            raise PadimEdgeError("two\nlines")
        case _:
            (folder / "own").write_text("")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
