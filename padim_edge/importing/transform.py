"""anomalib's preprocessing, as a checkpoint describes it in plain data, turned into a `Frame`."""

from __future__ import annotations

from typing import Any

from padim_edge.importing.source import Frame, Normalise, refuse
from padim_edge_artifact.schema import shown

__all__ = ["frame_of"]

_INSTEAD = "fit again in anomalib with Resize((H, W)) and Normalize, which is its default"
_KERNELS = ("bilinear", "bicubic")


def frame_of(spec: Any) -> Frame:
    """Return the frame that a checkpoint's preprocessing makes.

    Args:
        spec: Value under `anomalib_pre_processor_config`, `transform`: class path and arguments of each step.

    Raises:
        PadimEdgeError: A step is unknown, depends on the image, or is not repeated exactly here.
    """
    steps = _steps(spec)
    names = [name for name, _ in steps]
    if names not in (["Resize", "Normalize"], ["Resize", "CenterCrop", "Normalize"]):
        raise refuse(
            f"the preprocessing {' > '.join(names) or 'without any step'}",
            "only Resize, perhaps CenterCrop, and Normalize are repeated here",
            _INSTEAD,
        )
    found = dict(steps)
    resize = found["Resize"]
    size = _pair(resize.get("size"), "Resize", of_one=False)
    if resize.get("max_size") is not None:
        raise refuse("Resize with max_size", "the frame would depend on the image", _INSTEAD)
    kernel = str(resize.get("interpolation", "bilinear")).lower().removeprefix("interpolationmode.")
    if kernel not in _KERNELS:
        raise refuse(f"Resize with {shown(kernel)}", f"only {' and '.join(_KERNELS)} are repeated here", _INSTEAD)
    crop = _crop(found.get("CenterCrop"), size)
    normalise = found["Normalize"]
    mean, std = (_three(normalise.get(name), name) for name in ("mean", "std"))
    return Frame(
        resize=size,
        crop=crop,
        interpolation=kernel,
        antialias=resize.get("antialias", True) is True,
        normalise=Normalise(mean=mean, std=std),
    )


def _steps(spec: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return the name and the arguments of each step, in order, out of nested compositions."""
    if spec is None:
        return []
    path, arguments = (spec.get("class_path"), spec.get("init_args")) if isinstance(spec, dict) else (None, None)
    if not isinstance(path, str) or not isinstance(arguments, dict):
        raise refuse(f"the preprocessing {shown(spec)}", "it is not described by a class and its arguments", _INSTEAD)
    name = path.rpartition(".")[2].removeprefix("Exportable")
    if name != "Compose":
        return [(name, arguments)]
    inner = arguments.get("transforms")
    if not isinstance(inner, list):
        raise refuse("a composition of steps", "it lists none", _INSTEAD)
    return [step for each in inner for step in _steps(each)]


def _pair(value: Any, name: str, *, of_one: bool) -> tuple[int, int]:
    numbers = [value] if isinstance(value, int) else list(value) if isinstance(value, list | tuple) else []
    if len(numbers) == 1 and of_one:
        numbers *= 2
    if len(numbers) == 1 and type(numbers[0]) is int:
        raise refuse(
            f"{name}({numbers[0]})", "it keeps the image's aspect, so the frame would depend on the image", _INSTEAD
        )
    if len(numbers) != 2 or not all(type(each) is int and 0 < each <= 1 << 14 for each in numbers):
        raise refuse(f"{name} with size {shown(value)}", "it names no height and width", _INSTEAD)
    return numbers[0], numbers[1]


def _crop(arguments: dict[str, Any] | None, size: tuple[int, int]) -> tuple[int, int] | None:
    if arguments is None:
        return None
    crop = _pair(arguments.get("size"), "CenterCrop", of_one=True)
    rest = [whole - part for whole, part in zip(size, crop, strict=True)]
    if min(rest) < 0:
        raise refuse(f"CenterCrop{crop} out of {size}", "it would pad the image", _INSTEAD)
    if any(round(each / 2) != each // 2 for each in rest):  # torchvision rounds halves to even numbers, we down
        raise refuse(f"CenterCrop{crop} out of {size}", "its middle lies half a pixel aside of ours", _INSTEAD)
    return crop


def _three(value: Any, name: str) -> tuple[float, float, float]:
    numbers = list(value) if isinstance(value, list | tuple) else []
    if (
        len(numbers) != 3
        or not all(isinstance(each, int | float) for each in numbers)
        or (name == "std" and 0 in numbers)
    ):
        raise refuse(f"Normalize with {name} {shown(value)}", "it is not three numbers", _INSTEAD)
    return float(numbers[0]), float(numbers[1]), float(numbers[2])
