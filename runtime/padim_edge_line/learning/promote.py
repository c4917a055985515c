"""Putting a proposal in the place of the present model, and back, with a running line or without one."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from padim_edge_artifact import ArtifactError, Metadata, PadimEdgeError, read_verified
from padim_edge_artifact.files import make_folder, reserved
from padim_edge_artifact.kept import read_kept
from padim_edge_line.config import LineConfig, ProductConfig
from padim_edge_line.learning.current import (
    Current,
    content_of,
    current_of,
    is_running,
    relative,
    store_setting,
)
from padim_edge_line.learning.proposal import REPORT, proposals_of
from padim_edge_line.loading import STATE
from padim_edge_line.products import MODEL
from padim_edge_line.record import Reader
from padim_edge_runtime.detector import Detector

__all__ = ["Promoted", "promote", "rollback"]

_WAIT = 30.0
"""Seconds that a running line has to load another model."""
_LOOK_EVERY = 0.1
"""Seconds between two looks for its answer."""


@dataclass(frozen=True)
class Promoted:
    """Outcome of `promote` and `rollback`."""

    product: str
    """Name of the product."""
    model: Path
    """Model file that it has now."""
    revision: int
    """Revision of this model."""
    before: int | None
    """Revision of the model before; `None` where it cannot be read any more."""
    running: bool
    """Whether a running line has taken it; otherwise the line begins with it at its next start."""

    def __str__(self) -> str:
        since = "the running line judges with it" if self.running else "the line begins with it at its next start"
        before = "" if self.before is None else f", revision {self.before} before"
        return f"{self.product}: revision {self.revision}{before}; {since}"


def promote(config: LineConfig, product: ProductConfig, proposal: str | None = None) -> Promoted:
    """Give a product the model of a proposal.

    Args:
        config: The line.
        product: The product.
        proposal: Name or path of the proposal's folder; `None` takes the latest one.

    Raises:
        PadimEdgeError: There is no such proposal, it is damaged, of another product or of another model, or the running
            line refuses it.
    """
    make_folder(config.folder / "proposals")
    with reserved([config.folder / "proposals" / product.name]):
        current = _current(config, product)
        model = _found(config, product, proposal)
        chosen = relative(config, model)
        if chosen == current.chosen:
            raise PadimEdgeError(f"{product.name} has the model of this proposal already; nothing was changed")
        metadata = _checked(model, model.with_suffix(".npz"), product)
        now = _present(current.model)
        if now is not None and metadata.parent != now.digests.model:
            raise PadimEdgeError(
                f"the proposal {model.parent.name} was made from another model than the present one (revision "
                f"{now.revision}); run padim-edge propose again, or go back with padim-edge rollback first"
            )
        before = None if now is None else now.revision
        previous = (*current.previous, current.chosen)
        running = _switched(config, product, current.setting, content_of(product, chosen, previous))
    return Promoted(product.name, model, metadata.revision, before, running)


def rollback(config: LineConfig, product: ProductConfig) -> Promoted:
    """Give a product the model that it had before the last promotion.

    Raises:
        PadimEdgeError: It has had no other model, that is damaged, or the running line refuses it.
    """
    make_folder(config.folder / "proposals")
    with reserved([config.folder / "proposals" / product.name]):
        current = _current(config, product)
        if not current.previous:
            raise PadimEdgeError(f"{product.name} has had no other model, so there is none to go back to")
        chosen = current.previous[-1]
        model = product.model if chosen is None else config.folder / chosen
        metadata = _checked(model, None, product)
        now = _present(current.model)
        before = None if now is None else now.revision
        previous = current.previous[:-1]
        running = _switched(config, product, current.setting, content_of(product, chosen, previous))
    return Promoted(product.name, model, metadata.revision, before, running)


def _current(config: LineConfig, product: ProductConfig) -> Current:
    reader = Reader(config.folder)
    try:
        return current_of(config, product, reader)
    finally:
        reader.close()


def _found(config: LineConfig, product: ProductConfig, proposal: str | None) -> Path:
    """Return the model file of a proposal."""
    known = proposals_of(config.folder, product.name)
    if proposal is None:
        if not known:
            raise PadimEdgeError(f"there is no proposal for {product.name}; make one with padim-edge propose")
        folder, report = known[-1]
        return _model_in(folder, report["model"])
    for folder, report in known:
        if proposal in (folder.name, str(folder)) or Path(proposal).resolve() == folder.resolve():
            return _model_in(folder, report["model"])
    names = ", ".join(folder.name for folder, _ in known) or "none"
    raise PadimEdgeError(
        f"there is no proposal {proposal!r} for {product.name} (no {REPORT} that names it), expected one of: {names}"
    )


def _model_in(folder: Path, name: str) -> Path:
    if Path(name).name != name:
        raise ArtifactError(
            f"the report of the proposal {folder.name} was changed; make another with padim-edge propose"
        )
    return folder / name


def _checked(model: Path, statistics: Path | None, product: ProductConfig) -> Metadata:
    """Verify a model and its statistics, and run the self-test on the CPU."""
    metadata = read_verified(model)
    if statistics is not None:
        if not statistics.is_file():
            raise ArtifactError(f"the statistics of the proposal {model.parent.name} are missing; propose again")
        if read_kept(statistics).statistics.digest() != metadata.statistics:
            raise ArtifactError(
                f"the statistics of the proposal {model.parent.name} are of another model; propose again"
            )
    outcome = Detector.load(model, "cpu").self_test()
    if not outcome.passed:
        raise ArtifactError(
            f"the model for {product.name} fails its self-test (difference {outcome.difference:.1e}, expected "
            f"{outcome.tolerance:.0e} at most); nothing was changed"
        )
    return metadata


def _present(model: Path) -> Metadata | None:
    """Return the metadata of the present model; `None` where it cannot be read any more."""
    try:
        return read_verified(model)
    except ArtifactError:
        return None


def _switched(config: LineConfig, product: ProductConfig, before: str | None, setting: str) -> bool:
    """Store a setting and wait until a running line has followed it; otherwise take it back.

    Returns:
        Whether a line is running.
    """
    store_setting(config.folder, MODEL + product.name, setting)
    reader, end = Reader(config.folder), time.monotonic() + _WAIT
    try:
        running = is_running(config)
        while running:
            answer = _answer(reader.setting(STATE + product.name), setting)
            if answer is not None:
                if answer[0]:
                    return True
                reason = f"the running line refuses the model ({answer[1]})"
                break
            if time.monotonic() > end:
                reason = f"the running line has not answered within {_WAIT:.0f} s"
                break
            time.sleep(_LOOK_EVERY)
            running = is_running(config)
        else:
            return False
    finally:
        reader.close()
    store_setting(config.folder, MODEL + product.name, before)
    raise PadimEdgeError(f"{reason}; {product.name} keeps the model it had")


def _answer(text: str | None, setting: str) -> tuple[bool, str] | None:
    """Read what the line says about a setting; `None` where it has said nothing yet."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return None
    if not isinstance(found, dict) or found.get("setting") != setting:
        return None
    return found.get("state") == "promoted", str(found.get("sentence", ""))
