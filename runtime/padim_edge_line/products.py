"""The products of a line with their loaded models, and the product that is made at the moment."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from padim_edge_artifact import ArtifactError, PadimEdgeError
from padim_edge_artifact.bundle import is_bundle
from padim_edge_line.config import ProductConfig
from padim_edge_runtime.detector import Detector
from padim_edge_runtime.pipeline import Choice

__all__ = ["ACTIVE", "MODEL", "Product", "Products", "load", "model_of"]

ACTIVE = "product"
"""Setting of the record that holds the name of the product that is made."""
MODEL = "model:"
"""Start of the setting that holds the model that was promoted for a product."""


@dataclass(frozen=True, eq=False)
class Product:
    """A product with its loaded model."""

    name: str
    """Name of the product."""
    model: Path
    """Model file."""
    digest: str
    """SHA-256 of the model file in hexadecimal digits; for a model in a bundle, the digest in its metadata."""
    revision: int
    """Revision of the model."""
    detector: Detector
    """The loaded model, which has passed its self-test."""
    choice: Choice
    """Options of an inspection."""
    bundled: str | None = None
    """Name of the product in a bundle; `None` for a model file."""


def load(config: ProductConfig, model: Path, threads: int | None) -> Product:
    """Load the model of a product and run its self-test.

    Args:
        config: The product.
        model: The model file, which may be another than the configured one.
        threads: Threads for one image, as for `Detector.load`.

    Raises:
        PadimEdgeError: The model cannot be loaded, or does not pass.
    """
    before = _digest(model)
    bundled = (config.bundled or config.name) if is_bundle(model) else None
    detector = Detector.load(model, config.device, product=bundled, threads=threads)
    if (digest := _digest(model)) != before:
        raise ArtifactError(f"the model of {config.name} was replaced while it was loaded; try again")
    outcome = detector.self_test()
    if not outcome.passed:
        raise ArtifactError(
            f"the model of {config.name} fails its self-test on {detector.device} (difference "
            f"{outcome.difference:.1e}, expected {outcome.tolerance:.0e} at most); run padim-edge verify"
        )
    choice = Choice(threshold=config.threshold, min_area=config.min_area)
    if bundled is not None:
        digest = detector.metadata.digests.model  # the file changes with the other products
    return Product(config.name, model, digest, detector.metadata.revision, detector, choice, bundled)


def model_of(config: ProductConfig, folder: Path, setting: str | None) -> Path:
    """Return the model file of a product: the promoted one, unless `line.toml` has named another model since.

    Args:
        config: The product.
        folder: The line's folder.
        setting: What the record has under `MODEL` and the product's name.
    """
    if setting is None:
        return config.model
    try:
        found = json.loads(setting)
        model, configured = found.get("model"), found.get("configured")
    except (ValueError, AttributeError):
        return config.model
    if not isinstance(model, str) or (configured is not None and configured != str(config.model)):
        return config.model
    return folder / model


class Products:
    """Products by name. Any thread may ask; only the line changes them."""

    def __init__(self, names: Sequence[str], active: str) -> None:
        self.names = tuple(names)
        """Names of all products, in the order of `line.toml`."""
        self._active = active
        self._loaded: dict[str, Product] = {}
        self._changed = threading.Condition()

    @property
    def active(self) -> str:
        """Name of the product that is made at the moment."""
        return self._active

    def require(self, name: str) -> str:
        """Return the name of a product.

        Raises:
            PadimEdgeError: There is no such product.
        """
        if name not in self.names:
            raise PadimEdgeError(f"there is no product {name[:64]!r}, expected one of {', '.join(self.names)}")
        return name

    def choose(self, name: str) -> None:
        """Make another product from now on."""
        self._active = self.require(name)

    def get(self, name: str, seconds: float = 0.0) -> Product:
        """Return a loaded product.

        Args:
            name: Name of the product.
            seconds: How long to wait for its model, which may be on its way.

        Raises:
            PadimEdgeError: There is no such product, or its model is not loaded.
        """
        self.require(name)
        with self._changed:
            if not self._changed.wait_for(lambda: name in self._loaded, seconds):
                raise PadimEdgeError(f"the model of {name} is not loaded; see the state of the line")
            return self._loaded[name]

    def put(self, product: Product) -> None:
        """Use a loaded model from the next image on."""
        with self._changed:
            self._loaded[product.name] = product
            self._changed.notify_all()

    def loaded(self, name: str, when: Callable[[Product], bool] = lambda _: True) -> bool:
        """Tell whether a product has a model for which something holds."""
        with self._changed:
            return name in self._loaded and when(self._loaded[name])


def _digest(model: Path) -> str:
    try:
        with model.open("rb") as file:
            found = hashlib.sha256()
            while block := file.read(1 << 20):
                found.update(block)
    except OSError as error:
        raise ArtifactError(f"the model file cannot be read ({error.strerror}); check the line's file") from error
    return found.hexdigest()
