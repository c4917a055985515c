"""A Lightning checkpoint of anomalib, read as tensors and plain data: no code in it runs."""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from padim_edge.importing.source import BACKBONES, Decision, Padim, refuse
from padim_edge.importing.transform import frame_of
from padim_edge_artifact import PadimEdgeError
from padim_edge_artifact.schema import reason_of, shown

if TYPE_CHECKING:
    import torch

__all__ = ["decision_of", "digest_of", "read_checkpoint"]

_NETWORK = "model.feature_extractor.feature_extractor."
_POST = "post_processor."
_NEEDED = (
    "model.idx",
    "model.gaussian.mean",
    "model.gaussian.inv_covariance",
    "model.anomaly_map_generator.blur.kernel",
)
_MOST_BYTES = 32 << 30
_AGAIN = "load it with anomalib 2.7 or newer and save it again, or export it to ONNX there and import that"


def read_checkpoint(path: Path) -> Padim:
    """Read a fitted PaDiM from a checkpoint.

    Args:
        path: The `.ckpt` file.

    Raises:
        PadimEdgeError: It is none, it needs code to be read, or something in it cannot be carried over.
    """
    content = _load(path)
    state = content.get("state_dict")
    asked = content.get("hyper_parameters")
    if not isinstance(state, dict) or not isinstance(asked, dict):
        raise PadimEdgeError(
            f"{path} holds no state_dict with hyper_parameters, expected a checkpoint that anomalib's Engine wrote; "
            "give model.ckpt out of its results folder"
        )
    state = {str(key): value for key, value in state.items()}
    missing = [name for name in _NEEDED if name not in state]
    if missing:
        raise PadimEdgeError(
            f"{path} holds no {missing[0]}, so it is not a fitted PaDiM of anomalib 2.x; other methods of anomalib are "
            "not imported, so export those with anomalib itself"
        )
    _refuse_tiles(content, asked)
    backbone, layers = _network(asked)
    decision, why = decision_of(_post(content, state))
    flags = content.get("anomalib_components_enabled")
    if isinstance(flags, dict) and flags.get("pre_processor") is False:
        raise refuse("a model without pre_processor", "the images' own size was its frame", "fit it with one")
    config = content.get("anomalib_pre_processor_config")
    if not isinstance(config, dict):
        raise refuse(
            "this checkpoint's preprocessing",
            "it was written by an anomalib before 2.7, which does not keep it",
            _AGAIN,
        )
    return Padim(
        kind="checkpoint",
        name=path.name,
        digest=digest_of(path),
        backbone=backbone,
        layers=layers,
        state={key.removeprefix(_NETWORK): value for key, value in state.items() if key.startswith(_NETWORK)},
        chosen=_array(state, "model.idx", np.int64, 1),
        mean=_array(state, "model.gaussian.mean", np.float32, 2),
        precision=_array(state, "model.gaussian.inv_covariance", np.float32, 3),
        kernel=_array(state, "model.anomaly_map_generator.blur.kernel", np.float32, 4)[0, 0],
        frame=frame_of(config.get("transform")),
        decision=decision,
        undecided=why,
        notes=(
            "a checkpoint does not tell whether anomalib cut the images into tiles; if it did, fit again without tiles",
        ),
    )


def digest_of(path: Path) -> str:
    """Return SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        found = hashlib.sha256()
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def _load(path: Path) -> dict[str, Any]:
    import torch

    try:
        if path.stat().st_size > _MOST_BYTES or not zipfile.is_zipfile(path):
            raise PadimEdgeError(
                f"{path} is not a file of torch.save, expected a checkpoint such as model.ckpt or an ONNX model; give "
                "one of these"
            )
        with zipfile.ZipFile(path) as archive:  # torch stores tensors as they are
            if any(each.compress_type != zipfile.ZIP_STORED for each in archive.infolist()):
                raise PadimEdgeError(f"{path} is a compressed archive, expected a checkpoint as torch.save writes it")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except PadimEdgeError:
        raise
    except FileNotFoundError as error:
        raise PadimEdgeError(f"there is no file {path}; give a checkpoint or an ONNX model of anomalib") from error
    except Exception as error:  # a dozen kinds for damage, and torch's page about pickles
        if type(error).__name__ == "UnpicklingError":
            raise PadimEdgeError(
                f"{path} holds objects besides tensors and plain data, and reading them would run code out of the file"
                f"; {_AGAIN}"
            ) from error
        raise PadimEdgeError(f"{path} is not a readable checkpoint ({reason_of(error, 120)}); copy it again") from error
    if not isinstance(content, dict):
        raise PadimEdgeError(f"{path} holds {type(content).__name__}, expected a Lightning checkpoint of anomalib")
    return content


def _array(state: dict[str, Any], name: str, kind: npt.DTypeLike, axes: int) -> npt.NDArray[Any]:
    import torch

    value = state[name]
    if not isinstance(value, torch.Tensor) or value.ndim != axes or not value.numel():
        raise PadimEdgeError(f"{name} is not a tensor with {axes} axes, expected one of a fitted PaDiM; fit it again")
    return np.asarray(value.detach().cpu().numpy(), kind)


def _refuse_tiles(content: dict[str, Any], asked: dict[str, Any]) -> None:
    """Refuse what shows that the images were cut into tiles."""
    places = [*asked, *(content.get("callbacks") or ())]
    if any("tiler" in str(place).lower() or "tiling" in str(place).lower() for place in places):
        raise refuse("tiling", "the model here judges whole frames", "fit again without tiles")


def _network(asked: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Return the backbone and its layers."""
    name, layers = asked.get("backbone", "resnet18"), asked.get("layers", ["layer1", "layer2", "layer3"])
    plain = name.partition(".")[0] if isinstance(name, str) else ""
    if plain not in BACKBONES:
        raise refuse(
            f"the backbone {shown(name)}", f"only {', '.join(BACKBONES)} are the same here", "fit with one of these"
        )
    if not isinstance(layers, list | tuple) or not all(isinstance(each, str) for each in layers):
        raise refuse(f"the layers {shown(layers)}", "they are not names", "fit with layer1, layer2 and layer3")
    if list(layers) != sorted(set(layers)) or not set(layers) <= {"layer1", "layer2", "layer3", "layer4"}:
        raise refuse(
            f"the layers {', '.join(layers)}", "only layer1 to layer4 in this order are repeated here", "fit with these"
        )
    return plain, tuple(layers)


def _post(content: dict[str, Any], state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return the post-processor's options and numbers."""
    config = content.get("anomalib_post_processor_config")
    numbers = {
        key.removeprefix(_POST): float(value.item())
        for key, value in state.items()
        if key.startswith(_POST) and getattr(value, "numel", lambda: 0)() == 1
    }
    return {**(config if isinstance(config, dict) else {}), **numbers}


def decision_of(post: dict[str, Any]) -> tuple[Decision | None, str]:
    """Return the post-processing, or `None` and the reason why there is none that can be used.

    Args:
        post: Options and numbers of anomalib's PostProcessor, by their names there.
    """
    nan = float("nan")
    lowest, highest = float(post.get("image_min", nan)), float(post.get("image_max", nan))
    threshold = float(post.get("_image_threshold", nan))
    if np.isnan(threshold) and post.get("enable_threshold_matching", True):
        threshold = float(post.get("_pixel_threshold", nan))
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        return None, "it was never validated, so it has no range of scores"
    if not (post.get("enable_normalization", True) and post.get("enable_thresholding", True)):
        return None, "its normalisation or its threshold is switched off"
    if np.isnan(threshold):
        threshold = (lowest + highest) / 2
    sensitivity = float(post.get("image_sensitivity", 0.5))
    if not (np.isfinite(threshold) and 0 < sensitivity <= 1 and highest >= lowest >= 0):
        return None, "its threshold, sensitivity or range is no usable number"
    found = Decision(threshold=threshold, lowest=lowest, spread=highest - lowest, limit=1 - sensitivity)
    return (found, "") if found.raw >= 0 else (None, "its sensitivity calls every image anomalous")
