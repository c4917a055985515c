"""The metadata: written and read without loss, and refused in one sentence that names what is wrong."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_edge_artifact import ArtifactError, Metadata, Preprocessing
from padim_edge_artifact.calibration import Calibration
from padim_edge_artifact.metadata import Backbone, Digests, PastThreshold, Reduction, SelfTest, from_json, to_json
from padim_edge_artifact.method import PRECISIONS, REDUCTIONS, TARGETS, Method, Precision
from padim_edge_artifact.names import FORMAT_VERSION
from padim_edge_artifact.preprocessing import INTERPOLATIONS
from padim_edge_artifact.reference import Reference

SMALL = Metadata(
    class_name="bottle",
    created_by="padim-edge 0.1.0",
    method=Method(
        "edge",
        Preprocessing((256, 320), (224, 240), "bilinear"),
        "toy",
        ("a", "b"),
        "random",
        dims=2,
        seed=7,
        shares=(0.25, 0.75),
        pooling=3,
        pool_patches=True,
        ridge=0.01,
        sigma=4.0,
        precision=Precision("fp16", "cpu", 64),
    ),
    backbone=Backbone((4, 8), "drawn", "0f" * 32, "Apache-2.0"),
    reduction=Reduction((1, 5), None),
    grid=(1, 1),
    images=209,
    threshold=12.5,
    threshold_rule="largest score",
    false_alarm_rate=0.01,
    extrapolated=True,
    calibration=Calibration(2, (9.0, 12.5)),
    reference=Reference("AA==", (90.5, 110.0), (20.0, 30.0), 2),
    roi=(1, 53759),
    digests=Digests("ab" * 32, "cd" * 32, "bottle.onnx.data", 4096),
    self_test=SelfTest(3.25, (1.0, 2.0) * 8, 0.001),
    revision=2,
    parent="ef" * 32,
    statistics="fa" * 32,
)

SMALL_JSON = (
    '{"backbone":{"channels":[4,8],"licence":"Apache-2.0","weights":"drawn","weights_digest":"' + "0f" * 32 + '"},'
    '"calibration":{"images":2,"scores":[9.0,12.5]},"class_name":"bottle","combination":null,'
    '"created_by":"padim-edge 0.1.0",'
    '"digests":{"data":"'
    + "cd" * 32
    + '","data_bytes":4096,"data_file":"bottle.onnx.data","model":"'
    + "ab" * 32
    + '"},'
    '"drift":1.0,"extrapolated":true,"false_alarm_rate":0.01,"fingerprints":"","format_version":2,"grid":[1,1],'
    '"history":[],"images":209,"independent":null,'
    '"method":{"backbone":"toy","bank":null,"beside":null,"dims":2,"grid_layer":0,"layers":["a","b"],'
    '"pool_patches":true,"pooling":3,'
    '"precision":{"diagonal":false,"name":"fp16","rank":64,"target":"cpu"},'
    '"preprocessing":{"camera":null,"color":"rgb","crop":[224,240],"interpolation":"bilinear","keep_aspect":false,"levels":null,"resize":[256,320]},'
    '"preset":"edge","reduction":"random","ridge":0.01,"seed":7,"shares":[0.25,0.75],"sigma":4.0,'
    '"upsampling":"nearest"},"parent":"' + "ef" * 32 + '","prototypes":null,'
    '"reduction":{"channels":[1,5],"stage_dims":null},'
    '"reference":{"brightness":[90.5,110.0],"contrast":[20.0,30.0],"deviation":"","mean":"AA==","shift":2,"turned":[],'
    '"unlike":0.0},"revision":2,'
    '"roi":[1,53759],"self_test":{"map_samples":['
    + "1.0,2.0," * 7
    + '1.0,2.0],"score":3.25,"tolerance":0.001},"statistics":"'
    + "fa" * 32
    + '",'
    '"threshold":12.5,"threshold_rule":"largest score"}'
)
"""Text of format version 2. Files in the field hold exactly this; change it only together with FORMAT_VERSION."""

Path = tuple[str | int, ...]

texts = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=20)
whole = st.integers(0, 2**53)
positive = st.integers(1, 10_000_000)
reals = st.floats(0, 3e38)
rates = st.floats(1e-9, 1, exclude_max=True)
sides = st.integers(1, 4000)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)


@st.composite
def preprocessings(draw: st.DrawFn) -> Preprocessing:
    height, width = draw(sides), draw(sides)
    crop = draw(st.none() | st.tuples(st.integers(1, height), st.integers(1, width)))
    return Preprocessing((height, width), crop, draw(st.sampled_from(INTERPOLATIONS)))


@st.composite
def precisions(draw: st.DrawFn) -> Precision:
    rank = draw(st.none() | st.integers(1, 65536))
    diagonal = rank is None and draw(st.booleans())
    return Precision(draw(st.sampled_from(PRECISIONS)), draw(st.sampled_from(TARGETS)), rank, diagonal)


@st.composite
def methods(draw: st.DrawFn) -> Method:
    layers = draw(st.lists(texts.filter(bool), min_size=1, max_size=5))
    above = st.floats(0, exclude_min=True, allow_infinity=False)
    return Method(
        draw(texts),
        draw(preprocessings()),
        draw(texts),
        tuple(layers),
        draw(st.sampled_from(REDUCTIONS)),
        dims=draw(st.integers(1, 65536)),
        seed=draw(whole),
        shares=draw(st.none() | st.tuples(*[above] * len(layers))),
        pooling=2 * draw(st.integers(0, 99)) + 1,
        pool_patches=draw(st.booleans()),
        ridge=draw(above),
        sigma=draw(st.floats(0, 4096)),
        precision=draw(precisions()),
    )


@st.composite
def calibrations(draw: st.DrawFn) -> Calibration:
    scores = sorted(draw(st.lists(reals, min_size=1, max_size=5)))
    return Calibration(len(scores), tuple(scores))


@st.composite
def references(draw: st.DrawFn, cells: int) -> Reference:
    planes = st.binary(min_size=cells, max_size=cells).map(lambda content: base64.b64encode(content).decode())
    ranges = st.lists(st.floats(0, 255), min_size=2, max_size=2).map(sorted).map(tuple)
    return Reference(
        draw(planes),
        draw(ranges),
        draw(ranges),
        draw(st.integers(0, 16384)),
        draw(st.just("") | planes),
        draw(st.just(()) | st.tuples(reals, reals, reals)),
        draw(reals),
    )


@st.composite
def metadatas(draw: st.DrawFn) -> Metadata:
    method = draw(methods())
    height, width = method.preprocessing.size
    grid = draw(st.tuples(st.integers(1, min(height, 8)), st.integers(1, min(width, 8))))
    images, outside = draw(positive), draw(st.integers(0, height * width - 1))
    channels = draw(st.tuples(*[st.integers(1, 4096)] * len(method.layers)))
    kept = st.sets(st.integers(0, sum(channels) - 1), min_size=1, max_size=5).map(sorted).map(tuple)
    data = st.builds(Digests, digests, digests, st.just("a.onnx.data"), st.integers(1, 2**40))
    past = st.builds(PastThreshold, reals, texts, rates, st.just("2026-11-30"), texts, calibrations())
    return Metadata(
        class_name=draw(texts),
        created_by=draw(texts),
        method=method,
        backbone=Backbone(channels, draw(texts), draw(digests), draw(texts)),
        reduction=Reduction(draw(st.none() | kept), draw(st.none() | st.tuples(whole, whole))),
        grid=grid,
        images=images,
        threshold=draw(reals),
        threshold_rule=draw(texts),
        false_alarm_rate=draw(rates),
        extrapolated=draw(st.booleans()),
        calibration=draw(calibrations()),
        reference=draw(references(grid[0] * grid[1])),
        roi=draw(st.none() | st.just((outside, height * width - outside))),
        digests=draw(data | st.builds(Digests, digests, st.none(), st.none(), st.just(0))),
        self_test=SelfTest(draw(reals), draw(st.tuples(*[reals] * 16)), draw(rates)),
        revision=draw(positive),
        parent=draw(st.none() | digests),
        statistics=draw(st.none() | digests),
        independent=draw(st.none() | st.integers(1, images)),
        drift=draw(st.floats(1, 1e6)),
        history=tuple(draw(st.lists(past, max_size=3))),
    )


def paths(value: Any, path: Path = ()) -> Iterator[Path]:
    """The path of every value inside a JSON object."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from paths(inner, (*path, key))


def changed(path: Path, value: Any) -> str:
    """SMALL as JSON with the value at `path` replaced, or removed where `value` is `...`."""
    content = inner = json.loads(SMALL_JSON)
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = copy.deepcopy(value)
    return json.dumps(content)


EVERY = list(paths(json.loads(SMALL_JSON)))
FIELDS = [path for path in EVERY if isinstance(path[-1], str) and path != ("format_version",)]
OPTIONAL = {
    *(
        ("method", "preprocessing", key)
        for key in ("crop", "interpolation", "camera", "levels", "keep_aspect", "color")
    ),
    *(("reference", key) for key in ("deviation", "turned", "unlike")),
    ("method", "precision"),
    *(("method", "precision", key) for key in ("name", "target", "rank", "diagonal")),
    *((key,) for key in ("revision", "parent", "statistics", "independent", "fingerprints", "drift", "history")),
    ("prototypes",),
    ("combination",),
    ("method", "beside"),
    *(("method", key) for key in ("bank", "grid_layer", "upsampling")),
}
"""They have defaults."""
TRUTHS = {
    ("extrapolated",),
    ("method", "pool_patches"),
    ("method", "precision", "diagonal"),
    ("method", "preprocessing", "keep_aspect"),
}


@settings(deadline=None, max_examples=50)
@given(metadatas())
def test_what_is_written_is_read(metadata: Metadata) -> None:
    assert from_json(to_json(metadata)) == metadata


@settings(deadline=None, max_examples=20)
@given(metadatas())
def test_the_same_metadata_always_gives_the_same_text(metadata: Metadata) -> None:
    assert to_json(from_json(to_json(metadata))) == to_json(metadata)


def test_the_text_of_format_version_2_never_changes() -> None:
    assert to_json(SMALL) == SMALL_JSON
    assert from_json(SMALL_JSON) == SMALL


def test_unknown_fields_are_ignored_so_that_a_version_can_gain_some() -> None:
    assert from_json(changed(("news",), {"from": "the future"})) == SMALL
    assert from_json(changed(("backbone", "news"), 1)) == SMALL


def test_fields_with_a_default_may_be_missing() -> None:
    content = json.loads(SMALL_JSON)
    for key in ("revision", "parent", "statistics"):
        del content[key]
    del content["method"]["precision"]
    expected = dataclasses.replace(SMALL, method=dataclasses.replace(SMALL.method, precision=Precision()))
    assert from_json(json.dumps(content)) == dataclasses.replace(expected, revision=1, parent=None, statistics=None)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({}, "fp16 for cpu"),
        ({"rank": 32}, "fp16 for cpu, rank 32"),
        ({"diagonal": True}, "fp16 for cpu, variances only"),
    ],
)
def test_the_precision_says_name_target_and_form(form: dict[str, Any], words: str) -> None:
    method = dataclasses.replace(SMALL.method, precision=Precision("fp16", **form))
    assert str(dataclasses.replace(SMALL, method=method).precision) == words


@pytest.mark.parametrize("path", FIELDS, ids=lambda path: ".".join(map(str, path)))
def test_a_missing_field_is_named(path: Path) -> None:
    if path in OPTIONAL:
        content = json.loads(changed(path, ...))
        content["roi"] = None  # which fits the crop only
        assert isinstance(from_json(json.dumps(content)), Metadata)
        return
    with pytest.raises(ArtifactError) as caught:
        from_json(changed(path, ...))
    assert f"{'.'.join(('metadata', *map(str, path[:-1])))} has no {path[-1]!r}" in str(caught.value)


@pytest.mark.parametrize("wrong", [{"a": 1}, True, [[[0]]]], ids=["object", "true", "nested list"])
@pytest.mark.parametrize("path", EVERY, ids=lambda path: ".".join(map(str, path)))
def test_a_value_of_the_wrong_type_is_named(path: Path, wrong: Any) -> None:
    """An object where a number stands, a truth value where a count stands, a list where a name stands."""
    if path in TRUTHS and wrong is True:
        wrong = "true"  # where a truth value is right
    if path in (("method", "precision"), ("method", "bank")) and wrong == {"a": 1}:
        wrong = "fp16"  # where an object is right, and all of its fields have defaults
    with pytest.raises(ArtifactError) as caught:
        from_json(changed(path, wrong))
    name = next(key for key in reversed(path) if isinstance(key, str))
    assert name.replace("_", " ") in str(caught.value).replace("_", " ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        (("images",), 3.0),
        (("images",), "3"),
        (("images",), None),
        (("threshold",), "12.5"),
        (("threshold",), float("nan")),
        (("threshold",), float("inf")),
        (("threshold",), 10**400),
        (("class_name",), 7),
        (("grid",), [1]),
        (("grid",), [1, 1, 1]),
        (("calibration",), None),
        (("extrapolated",), 1),
        (("method", "pool_patches"), 0),
        (("method", "precision", "diagonal"), None),
        (("method", "precision", "rank"), 2.5),
        (("method", "precision", "rank"), True),
        (("method", "dims"), 2.0),
        (("method", "layers"), "a"),
        (("method", "shares"), [0.25, "0.75"]),
        (("calibration", "scores"), None),
        (("digests", "data"), 0),
    ],
)
def test_near_misses_are_refused(path: Path, wrong: object) -> None:
    with pytest.raises(ArtifactError, match=path[-1]):  # type: ignore[arg-type]
        from_json(changed(path, wrong))


@pytest.mark.parametrize("version", [0, FORMAT_VERSION - 1, FORMAT_VERSION + 1, "2", None, [2], ...])
def test_another_format_version_is_refused_and_both_are_named(version: object) -> None:
    with pytest.raises(ArtifactError) as caught:
        from_json(changed(("format_version",), version))
    shown = None if version is ... else version
    assert f"format version {shown!r}" in str(caught.value)
    assert f"version {FORMAT_VERSION}" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("method", "reduction"), "lda", "there is no reduction 'lda'"),
        (("method", "dims"), 0, "dims is 0"),
        (("method", "shares"), [1.0], "shares is (1.0,)"),
        (("method", "precision", "name"), "fp8", "there is no precision 'fp8'"),
        (("method", "precision", "diagonal"), True, "exclude each other"),
        (("method", "preprocessing", "resize"), [0, 320], "expected positive ones"),
        (("method", "layers"), [], "layers is ()"),
    ],
)
def test_a_method_that_cannot_be_is_refused_and_its_place_is_named(path: Path, value: object, words: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        from_json(changed(path, value))
    assert f"{'.'.join(('metadata', *map(str, path[:-1])))} cannot be used" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1", '"text"', "[" * 100_000, SMALL_JSON[:-1]])
def test_what_is_no_metadata_object_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError):
        from_json(text)


@given(st.text())
def test_no_text_at_all_raises_anything_else(text: str) -> None:
    with pytest.raises(ArtifactError):
        from_json(text)


json_values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists)


@settings(deadline=None)
@given(st.sampled_from(EVERY), json_values)
def test_any_value_anywhere_is_read_or_refused(path: Path, value: object) -> None:
    try:
        from_json(changed(path, value))
    except ArtifactError as error:
        assert str(error)  # noqa: PT017  # both outcomes are right; a third would escape


def test_numbers_that_are_not_finite_are_never_written() -> None:
    """JSON has no word for them; other readers would refuse the whole file."""
    with pytest.raises(ValueError, match="JSON"):
        to_json(dataclasses.replace(SMALL, self_test=SelfTest(float("inf"), (1.0,) * 16, 0.001)))
