"""Judge a folder or bucket on many machines with Ray: python examples/archive/ray_archive.py MODEL SOURCE OUTPUT.

SOURCE and OUTPUT are folders, or addresses that fsspec opens, such as s3://bucket/folder. Each part of the work becomes
one Parquet file with the fields of `infer --json`. Give the same command again to go on after whatever ended it, and
for images that have come since. It needs `pip install "padim-edge-runtime[cpu]" "ray[data]" fsspec`; buckets need s3fs,
gcsfs or adlfs as well.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from threading import Timer
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet
from fsspec.implementations.local import LocalFileSystem

from padim_edge_artifact.container import read_verified
from padim_edge_artifact.files import flush, scratch
from padim_edge_runtime import Detector, ImageError, PadimEdgeError
from padim_edge_runtime.image_formats import SUFFIXES
from padim_edge_runtime.image_search import Found, search
from padim_edge_runtime.prefetch import cores, in_order
from padim_edge_runtime.terminal_text import visible

STAMPS = ("ETag", "etag", "md5Hash", "generation", "mtime", "LastModified", "last_modified", "updated", "created")
"""Keys by which file systems say that a file has changed; the first that is there counts."""
READERS, TRIES = 8, 3
"""Images that a worker reads at a time, and the number of times that it tries to read each."""
DEATHS = 4
"""Workers that may die over one part. A bad image must not kill one worker after the other without end."""
NOTES, MODEL = "_begun", "_model"
"""Folders beside the parts: what workers have begun, and the model."""
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_LOG_LEVEL": "ERROR", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
"""Ray tells nobody of its use, and starts no workers by `uv run` in a project that need not have Ray."""
EVERY, FIRST = 10.0, 60.0
"""Seconds between two lines about the progress, and until a word that no part is done yet."""

WHOLES = pa.list_(pa.int32())
REGION = {"box": WHOLES, "area": pa.int64(), "share": pa.float64(), "peak": WHOLES, "score": pa.float64()}
SCHEMA = pa.schema(
    {
        "path": pa.string(),  # inside SOURCE, so that it does not depend on where a machine has mounted that
        "verdict": pa.string(),
        **dict.fromkeys(("score", "p_value", "threshold"), pa.float64()),
        "anomalous": pa.bool_(),
        "regions": pa.list_(pa.struct(list(REGION.items()))),
        **dict.fromkeys(("width", "height"), pa.int32()),
        "milliseconds": pa.float64(),
        "shift": WHOLES,
        **dict.fromkeys(("warnings", "notes"), pa.list_(pa.string())),
        "error": pa.string(),
        "size": pa.int64(),
        "stamp": pa.string(),
    }
)
"""Columns: the fields of `infer --json`, then size and stamp, which tell one state of a file from the next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Image:
    """An image of the archive as it was listed."""

    name: str
    """Path inside the archive, with slashes."""
    size: int | None
    """Size in bytes; `None` where it is unknown."""
    stamp: str
    """Time of the last change, or the storage's own digest of the content."""

    @property
    def shown(self) -> str:
        """The name as text, since names of files need not be."""
        return self.name.encode("utf-8", "backslashreplace").decode()

    @property
    def key(self) -> bytes:
        """Digest by which it is known whether the image is done."""
        return key_of(self.shown, self.size, self.stamp)


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that a worker needs to know besides the images."""

    files: tuple[str, ...]
    """Names of the model's file and of its data file, which lie in `MODEL` beside the parts."""
    folder: str
    """Folder or address for the parts of this model."""
    run: str
    """Name of this run, for the notes of workers."""
    options: argparse.Namespace
    """Options of the command."""


def key_of(name: str, size: int | None, stamp: str) -> bytes:
    """Compute the digest that stands for one state of one file."""
    return blake2b(f"{name}\0{size}\0{stamp}".encode(), digest_size=16).digest()


def listed(source: str) -> tuple[list[Image], tuple[str, ...]]:
    """List the images of an archive by name, and say in sentences what lies there besides them.

    Raises:
        ImageError: There is no image, or a folder cannot be opened, so that images would be missing.
    """
    system, root = fsspec.core.url_to_fs(source)
    if isinstance(system, LocalFileSystem):  # as `infer` does: with links, and a word on folders that cannot be opened
        tree = search(Path(root))
        if tree.problems:
            raise ImageError(tree.problems[0].error)
        found = [_of_file(path, path.relative_to(root).as_posix()) for path in tree.files]
        images, remarks = sorted(found, key=lambda image: image.name), Found((), (tree,)).sentences()
    else:
        images, remarks = _objects(system, root)
    if not images:
        raise ImageError("the archive holds no images; expected some in SOURCE")
    return images, remarks


def _objects(system: Any, root: str) -> tuple[list[Image], tuple[str, ...]]:
    names = {path[len(root) :].strip("/"): about for path, about in system.find(root, detail=True).items()}
    images = [_of_object(name, names[name]) for name in sorted(names) if _is_image(name)]
    others = len(names) - len(images)
    return images, ((f"passed over: {others} files, hidden or without the ending of an image",) if others else ())


def _of_file(path: Path, name: str) -> Image:
    try:
        about = path.stat()
    except OSError:  # a link to nowhere; reading it gives the error
        return Image(name=name, size=None, stamp="")
    return Image(name=name, size=about.st_size, stamp=str(about.st_mtime_ns))


def _of_object(name: str, about: dict[str, Any]) -> Image:
    stamp = next((about[key] for key in STAMPS if about.get(key) is not None), "")
    text = stamp.isoformat() if isinstance(stamp, datetime) else str(stamp).strip('"')
    return Image(name=name, size=about.get("size"), stamp=text)


def _is_image(name: str) -> bool:
    return "/." not in f"/{name}" and os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 - no path of this machine


def parts(images: Sequence[Image], done: set[bytes], size: int) -> Iterator[list[Image]]:
    """Cut the archive into parts, and leave out of each what is done.

    The cuts do not depend on what is done, so a worker that outlives its job writes what the next job would write.
    """
    for first in range(0, len(images), size):
        if rest := [image for image in images[first : first + size] if image.key not in done]:
            yield rest


def name_of(part: Sequence[Image]) -> str:
    """Name a part after its images: the same images always get the same name."""
    return f"part-{blake2b(b''.join(image.key for image in part), digest_size=12).hexdigest()}.parquet"


def described(part: Sequence[Image]) -> str:
    """Write a part as text for a worker."""
    return json.dumps([asdict(image) for image in part])


def finished(folder: str, columns: Sequence[str] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield key, and the columns asked for, of each row in the parts that are there."""
    system, root = fsspec.core.url_to_fs(folder)
    system.invalidate_cache()  # others have written meanwhile
    wanted = ["path", "size", "stamp", *columns]

    def read(part: str) -> Any:
        copy = pa.BufferOutputStream()  # not Python's: Arrow's threads may free it after Python's end, and abort
        copy.write(system.cat_file(part))
        return pyarrow.parquet.ParquetFile(pa.BufferReader(copy.getvalue())).read(wanted, use_threads=False)

    for table in in_order(read, system.glob(f"{root}/part-*.parquet"), workers=2 * READERS, ahead=4 * READERS):
        for path, size, stamp, *others in zip(*(table[name].to_pylist() for name in wanted), strict=True):
            yield key_of(path, size, stamp), *others


def encoded(rows: Sequence[dict[str, Any]]) -> bytes:
    """Write rows as a Parquet file."""
    content = pa.BufferOutputStream()
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows, SCHEMA), content, compression="zstd")
    return content.getvalue().to_pybytes()


def write(folder: str, name: str, content: bytes) -> None:
    """Write a file whole or not at all, under its final name."""
    system, root = fsspec.core.url_to_fs(folder)
    if not isinstance(system, LocalFileSystem):
        system.pipe_file(f"{root}/{name}", content)  # an object is there when it is complete, and not before
        return
    unfinished = Path(root, f".{name}.{uuid.uuid4().hex}")
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    unfinished.write_bytes(content)
    flush(unfinished)
    unfinished.replace(Path(root, name))


def clear(folder: str) -> None:
    """Remove what killed workers have left: notes, and files that never got their name."""
    system, root = fsspec.core.url_to_fs(folder)
    for path in (*system.glob(f"{root}/{NOTES}/*"), *system.glob(f"{root}/.part-*")):
        system.rm(path)


class Judge:
    """A worker of Ray: holds the Detector, judges one part after the other and writes it.

    A worker that dies is replaced, and its part is judged anew. A part that stands there already is not.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._stack = ExitStack()
        here = self._stack.enter_context(scratch())
        system, root = fsspec.core.url_to_fs(f"{job.folder}/{MODEL}")
        for name in job.files:
            (here / name).write_bytes(system.cat_file(f"{root}/{name}"))
        self._detector = Detector.load(
            here / job.files[0], job.options.device, threads=1 if job.options.device == "cpu" else None
        )
        self._source, self._root = fsspec.core.url_to_fs(job.options.source)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Judge the parts of a batch; say of each how many images were written, and why others were not."""
        told = [self._part([Image(**each) for each in json.loads(part)]) for part in batch["part"].to_pylist()]
        return pa.table({"images": [count for count, _ in told], "reason": [reason for _, reason in told]})

    def _part(self, part: list[Image]) -> tuple[int, str]:
        folder, name = self._job.folder, name_of(part)
        system, root = fsspec.core.url_to_fs(folder)
        system.invalidate_cache()
        if system.exists(f"{root}/{name}"):
            return len(part), ""
        cpus = self._job.options.cpus
        try:
            notes = system.glob(f"{root}/{NOTES}/{self._job.run}-{name}-*")
            if len(notes) >= DEATHS:
                return 0, f"{DEATHS} workers died over {part[0].shown} or an image after it; look for it with --part 1"
            system.makedirs(f"{root}/{NOTES}", exist_ok=True)
            system.touch(f"{root}/{NOTES}/{self._job.run}-{name}-{len(notes)}")
            read = in_order(self._read, part, workers=READERS, ahead=2 * READERS)
            judged = list(in_order(self._row, read, workers=cpus, ahead=2 * cpus))
            rows = [row for row in judged if not isinstance(row, str)]
            reason = next((row for row in judged if isinstance(row, str)), "")
            if rows:
                write(folder, name, encoded(rows))
            system.rm(f"{root}/{NOTES}/{self._job.run}-{name}-{len(notes)}")
        except (OSError, PadimEdgeError) as error:  # the device or the disk; the next run tries again
            return 0, f"a part of {len(part)} images: {error}"
        return len(rows), reason

    def _read(self, image: Image) -> tuple[Image, bytes | OSError]:
        for attempt in range(TRIES):
            try:
                return image, self._source.cat_file(f"{self._root}/{image.name}")
            except FileNotFoundError as error:
                return image, error
            except OSError as error:
                lost = error
                time.sleep(2**attempt - 1)
        return image, lost

    def _row(self, read: tuple[Image, bytes | OSError]) -> dict[str, Any] | str:
        """Return the row of an image, or the reason why it stays open."""
        image, content = read
        try:
            if isinstance(content, FileNotFoundError):
                raise ImageError(f"{image.shown} is gone; it was there when the archive was listed")
            if isinstance(content, OSError):  # a network or rights: nothing is known of the image
                return f"{image.shown} could not be read ({content.strerror or type(content).__name__})"
            if image.size is not None and len(content) != image.size:
                return f"{image.shown} has {len(content)} bytes, and had {image.size} when the archive was listed"
            row = self._detector.inspect(content).to_json()
        except ImageError as error:
            row = {"error": str(error), "verdict": "unreadable"}
        return {**row, "path": image.shown, "size": image.size, "stamp": image.stamp}


def judge(job: Job, work: Sequence[list[Image]]) -> None:
    """Judge parts with Ray, and say on stderr how far it is."""
    for setting, value in SETTINGS.items():
        os.environ.setdefault(setting, value)
    import ray

    options, address = job.options, job.options.address or os.environ.get("RAY_ADDRESS")
    workers = options.workers or max(1, cores() // options.cpus)
    here = {} if address else {"num_cpus": workers * options.cpus, "include_dashboard": False}
    waiting = Timer(FIRST, tell, [f"no part is done after {FIRST:.0f} s; a cluster with no free CPU does not begin"])
    waiting.start()
    total, begun, last, count = sum(map(len, work)), time.monotonic(), 0.0, 0
    try:
        for _ in range(TRIES):  # a busy machine may take longer than Ray waits
            with suppress(Exception):
                ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **here)
                break
            ray.shutdown()
        else:
            raise RuntimeError("it did not start here, or there is none at the address")
        if address and not options.workers:
            workers = max(1, int(ray.cluster_resources().get("CPU", 1)) // options.cpus)
        for row in _told(job, work, workers):
            waiting.cancel()
            count += row["images"]
            if row["reason"]:
                tell(row["reason"])
            if (now := time.monotonic()) - last >= EVERY:
                last = now
                tell(f"{count} of {total} images, {count / (now - begun):.1f} a second")
    except Exception as error:  # noqa: BLE001 - Ray raises all kinds, and what is written stays written
        tell(f"Ray ended ({type(error).__name__}): {str(error).strip().splitlines()[-1]}")
    finally:
        waiting.cancel()
        ray.shutdown()


def _told(job: Job, work: Sequence[list[Image]], workers: int) -> Iterator[dict[str, Any]]:
    """Let workers judge parts, and yield what they say of each."""
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars, context.max_errored_blocks = False, -1  # a part that fails stops no other one
    items = ray.data.from_items([{"part": described(part)} for part in work], override_num_blocks=len(work))
    yield from items.map_batches(
        Judge,
        fn_constructor_args=(job,),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(work)), max_tasks_in_flight_per_actor=1),
        num_cpus=job.options.cpus,
        num_gpus=job.options.gpus or None,
    ).iter_rows()


def tell(sentence: str) -> None:
    """Print a line on stderr."""
    print(visible(sentence), file=sys.stderr, flush=True)


def main() -> int:
    """Judge what is not judged yet, then count the rows of every image; the exit code is 0 if each has exactly one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a model made by padim-edge export")
    parser.add_argument("source", help="folder or address of the images")
    parser.add_argument("output", help="folder or address for the results")
    parser.add_argument("--address", help="a running Ray cluster, such as auto; by default Ray is started here")
    parser.add_argument("--workers", type=int, help="number of workers; by default as many as the CPUs allow")
    parser.add_argument("--cpus", type=int, default=1, help="CPUs of a worker: images in the model at a time")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of a worker; with --device cuda")
    parser.add_argument("--device", default="cpu", help="device for the model")
    parser.add_argument("--part", type=int, default=500, help="images of a part, which is lost when a worker dies")
    options = parser.parse_args()
    try:
        metadata, (images, remarks) = read_verified(options.model), listed(options.source)
    except (PadimEdgeError, OSError) as error:
        sys.exit(visible(str(error)))
    for sentence in remarks:
        tell(sentence)
    folder = f"{options.output.rstrip('/')}/model={metadata.digests.model[:12]}"
    done = {key for (key,) in finished(folder)}
    work = list(parts(images, done, options.part))
    tell(f"{len(images)} images, {len(images) - sum(map(len, work))} judged before, {len(work)} parts to do")
    begun = time.monotonic()
    if work:
        clear(folder)
        files = (options.model.name, *filter(None, [metadata.digests.data_file]))
        for name in files:  # not every machine has the model, and who reads the results may want to know it
            write(f"{folder}/{MODEL}", name, options.model.with_name(name).read_bytes())
        judge(Job(files=files, folder=folder, run=uuid.uuid4().hex[:8], options=options), work)
    rows, verdicts, wanted = Counter[bytes](), Counter[str](), {image.key for image in images}
    for key, verdict in finished(folder, ["verdict"]):
        if key in wanted:
            rows[key] += 1
            verdicts[verdict] += 1
    still, twice = len(wanted) - len(rows), sum(count > 1 for count in rows.values())
    counted = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    tell(f"{counted or 'nothing judged'}; {still} open, {twice} twice; {time.monotonic() - begun:.1f} s")
    return 1 if still or twice else 0


if __name__ == "__main__":
    sys.exit(main())
