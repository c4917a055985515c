"""Inspect images on a device, without torch: python examples/inspect_folder.py MODEL IMAGES [FOLDER].

Prints one line per image, and writes an overlay of each one that is not good to FOLDER.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from padim_edge_runtime import Detector


def main() -> None:
    """Inspect each PNG and JPEG file in the folder IMAGES."""
    model, images, *rest = sys.argv[1:]
    folder = Path(rest[0] if rest else tempfile.mkdtemp(prefix="padim-edge-"))
    folder.mkdir(parents=True, exist_ok=True)

    detector = Detector.load(model)
    paths = sorted(path for path in Path(images).iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    for inspection in detector.inspect_many(paths):
        if inspection.verdict == "unreadable":
            print(f"unreadable      {inspection.error}")
            continue
        print(f"{inspection.verdict:<14}  {inspection.score:8.2f}  {inspection.path} {' '.join(inspection.warnings)}")
        if inspection.verdict != "good":
            inspection.overlay().save(folder / f"{inspection.path.stem}.png")
    print(f"overlays in {folder}")


if __name__ == "__main__":
    main()
