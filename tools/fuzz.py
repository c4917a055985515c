"""Search for inputs that no reader expects, guided by the lines of code that an input reaches (atheris, libFuzzer).

    uv run --group fuzz python -m tools.fuzz metadata --minutes 5 --corpus build/fuzz

The corpus begins with whole files and grows by every input that reaches something new, so a later run goes on where
this one ended. An input that ends in anything but an answer or one of our own errors is kept beside the corpus, and the
command exits with another status than 0. `benchmarks.attack` runs seeded mutants instead, in children.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

try:
    import atheris
except ImportError:
    sys.exit("atheris is not installed; run this with uv run --group fuzz")

with atheris.instrument_imports(include=["padim_edge_artifact", "padim_edge_runtime", "padim_edge_model"]):
    from attack.complete import COMPLETE, as_json
    from attack.families import use_metadata
    from drawn_statistics import REMEMBERED, SOME

    from padim_edge_artifact import PadimEdgeError
    from padim_edge_artifact.container import described
    from padim_edge_artifact.external_data import check_graph, tensor_names
    from padim_edge_artifact.kept import read_kept, write_kept
    from padim_edge_artifact.metadata import from_json, to_json
    from padim_edge_runtime import image_files

__all__: list[str] = []

_SCRATCH = Path(tempfile.mkdtemp(prefix="padim-edge-fuzz-"))


def _metadata(content: bytes) -> None:
    use_metadata(from_json(content.decode("utf-8", "surrogatepass")))


def _model(content: bytes) -> None:
    described(Path("m.onnx"), content)
    check_graph(content, "golden_data.onnx.data")
    tensor_names(content)


def _statistics(content: bytes) -> None:
    path = _SCRATCH / "s.npz"
    path.write_bytes(content)
    assert read_kept(path).statistics.digest()


def _image(content: bytes) -> None:
    image_files.decode(content)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "metadata": _metadata,
    "model": _model,
    "statistics": _statistics,
    "image": _image,
}
"""Readers by name."""


def _seeds(target: str) -> dict[str, bytes]:
    """Return whole files to begin with."""
    if target == "metadata":
        return {"complete": to_json(COMPLETE).encode(), "spaced": json.dumps(as_json(), indent=1).encode()}
    if target == "model":
        return {path.name: path.read_bytes() for path in (ROOT / "tests" / "runtime").glob("golden*.onnx")}
    if target == "statistics":
        found = {}
        for name, kept in (("gaussians", SOME), ("memory", REMEMBERED)):
            write_kept(_SCRATCH / name, kept)
            found[name] = (_SCRATCH / name).read_bytes()
        return found
    from attack.mutated_images import originals

    return originals()


def main() -> None:
    """Run the command; libFuzzer ends the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--corpus", type=Path, default=ROOT / "build" / "fuzz", help="Folder that grows.")
    options = parser.parse_args()
    folder = options.corpus / options.target
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in _seeds(options.target).items():
        (folder / name).write_bytes(content)
    attempt = TARGETS[options.target]

    def one(content: bytes) -> None:
        with contextlib.suppress(PadimEdgeError, UnicodeError if attempt is _metadata else PadimEdgeError):
            try:
                attempt(content)
            except (ValueError, IndexError):
                if attempt is not _model:  # whose parts raise them for their caller to tell
                    raise

    words = [f"-max_total_time={options.minutes * 60:.0f}", "-timeout=30", "-rss_limit_mb=2048", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *words, f"-artifact_prefix={options.corpus}/{options.target}-", str(folder)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
