"""The outcome of a rehearsal in words: what is visible, a warning of blindness, and what to try against it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from padim_edge.evaluation.advice import Advice
from padim_edge.evaluation.metrics import Rate
from padim_edge.evaluation.operating import OperatingPoint, Origin
from padim_edge.planting import MOVED
from padim_edge.rehearsal.chart import Chart
from padim_edge.rehearsal.curve import Needed
from padim_edge.rehearsal.trials import PLAIN_CONTRAST, PLAIN_EXTENT
from padim_edge.rehearsal.weak import WeakMap
from padim_edge_artifact import Metadata

__all__ = [
    "BLIND",
    "CAUTION",
    "MANY",
    "PLAIN_WORDS",
    "SEES",
    "WEAK",
    "Findings",
    "level",
    "place_in_words",
    "remedies",
    "sentence_needed",
    "told_extent",
    "verdict",
    "visibility_line",
]

BLIND, WEAK, SEES = "blind", "weak", "sees"
"""Levels of visibility."""

_HALF, _MOST = 0.5, 0.8
"""Shares of plainly visible defects below which a model is blind, and weak."""
MANY = 0.9
"""Share of the defects that the sentences promise to find: 9 of 10."""
_EXTENT = 8.0
"""Extent in pixels that the sentences are about, where it was tried."""
_FEW = 20
"""Number of plainly visible defects below which the verdict is uncertain."""
_LEAST_TRIALS = 5
"""Number of defects of a kind from which a sentence names it."""
_ENOUGH_IMAGES = 100
"""Number of independent good images below which more of them are advised."""
_GAIN = 0.15
"""Least rise of the share found for which another false-alarm rate is advised."""
_LARGEST_RATE = 0.1
"""Largest false-alarm rate that is advised."""

PLAIN_WORDS = f"at least {PLAIN_CONTRAST:g} times the local texture, at least {PLAIN_EXTENT:g} pixels"
"""Definition of a plainly visible defect, in words."""

CAUTION = (
    "The defects were drawn on good images. They tell how strong and how large a defect must be to be seen here, not "
    "how many of the defects that will come are missed."
)
"""Sentence that stands below every rehearsal."""


@dataclass(frozen=True, eq=False)
class Findings:
    """Figures of a rehearsal that the words rest on."""

    metadata: Metadata
    """Metadata of the model."""
    chart: Chart
    """Chart at the stored threshold."""
    weak: WeakMap
    """Weak places."""
    points: tuple[OperatingPoint, ...]
    """Thresholds to choose from, the stored one first; their misses are those of plainly visible defects."""
    false_alarms: Rate | None
    """Share of new good images above the threshold; `None` where there are none."""
    origin: Origin
    """Names of model and images on the command line."""


def level(chart: Chart) -> str:
    """Return the level of visibility: `blind`, `weak` or `sees`. Without plainly visible defects, all of them count."""
    share = (chart.plain or chart.found).value
    return BLIND if share < _HALF else WEAK if share < _MOST else SEES


def visibility_line(findings: Findings) -> str:
    """Say in one sentence how much of what is plainly visible the model finds, for the end of an export."""
    chart = findings.chart
    share = chart.plain
    if share is None or chart.spread is None:
        return f"visibility: {_of(chart.found)} drawn defects are found, none of them plainly visible ({PLAIN_WORDS})"
    low, high = chart.spread
    found = (
        f"{_of(share)} plainly visible drawn defects are found "
        f"({_percent(share.value)}, 95 % interval {_span(low, high)})"
    )
    if level(chart) == BLIND:
        return f"WARNING: this model is nearly blind: only {found}; padim-edge rehearse tells more"
    if level(chart) == WEAK:
        return f"visibility: only {found}; padim-edge rehearse tells more"
    return f"visibility: {found}"


def verdict(findings: Findings) -> tuple[str, ...]:
    """Say what the model sees, in sentences, the most important first."""
    chart = findings.chart
    sentences = [_main(chart)]
    if chart.plain is not None and chart.plain.total < _FEW:
        sentences.append(f"That rests on {chart.plain.total} defects only; take more images or a higher --count.")
    sentences += _needs(chart)
    sentences += [
        f"Defects {place_in_words(each.place)} of the image are found less often than elsewhere: {each.found} of "
        f"{each.trials}, where the chart expects {each.expected:.0f}."
        for each in findings.weak.weak[:3]
    ]
    alarms = findings.false_alarms
    if alarms is not None and alarms.low > findings.metadata.false_alarm_rate:
        sentences.append(
            f"{_of(alarms)} new good images raise an alarm, more than the "
            f"{_percent(findings.metadata.false_alarm_rate)} that the threshold stands for."
        )
    return (*sentences, CAUTION)


def _main(chart: Chart) -> str:
    share = chart.plain
    if share is None or chart.spread is None:
        return (
            f"None of the drawn defects is plainly visible ({PLAIN_WORDS}); {_of(chart.found)} fainter ones are found."
        )
    counted = f"{_of(share)} plainly visible defects ({PLAIN_WORDS})"
    interval = f"{_percent(share.value)}, 95 % interval {_span(*chart.spread)}"
    if level(chart) == BLIND:
        return f"NEARLY BLIND: at its threshold the model finds only {counted}: {interval}. Do not rely on it as it is."
    if level(chart) == WEAK:
        return f"At its threshold the model finds only {counted}: {interval}."
    return f"At its threshold the model finds {counted}: {interval}."


def _needs(chart: Chart) -> Iterator[str]:
    """Say what contrast defects need, over all kinds, and which kinds are found most and least often."""
    extent = told_extent(chart)
    if extent is None:
        return
    curve = chart.curve
    needs = [curve.needed(MANY, each) for each in dict.fromkeys(each.extent for each in chart.needed)]
    reached = [each for each in needs if each.contrast is not None]
    tried = f"up to {curve.highest:.0f} times the local texture was tried"
    if not reached:
        largest = max(each.extent for each in needs)
        yield f"No size up to {largest:g} px is found in 9 of 10 places, however far a defect stands out ({tried})."
    else:
        first = next((each for each in reached if each.extent >= extent), reached[-1])
        if first.extent != extent:
            yield f"At {extent:g} px, fewer than 9 of 10 defects are found, however far they stand out ({tried})."
        yield sentence_needed("defect", first)
    kinds = [each for each in reversed(chart.kinds) if each.found.total >= _LEAST_TRIALS]
    if len(kinds) > 1:
        most, least = kinds[0], kinds[-1]
        yield (
            f"Found most often: {_a(most.kind)} ({_of(most.found)} of all strengths and sizes); least often: "
            f"{_a(least.kind)} ({_of(least.found)})."
        )
        for each in (most, least):
            if each.kind in MOVED:
                continue
            needed = chart.curves[each.kind].needed(MANY, extent)
            if needed.contrast is not None:
                yield sentence_needed(each.kind, needed)


def told_extent(chart: Chart) -> float | None:
    """Return the extent in pixels that sentences are about: 8, or the nearest that was tried; `None` without one."""
    extents = [each.extent for each in chart.needed]
    return min(extents, key=lambda each: (abs(each - _EXTENT), each)) if extents else None


def sentence_needed(kind: str, needed: Needed) -> str:
    """Write the contrast that a kind of defect needs, such as "A scratch of 8 px must stand out by 3 times ...".

    Args:
        kind: Kind of defect, or `defect` for all kinds.
        needed: What it needs; some contrast that was tried.
    """
    assert needed.contrast is not None
    places = f"{10 * needed.share:.0f} of 10" if needed.share == MANY else _percent(needed.share)
    low = needed.contrast if needed.low is None else needed.low
    interval = f"{low:.1f} or more" if needed.high is None else f"{low:.1f} to {needed.high:.1f}"
    noun = _a(kind)
    return (
        f"{noun[0].upper()}{noun[1:]} of {needed.extent:g} px must stand out by {needed.contrast:.1f} ({interval}) "
        f"times the local texture to be found in {places} places."
    )


def remedies(findings: Findings) -> tuple[Advice, ...]:
    """Say what to try, the most promising first; nothing for a model that sees."""
    if level(findings.chart) == SEES:
        return ()
    return tuple(_remedies(findings))


def _remedies(findings: Findings) -> Iterator[Advice]:
    metadata = findings.metadata
    method = metadata.method
    export = f"padim-edge export --class {shlex.quote(metadata.class_name)} --data " + (
        shlex.quote(findings.origin.data[0]) if findings.origin.data else "DATA"
    )
    good = metadata.images if metadata.independent is None else metadata.independent
    if good < _ENOUGH_IMAGES:
        yield Advice(
            f"More good images: the model was fitted on {good} independent ones. {_ENOUGH_IMAGES} or more know better "
            "what is normal, and the threshold can be lower.",
            export,
        )
    yield from _another_rate(findings)
    if method.bank is None:
        yield Advice(
            "Another preset: free compares each place with all places, and suits parts that lie at any angle or place.",
            f"{export} --preset free",
        )
    else:
        yield Advice(
            "Another preset: edge knows what is normal at each place, and suits parts that always lie alike.",
            f"{export} --preset edge",
        )
    height, width = metadata.size
    size = f"{2 * height}" if height == width else f"{2 * height}x{2 * width}"
    yield Advice(
        "A larger frame: a defect covers more of its pixels. It takes more memory and time.", f"{export} --size {size}"
    )
    if metadata.roi is None:
        yield Advice(
            "A region of interest: where the background or a part of no interest varies, its scores raise the "
            "threshold for all.",
            f"{export} --roi MASK",
        )


def _another_rate(findings: Findings) -> Iterator[Advice]:
    """Advise the false-alarm rate that finds most more of the plain defects, where it finds many more."""
    stored, *others = findings.points or (None,)
    if stored is None or stored.miss is None:
        return
    useful = [
        each
        for each in others
        if each.miss is not None
        and each.asked is not None
        and each.asked <= _LARGEST_RATE
        and each.threshold < stored.threshold
        and stored.miss.value - each.miss.value >= _GAIN
    ]
    if useful:
        best = min(useful, key=lambda each: (each.miss.value if each.miss else 1.0, each.asked or 1.0))
        assert best.miss is not None
        yield Advice(
            f"Another false-alarm rate: at {best.name}, {best.miss.total - best.miss.count} of {best.miss.total} "
            f"plainly visible defects are found instead of {stored.miss.total - stored.miss.count}.",
            best.command,
        )


def place_in_words(place: tuple[float, float]) -> str:
    """Return words for a place, such as "at the upper left"."""
    row, column = place
    down = "upper" if row < 1 / 3 else "lower" if row > 2 / 3 else ""
    across = "left" if column < 1 / 3 else "right" if column > 2 / 3 else ""
    if not down and not across:
        return "in the middle"
    if not across:
        return "in the upper part" if down == "upper" else "in the lower part"
    return f"at the {down} {across}" if down else f"at the {across}"


_NOUNS = {
    "texture": "foreign texture",
    "missing": "missing piece",
    "shifted": "shifted piece",
    "turned": "turned piece",
    "bent": "bent piece",
    "dirt": "patch of dirt",
}
"""Nouns for kinds whose names are none that can be counted."""


def _a(kind: str) -> str:
    """Return a kind with its article, such as "a scratch"."""
    noun = _NOUNS.get(kind, kind)
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _of(rate: Rate) -> str:
    return f"{rate.count} of {rate.total}"


def _percent(share: float) -> str:
    percent = 100 * share
    if 0 < percent < 1:
        return f"{percent:.1g} %"
    return f"{percent:.0f} %" if percent <= 99.5 or percent == 100 else "over 99 %"


def _span(low: float, high: float) -> str:
    return f"{100 * low:.0f} to {100 * high:.0f} %"
