"""Making a proposal from marked images: an updated model beside the present one, judged against the record.

The update is the guarded one of `padim-edge update`. A person's word is the reason to learn from an image that the
present model does not call good; images that it was fitted on, and repeats, are left out all the same. Nothing is ever
learned from an alarm that was confirmed, or from a missed defect.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from padim_edge_artifact import Metadata, PadimEdgeError
from padim_edge_artifact.files import flush, flush_folder, make_folder, reserved, staging
from padim_edge_learn import intake
from padim_edge_learn.update import UpdateFiles, update
from padim_edge_line.config import LineConfig, ProductConfig
from padim_edge_line.learning.current import Current, current_of, relative
from padim_edge_line.learning.material import Kept, Material, material_of
from padim_edge_line.learning.proposal import REPORT, TEXT, HeldOut, Proposal, Side
from padim_edge_line.record import Reader
from padim_edge_model.repeats import Codes, groups, repeats_of, unpacked
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.inspection import ANOMALOUS, GOOD, NOT_COMPARABLE, Unreadable
from padim_edge_runtime.pipeline import Choice, inspect_many, threads_for
from padim_edge_runtime.progress import Report, none

__all__ = ["propose"]

_FOLDS = 3
"""Number of parts that the marked images are divided into, to judge each by a model that has not learned from it."""
_TAKE = (ANOMALOUS, NOT_COMPARABLE)
"""Reasons that do not count against an image which a person has called good."""
_FEW = 20
"""Number of held-out images below which a share of them says little."""


@dataclass(frozen=True)
class _Verdict:
    """Verdict of one model on one image."""

    verdict: str
    score: float


@dataclass(frozen=True, kw_only=True)
class _Work:
    """A product with its present model and its kept images."""

    product: ProductConfig
    current: Current
    before: Metadata
    material: Material
    rate: float | None
    device: str
    report: Report

    @property
    def choice(self) -> Choice:
        """Options of an inspection, as on the line."""
        return Choice(threshold=self.product.threshold, min_area=self.product.min_area)


def propose(
    config: LineConfig,
    product: ProductConfig,
    *,
    false_alarm_rate: float | None = None,
    device: str = "cpu",
    report: Report = none,
) -> Proposal:
    """Make a proposal in the line's folder, which a running line does not notice.

    Args:
        config: The line.
        product: The product.
        false_alarm_rate: Share of good images that may raise an alarm; `None` keeps the present model's.
        device: Device that runs the backbone.
        report: Progress bar for each stage.

    Raises:
        PadimEdgeError: There is no record, no marked image to learn from, or no statistics; or a file cannot be
            written.
    """
    reader = Reader(config.folder)
    try:
        current, material = current_of(config, product, reader), material_of(reader, product.name)
    finally:
        reader.close()
    if not material.marked_good:
        raise PadimEdgeError(
            f"there is no kept image of {product.name} that somebody has called a false alarm, or right where it is "
            "good; mark some on the page, then propose again"
        )
    old = Detector.load(current.model, device, threads=threads_for(len(material.all)))
    work = _Work(
        product=product,
        current=current,
        before=old.metadata,
        material=material,
        rate=false_alarm_rate,
        device=device,
        report=report,
    )
    folder = config.folder / "proposals"
    make_folder(folder)
    target = _place(config, work, folder)
    with reserved([folder / product.name]), staging(target) as stage:
        found = _proposal(work, old, target, stage)
        final = stage / "final"
        for name, content in ((REPORT, json.dumps(found.to_json(), indent=1)), (TEXT, found.table())):
            (final / name).write_text(content + "\n", encoding="utf-8")
            flush(final / name)
        flush_folder(final)
        if target.exists():  # a proposal that nobody has promoted
            shutil.rmtree(target)
        final.replace(target)
        flush_folder(folder)
    return found


def _place(config: LineConfig, work: _Work, folder: Path) -> Path:
    """Name the proposal's folder. One that is in use, or was, is never overwritten."""
    name = f"{work.product.name}-r{work.before.revision + 1}"
    used = {work.current.chosen, *work.current.previous}
    for number in range(1, 1000):
        found = folder / (name if number == 1 else f"{name}-{number}")
        if relative(config, found / f"{work.product.name}.onnx") not in used:
            return found
    raise PadimEdgeError(f"{folder} has too many proposals of {work.product.name}; remove some that are not in use")


def _proposal(work: _Work, old: Detector, target: Path, stage: Path) -> Proposal:
    material, name = work.material, f"{work.product.name}.onnx"
    before = _judged(old, work, material.all, "judging by the present model")
    marked = [each for each in material.marked_good if each.seq in before]
    looks = intake.look(old, [each.path for each in marked])
    doubtful = _like_defects(old, looks, (*material.confirmed_alarms, *material.missed))
    marked = [each for each in marked if each.path not in doubtful]
    seq_of = {each.path: each.seq for each in (*marked, *material.samples)}
    by_path = dict(zip(looks.paths, groups(looks.fingerprints).tolist(), strict=True))
    held = _held_out(work, before, [each for each in marked if each.path in by_path], by_path, stage)
    samples = _samples(old, material.samples)
    (stage / "final").mkdir()
    files = UpdateFiles(
        work.current.model,
        work.current.statistics,
        stage / "final" / name,
        stage / "final" / f"{work.product.name}.npz",
    )
    learned = [*(each.path for each in marked), *samples]
    made = update(files, learned, false_alarm_rate=work.rate, take=_TAKE, device=work.device, report=work.report)
    new = Detector.load(files.output, work.device, threads=threads_for(len(material.all)))
    after = _judged(new, work, material.all, "judging by the proposed model")
    aside = {each.path: each.reason for each in made.set_aside}
    taken = [path for path in learned if path not in aside]
    marks = [
        *((each, "false alarm") for each in (*material.false_alarms,)),
        *((each, "right") for each in (*material.confirmed_good, *material.confirmed_alarms)),
        *((each, "missed") for each in material.missed),
    ]
    found = Proposal(
        product=work.product.name,
        folder=target,
        model=name,
        before=_side(old.metadata, work, before),
        after=_side(new.metadata, work, after),
        held_out=held,
        learned_marked=sum(each.path in taken for each in marked),
        learned_samples=sum(path in taken for path in samples),
        defects=sum(each.seq in before for each in material.confirmed_alarms),
        missed=sum(each.seq in before for each in material.missed),
        scores=tuple(
            (each.seq, mark, before[each.seq].score, after[each.seq].score)
            for each, mark in sorted(marks, key=lambda pair: pair[0].seq)
            if each.seq in before and each.seq in after
        ),
        set_aside=tuple((seq_of[each.path], each.reason) for each in made.set_aside),
        warnings=(),
    )
    warnings = _warnings(work, found)
    if doubtful:
        warnings.append(f"{len(doubtful)} images marked as good show the same as a defect and are left out; look again")
    return replace(found, warnings=tuple(warnings))


def _judged(detector: Detector, work: _Work, images: Sequence[Kept], words: str) -> dict[int, _Verdict]:
    """Judge kept images; those that cannot be read any more are left out."""
    found = {}
    with work.report(words, len(images)) as advance:
        inspections = inspect_many(detector, (each.path for each in images), work.choice)
        for each, inspection in zip(images, inspections, strict=True):
            if not isinstance(inspection, Unreadable):
                found[each.seq] = _Verdict(inspection.verdict, inspection.score)
            advance(1)
    return found


def _like_defects(old: Detector, looks: intake.Looks, defects: Sequence[Kept]) -> frozenset[Path]:
    """Return the images that show the same as one which a person has called defective."""
    if not defects:
        return frozenset()
    known = intake.look(old, [each.path for each in defects])
    same = repeats_of(known.fingerprints, looks.fingerprints)
    return frozenset(path for path, repeat in zip(looks.paths, same.tolist(), strict=True) if repeat)


def _samples(old: Detector, samples: Sequence[Kept]) -> list[Path]:
    """Return the unmarked images that the present model calls good without any doubt: nobody has vouched for them."""
    if not samples:
        return []
    looks, limit = intake.look(old, [each.path for each in samples]), old.metadata.threshold
    if not looks.paths:
        return []
    fitted: Codes = unpacked(old.metadata.fingerprints)
    return list(intake.sort_out(looks, fitted, lambda _: (limit, "above the threshold")).taken)


def _held_out(
    work: _Work, before: dict[int, _Verdict], marked: Sequence[Kept], group_of: dict[Path, int], stage: Path
) -> HeldOut:
    """Judge each marked image by a model that has learned from the others only. Repeats stay together."""
    number = {group: i for i, group in enumerate(dict.fromkeys(group_of[each.path] for each in marked))}
    if len(number) < 2 * _FOLDS:
        return HeldOut(folds=0)
    # Neighbours in time are alike, so they stay together as well.
    fold_of = {each.seq: number[group_of[each.path]] * _FOLDS // len(number) for each in marked}
    after: dict[int, _Verdict] = {}
    for fold in range(_FOLDS):
        files = UpdateFiles(
            work.current.model, work.current.statistics, stage / f"fold{fold}.onnx", stage / f"fold{fold}.npz"
        )
        learned = [each.path for each in marked if fold_of[each.seq] != fold]
        try:
            update(files, learned, false_alarm_rate=work.rate, take=_TAKE, device=work.device, report=work.report)
        except intake.NothingTakenError:
            return HeldOut(folds=0)
        held = [each for each in marked if fold_of[each.seq] == fold]
        detector = Detector.load(files.output, work.device, threads=threads_for(len(held)))
        after |= _judged(detector, work, held, "judging held-out images")
        del detector
        for path in stage.glob(f"fold{fold}.*"):
            path.unlink()
    false_alarms = {each.seq for each in work.material.false_alarms} & after.keys()
    good = after.keys() - false_alarms
    return HeldOut(
        folds=_FOLDS,
        false_alarms=len(false_alarms),
        false_alarms_before=sum(before[seq].verdict != GOOD for seq in false_alarms),
        false_alarms_after=sum(after[seq].verdict != GOOD for seq in false_alarms),
        good=len(good),
        good_before=sum(before[seq].verdict != GOOD for seq in good),
        good_after=sum(after[seq].verdict != GOOD for seq in good),
    )


def _side(metadata: Metadata, work: _Work, found: dict[int, _Verdict]) -> Side:
    def passed(images: Sequence[Kept]) -> int:
        return sum(found[each.seq].verdict == GOOD for each in images if each.seq in found)

    return Side(
        revision=metadata.revision,
        digest=metadata.digests.model,
        images=metadata.images,
        threshold=metadata.threshold if work.product.threshold is None else work.product.threshold,
        defects_passed=passed(work.material.confirmed_alarms),
        missed_passed=passed(work.material.missed),
        verdicts=dict(Counter(each.verdict for each in found.values())),
    )


def _warnings(work: _Work, found: Proposal) -> list[str]:
    held, more = found.held_out, found.after.defects_passed - found.before.defects_passed
    warnings = []
    if more > 0:
        warnings.append(f"the proposed model lets {more} more of {found.defects} confirmed alarms pass as good")
    if found.after.missed_passed:
        warnings.append(
            f"the proposed model still lets {found.after.missed_passed} of {found.missed} missed defects pass as good"
        )
    if not held.folds:
        warnings.append(
            "there are too few different marked images to hold some out, so what the proposed model says about "
            "images to come is not known; mark more"
        )
    elif held.false_alarms < _FEW:
        warnings.append(f"{held.false_alarms} held-out false alarms say little; mark {_FEW} or more")
    if not found.defects:
        warnings.append("no alarm is marked as right, so nothing is known about defects; mark some")
    if work.product.threshold is not None:
        warnings.append(
            f"line.toml sets the threshold to {work.product.threshold:g}, and the new model's does not count"
        )
    if work.material.gone:
        warnings.append(f"{work.material.gone} marked images are not kept any more and are left out")
    if work.material.odd:
        warnings.append(f"{work.material.odd} marks make no sense, such as a false alarm on a good image; left out")
    return warnings
