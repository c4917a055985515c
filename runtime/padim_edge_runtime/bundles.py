"""A bundle in words: its products, and what each of them adds to the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from padim_edge_artifact.bundle import Bundle
from padim_edge_artifact.container import described

__all__ = ["bundle_lines", "bundle_table"]


def bundle_table(bundle: Bundle) -> dict[str, Any]:
    """Return the object that `inspect --json` prints for a bundle.

    Raises:
        ArtifactError: A product is damaged.
    """
    used = Counter(number for member in bundle.members.values() for number in member.blobs)
    products = []
    for name, member in bundle.members.items():
        metadata = described(bundle.path, bundle.graph(member))
        own = sum(bundle.blobs[number].size for number in member.blobs if used[number] == 1) + member.graph.size
        products.append(
            {
                "product": name,
                "class": metadata.class_name,
                "revision": metadata.revision,
                "threshold": metadata.threshold,
                "model": metadata.digests.model,
                "bytes": member.graph.size + sum(bundle.blobs[number].size for number in member.blobs),
                "own_bytes": own,
            }
        )
    return {"bundle": str(bundle.path), "digest": bundle.digest, "bytes": bundle.stamp.size, "products": products}


def bundle_lines(table: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that `inspect` prints for a bundle."""
    products = table["products"]
    alone = sum(each["bytes"] for each in products)
    yield (
        f"bundle of {len(products)} products, {table['bytes'] / 1e6:.1f} MB ({alone / 1e6:.1f} MB as single files), "
        f"digest {table['digest']}"
    )
    width = max(len(each["product"]) for each in products)
    for each in products:
        yield (
            f"{each['product']:<{width}}  class {each['class']}, revision {each['revision']}, threshold "
            f"{each['threshold']:.4f}, {each['bytes'] / 1e6:.1f} MB, {each['own_bytes'] / 1e6:.1f} MB of its own, "
            f"model {each['model'][:12]}"
        )
