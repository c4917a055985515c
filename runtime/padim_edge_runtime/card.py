"""A model card: what a model file says about itself, and what an evaluation found, as Markdown with YAML in front."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from padim_edge_artifact import Metadata
from padim_edge_artifact.calibration import BEST_F1, BY_HAND
from padim_edge_runtime.card_numbers import Numbers
from padim_edge_runtime.terminal_text import visible
from padim_edge_runtime.worth import good_images, worth

__all__ = ["Called", "card", "literal"]

_UNSAFE = re.compile("[\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufff9-\uffff]")
"""Characters that are not seen, turn a line around, or cannot be written as YAML."""


@dataclass(frozen=True, kw_only=True)
class Called:
    """Names of a model for the commands of its card."""

    file: str
    """Name of the file, without a folder."""
    product: str | None = None
    """Name of the product in a bundle; `None` for a model file."""


def card(metadata: Metadata, called: Called, numbers: Numbers | None = None) -> str:
    """Write the card of a model.

    It claims nothing but what the metadata and the evaluation say. Texts of theirs are shown as code, so that none of
    them is taken for Markdown, HTML or YAML.

    Args:
        metadata: Metadata of the model.
        called: Names for the commands.
        numbers: Outcome of an evaluation of this very model; `None` without one.
    """
    sections = {
        "Model": _model(metadata),
        "Data": _data(metadata),
        "Numbers": _numbers(numbers),
        "Limits": _limits(metadata, numbers),
        "Licence": _licence(metadata),
        "How to run": _run(called),
    }
    text = ["---", *_front(metadata, numbers), "---", ""]
    text += [f"# Detector of anomalies: {literal(metadata.class_name)}", "", *_about(metadata)]
    for title, lines in sections.items():
        text += ["", f"## {title}", "", *lines]
    return "\n".join(text) + "\n"


def literal(text: str) -> str:
    """Write a text of others as a code span, in which nothing is Markdown or HTML."""
    plain = _plain(text)
    longest = max(map(len, re.findall("`+", plain)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest or plain.strip() != plain else ""
    return f"{fence}{pad}{plain}{pad}{fence}" if plain.strip() else "(nothing)"


def _plain(text: str) -> str:
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), visible(text))


def _quoted(text: str) -> str:
    """Write a text of others as a YAML scalar."""
    return json.dumps(_plain(text), ensure_ascii=False)


def _front(metadata: Metadata, numbers: Numbers | None) -> Iterator[str]:
    """Yield the front matter. Only the licence of the weights is known, so the licence of the whole is `other`."""
    slug = re.sub(r"[^a-z0-9.]+", "-", f"weights {metadata.backbone.licence}".lower()).strip("-")
    yield from ("license: other", f"license_name: {slug[:80].strip('-')}")
    yield from ("library_name: padim-edge", "pipeline_tag: image-classification")
    yield from ("tags:", "- anomaly-detection", "- industrial-inspection", "- onnx")
    if any("PaDiM" in kind for kind in _distances(metadata)):
        yield "- padim"
    figures = [] if numbers is None else numbers.figures()
    if not figures:
        yield "metrics: []"
        return
    yield from ("metrics:", *dict.fromkeys(f"- {each.metric}" for each in figures))
    yield from ("model-index:", f"- name: {_quoted(metadata.class_name)}", "  results:")
    yield from ("  - task:", "      type: image-classification", "      name: anomaly detection")
    yield from ("    dataset:", "      type: unknown", "      name: labelled test images, not named in the evaluation")
    yield "    metrics:"
    for each in figures:
        yield from (f"    - type: {each.metric}", f"      name: {each.words}", f"      value: {each.value!r}")


def _about(metadata: Metadata) -> Iterator[str]:
    yield "One ONNX graph that compares an image with good ones. It gives a score, an anomaly map and a verdict: good,"
    yield "anomalous or not comparable. It was fitted on images that were given as good ones."
    yield ""
    if len(kinds := _distances(metadata)) > 1:
        yield f"Method: {kinds[0]}, and {kinds[1]}. {metadata.combination}."
    else:
        yield f"Method: {kinds[0]}."


def _distances(metadata: Metadata) -> list[str]:
    """Name the kinds of distance that count in a model."""
    gaussians, memory = "the distance to one Gaussian per patch (PaDiM)", "the distance to a memory of patches"
    if metadata.combination is None:
        return [gaussians if metadata.method.bank is None else memory]
    kept = metadata.combination.kept
    return [gaussians, memory] if kept is None else [(gaussians, memory)[kept]]


def _model(metadata: Metadata) -> Iterator[str]:
    method, (height, width), (h, w) = metadata.method, metadata.input_size, metadata.grid
    backbone = f"{method.backbone} {', '.join(method.layers)}"
    yield f"- Class: {literal(metadata.class_name)}"
    yield f"- Made by: {literal(metadata.created_by)}, format version {metadata.format_version}"
    yield f"- Revision: {metadata.revision}" + (f", update of {metadata.parent[:12]}" if metadata.parent else "")
    yield f"- Digest (SHA-256): {metadata.digests.model}"
    yield f"- Preset: {literal(method.preset)}, {metadata.precision}"
    yield f"- Backbone: {literal(backbone)}"
    weights = metadata.backbone.weights
    yield f"- Weights: {literal(weights)}, SHA-256 {metadata.backbone.weights_digest or 'not recorded'}"
    yield f"- Embedding: {method.dims} dimensions, {method.reduction}, seed {method.seed}; {h} x {w} patches"
    yield f"- Input: uint8, {height} x {width} pixels (height x width); files of any size are resized before"
    if metadata.prototypes is not None:
        yield f"- Memory: {metadata.prototypes} patches"


def _data(metadata: Metadata) -> Iterator[str]:
    rule = metadata.threshold_rule
    yield f"- Fitted on {good_images(metadata)}. The file does not say where they come from."
    if metadata.independent is None:
        yield "- How many of them are independent is not recorded; repeats may be among them."
    yield (
        f"- Threshold: {metadata.threshold:.4f}, for a false-alarm rate of {metadata.false_alarm_rate:g}; source: "
        f"{literal(rule)}"
    )
    if rule.startswith((BY_HAND, BEST_F1)):
        yield "- The threshold does not come from the scores of good images, so that rate may be another one."
    yield f"- Scores of {metadata.calibration.images} good images outside the fit are in the file."
    if metadata.history:
        yield f"- The threshold was changed {len(metadata.history)} times; the file has the earlier ones."


def _numbers(numbers: Numbers | None) -> Iterator[str]:
    if numbers is None:
        yield "No evaluation was given for this card. How many defects the model finds is not known here."
        return
    yield f"Measured with `padim-edge evaluate` on {numbers.good} good and {numbers.anomalous} anomalous images:"
    yield ""
    yield from ("| metric | value |", "|---|---|")
    for each in numbers.figures():
        yield f"| {each.words} | {each.value:.4f} |"
    for name, interval in numbers.intervals.items():
        yield f"| {name}, 95 % interval | {interval[0]:.4f} to {interval[1]:.4f} |"
    if numbers.undefined:
        yield ""
        yield f"Undefined on these images: {', '.join(numbers.undefined)}."
    if numbers.kinds:
        yield from ("", "Images above the threshold, by kind:", "")
        for kind in numbers.kinds:
            yield f"- {literal(kind.name)}: {kind.alarms} of {kind.images}"


def _limits(metadata: Metadata, numbers: Numbers | None) -> Iterator[str]:
    yield f"- {worth(metadata)}"
    if metadata.drift > 1:
        yield (
            f"- The good images changed over time: left out with its neighbours in time, an image scores "
            f"{metadata.drift:.2f} times as high."
        )
    if metadata.roi is not None:
        share = 100 * metadata.inspected.mean()
        yield f"- Only a region of interest is inspected, {share:.1f} % of the frame. Defects outside it are not seen."
    if metadata.preprocessing.crop is not None:
        yield "- Only the centre of an image is inspected. Defects near its borders are not seen."
    if metadata.combination is not None:
        known = metadata.combination.plants > 0
        found = "rests on planted defects, and not on real ones" if known else "does not rest on defects of any kind"
        yield f"- The weight of the two kinds of distance {found}."
    if numbers is None:
        yield "- The share of defects that it misses was not given."
    else:
        yield from numbers.remarks()
    yield (
        "- A moved camera, another lamp or another product makes an image not comparable: it has a score then, and the "
        "score decides nothing."
    )
    yield "- It says where an image differs from good ones, and not what the defect is."


def _licence(metadata: Metadata) -> Iterator[str]:
    yield f"- Weights of the backbone: {literal(metadata.backbone.licence)}."
    yield "- The file holds statistics of the good images. It does not know their licence, nor that of the whole model:"
    yield "  set `license` at the head of this card before you publish it."


def _run(called: Called) -> Iterator[str]:
    name, chosen = shlex.quote(_plain(called.file)), called.product
    option = "" if chosen is None else f" --product {shlex.quote(_plain(chosen))}"
    argument = "" if chosen is None else f", product={_quoted(chosen)}"
    yield "```sh"
    yield 'pip install "padim-edge-runtime[cpu]"'
    yield f"padim-edge verify {name}{option}"
    yield f"padim-edge infer {name} images/{option}"
    yield from ("```", "", "```python", "from padim_edge_runtime import Detector")
    yield f"inspection = Detector.load({_quoted(called.file)}{argument}).inspect('image.png')"
    yield from ("print(inspection.verdict, inspection.score, inspection.regions)", "```")
