"""Draw the figures of the documentation, from the built-in sample and the built-in backbone.

    uv run python -m tools.figures

Writes `docs/images/heat-map.png` and `docs/images/how-it-works.png`. Everything in them is computed: a model is fitted
on 120 good bottles, and it inspects a bottle with a chip. This takes about two minutes on two cores.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, Ellipse, Rectangle
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import padim_edge
from padim_edge import datasets, sample
from padim_edge_artifact import names
from padim_edge_model.graph import joined, of_kept
from padim_edge_runtime import Detector
from padim_edge_runtime.devices.providers import open_session

SIZE = 640
"""Side in pixels of the drawn images."""
CHIP = 3
"""Number of the drawn bottle with a chip."""
NEAR = 7
"""Number of patches that the first panel shows on each side of the marked patch."""
MAP = "inferno"
"""Colour map of distances."""
COLOURS = 256
"""Number of colours in the files: enough for the eye, and a fifth of the bytes of all colours."""
WIDTH = 1800
"""Width of the files in pixels. Pages show them at half of it or less."""

_INK, _FAINT, _GOOD, _BAD = "#1f2933", "#6b7785", "#2c6fbb", "#d1242f"


@dataclass(frozen=True, eq=False)
class Shown:
    """Everything that the figures show."""

    image: npt.NDArray[np.uint8]
    """Bottle with a chip, `(S, S, 3)` RGB."""
    overlay: Image.Image
    """Heat map over the bottle, as `padim-edge infer --heatmaps` writes it."""
    anomaly_map: npt.NDArray[np.float32]
    """`(S, S)` smoothed distances."""
    distance: npt.NDArray[np.float32]
    """`(h, w)` distance of each patch."""
    threshold: float
    """Score above which an image is anomalous."""
    patch: tuple[int, int]
    """Row and column of the patch on the chip with the largest distance."""
    cloud: npt.NDArray[np.float64]
    """`(N, 2)` embeddings of the good images at that patch, in the two dimensions that show the defect best."""
    point: npt.NDArray[np.float64]
    """`(2,)` embedding of the bottle with a chip there."""
    dims: int
    """Number of all dimensions."""


def collect() -> Shown:
    """Fit a model, inspect a bottle with a chip, and gather what the figures show."""
    drawn = sample.images("bottle", size=SIZE, test_good=0, per_defect=0)
    good = datasets.from_images((each.pixels for each in drawn), "bottle")
    fitted = padim_edge.fit(good, padim_edge.preset("edge", backbone="builtin"))
    image, mask = sample.draw_defect("bottle", "chip", CHIP, size=SIZE)
    with tempfile.TemporaryDirectory() as folder:
        detector = Detector.load(fitted.export(Path(folder) / "bottle.onnx").path, device="cpu")
        inspection, result = detector.inspect(image), detector(detector.prepare(image)[None])
    distance = result.patch_distance[0]
    height, width = distance.shape
    chip = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.BOX))
    row, column = (int(place) for place in np.unravel_index((distance * chip).argmax(), distance.shape))
    session = open_session(joined(of_kept(fitted.kept)).SerializeToString(), "cpu").session
    frames = [*(detector.prepare(item.read().image) for item in good.good), detector.prepare(image)]
    embeddings = np.stack(
        [session.run([names.EMBEDDING], {names.IMAGE: each[None]})[0][0, :, row, column] for each in frames]
    ).astype(np.float64)
    pair = _telling_pair(embeddings[:-1], embeddings[-1])
    return Shown(
        image=image,
        overlay=inspection.overlay(),
        anomaly_map=inspection.anomaly_map,
        distance=distance,
        threshold=inspection.threshold,
        patch=(row, column),
        cloud=embeddings[:-1, pair],
        point=embeddings[-1, pair],
        dims=embeddings.shape[1],
    )


def _telling_pair(good: npt.NDArray[np.float64], point: npt.NDArray[np.float64]) -> list[int]:
    """Choose the two dimensions in which the point lies farthest from the Gaussian of the good images."""
    away = point - good.mean(axis=0)
    covariance = np.cov(good, rowvar=False)
    pairs = [(i, j) for i in range(len(away)) for j in range(i)]
    squared = [away[[i, j]] @ np.linalg.solve(covariance[np.ix_([i, j], [i, j])], away[[i, j]]) for i, j in pairs]
    return list(pairs[int(np.argmax(squared))])


def heat_map(shown: Shown, path: Path) -> None:
    """Draw the image, its anomaly map, and the heat map over it."""
    figure = _figure(0.365)
    side, gap = 0.325, 0.0125
    axes = [figure.add_axes((place * (side + gap), 0.01, side, side / 0.365)) for place in range(3)]
    for axis, title in zip(axes, ("image", "anomaly map", "heat map and verdict"), strict=True):
        axis.set_axis_off()
        axis.set_title(title, fontsize=13, color=_INK, pad=7)
    axes[0].imshow(shown.image, interpolation="antialiased")
    _map(axes[1], shown.anomaly_map, shown.threshold)
    axes[2].imshow(shown.overlay, interpolation="antialiased")
    _save(figure, path)


def how_it_works(shown: Shown, path: Path) -> None:
    """Draw the four steps: patches, one Gaussian per position, distance of each patch, anomaly map."""
    ratio, side, gap = 0.315, 0.214, 0.045
    figure = _figure(ratio)
    axes = [figure.add_axes((0.005 + place * (side + gap), 0.19, side, side / ratio)) for place in range(4)]
    steps = (
        ("1  Patches", f"Each patch becomes\na vector of {shown.dims} numbers."),
        ("2  One Gaussian each", f"The red patch in good\nimages, 2 of {shown.dims} numbers."),
        ("3  Distances", "Distance of each patch\nto its own Gaussian."),
        ("4  Anomaly map", "Enlarged and smoothed.\nIts maximum is the score."),
    )
    for axis, (title, text) in zip(axes, steps, strict=True):
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_title(title, fontsize=13, fontweight="bold", color=_INK, pad=7)
        axis.set_xlabel(text, fontsize=10.5, color=_FAINT, labelpad=6, linespacing=1.25)
    _patches(axes[0], shown)
    _gaussian(axes[1], shown)
    axes[2].imshow(shown.distance, cmap=MAP, interpolation="nearest")
    row, column = shown.patch
    axes[2].add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="white", linewidth=1.2))
    _map(axes[3], shown.anomaly_map, shown.threshold)
    for left, right in pairwise(axes):
        arrow = ConnectionPatch(
            (1.03, 0.5), (-0.03, 0.5), "axes fraction", "axes fraction", axesA=left, axesB=right,
            arrowstyle="-|>", mutation_scale=18, linewidth=1.8, color=_INK,
        )  # fmt: skip
        figure.add_artist(arrow)
    _save(figure, path)


def _patches(axis: Axes, shown: Shown) -> None:
    """Show the surroundings of the marked patch with the grid of patches, and the whole image in a corner."""
    rows, columns = shown.distance.shape
    row, column = shown.patch
    axis.imshow(shown.image, extent=(0, columns, rows, 0), interpolation="antialiased")
    for line in range(-NEAR, NEAR + 2):
        axis.axvline(column + line, color="white", linewidth=0.6, alpha=0.55)
        axis.axhline(row + line, color="white", linewidth=0.6, alpha=0.55)
    axis.add_patch(Rectangle((column, row), 1, 1, fill=False, edgecolor=_BAD, linewidth=2.2))
    axis.set_xlim(column - NEAR, column + NEAR + 1)
    axis.set_ylim(row + NEAR + 1, row - NEAR)
    whole = axis.inset_axes((0.64, 0.02, 0.34, 0.34))
    whole.imshow(shown.image, extent=(0, columns, rows, 0), interpolation="antialiased")
    window = (column - NEAR, row - NEAR), 2 * NEAR + 1, 2 * NEAR + 1
    whole.add_patch(Rectangle(*window, fill=False, edgecolor=_BAD, linewidth=1.4))
    whole.set_xticks([])
    whole.set_yticks([])
    for spine in whole.spines.values():
        spine.set_color("white")
        spine.set_linewidth(1.5)


def _gaussian(axis: Axes, shown: Shown) -> None:
    """Show the embeddings of the good images with the ellipses of their Gaussian, and that of the chip."""
    mean, covariance = shown.cloud.mean(axis=0), np.cov(shown.cloud, rowvar=False)
    values, vectors = np.linalg.eigh(covariance)
    angle = float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])))
    for deviations in (3, 2, 1):
        long, short = 2 * deviations * np.sqrt(values[::-1])
        axis.add_patch(Ellipse(tuple(mean), long, short, angle=angle, facecolor=_GOOD, alpha=0.13, linewidth=0))
        axis.add_patch(Ellipse(tuple(mean), long, short, angle=angle, fill=False, edgecolor=_GOOD, linewidth=0.8))
    axis.plot(*np.stack([mean, shown.point]).T, "--", color=_BAD, linewidth=1.2, zorder=1)
    axis.plot(*shown.cloud.T, ".", color=_INK, markersize=2.5)
    axis.plot(*shown.point, "s", color=_BAD, markersize=7)
    both = np.vstack([shown.cloud, shown.point])
    low, high = both.min(axis=0), both.max(axis=0)
    margin = 0.22 * (high - low)
    axis.annotate(
        "this image", tuple(shown.point), (-8, 0), textcoords="offset points", ha="right", va="center", fontsize=10,
        color=_BAD,
    )  # fmt: skip
    axis.text(0.05, 0.05, f"{len(shown.cloud)} good images", fontsize=10, color=_INK, transform=axis.transAxes)
    axis.set_xlim(low[0] - margin[0], high[0] + margin[0])
    axis.set_ylim(low[1] - margin[1], high[1] + margin[1])
    for spine in axis.spines.values():
        spine.set_color(_FAINT)


def _map(axis: Axes, anomaly_map: npt.NDArray[np.float32], threshold: float) -> None:
    """Show an anomaly map with the threshold's outline and a scale."""
    shown = axis.imshow(anomaly_map, cmap=MAP, vmin=0)
    axis.contour(anomaly_map, [threshold], colors="white", linewidths=1.2)
    scale = axis.inset_axes((0.1, 0.05, 0.7, 0.035))
    axis.figure.colorbar(shown, cax=scale, orientation="horizontal")
    scale.set_xticks([threshold], [f"threshold {threshold:.1f}"])
    scale.xaxis.set_ticks_position("top")
    scale.tick_params(colors="white", labelsize=10, length=3, pad=2)
    for spine in scale.spines.values():
        spine.set_color("white")
    for place, text, side in ((0.075, "0", "right"), (0.825, f"{anomaly_map.max():.1f}", "left")):
        axis.text(place, 0.065, text, color="white", fontsize=10, va="center", ha=side, transform=axis.transAxes)


def _figure(ratio: float) -> Figure:
    """Return an empty figure, 9 inches wide: a point is then about a pixel at the width of a page."""
    rcParams["font.family"] = "DejaVu Sans"
    return Figure(figsize=(9, 9 * ratio), dpi=WIDTH / 9, facecolor="white")


def _save(figure: Figure, path: Path) -> None:
    """Write a PNG with a palette, which names this script."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    with Image.open(buffer) as drawn:
        image = drawn.convert("RGB")
    # Fine steps where the map is dark and wide, or it would show bands. The other colours come from the image.
    table = colormaps[MAP](np.arange(256), bytes=True)[:, :3]
    palette = [*table[:64].ravel().tolist(), *table[64::4].ravel().tolist()]
    others = image.quantize(COLOURS - len(palette) // 3, Image.Quantize.MAXCOVERAGE, kmeans=4)
    chosen = Image.new("P", (1, 1))
    chosen.putpalette([*palette, *(others.getpalette() or [])])
    info = PngInfo()
    info.add_text("Source", "tools/figures.py")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(palette=chosen, dither=Image.Dither.NONE).save(path, optimize=True, pnginfo=info)
    print(f"{path}: {image.width} x {image.height} pixels, {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Parse the command line, compute, draw."""
    parser = argparse.ArgumentParser(prog="python -m tools.figures", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("docs/images"), metavar="DIR")
    options = parser.parse_args()
    shown = collect()
    heat_map(shown, options.output / "heat-map.png")
    how_it_works(shown, options.output / "how-it-works.png")


if __name__ == "__main__":
    main()
