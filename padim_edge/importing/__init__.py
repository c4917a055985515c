"""Models of other programs, turned into ours: a PaDiM of anomalib 2.x, with a certificate of what it answers here."""

from __future__ import annotations

from padim_edge.importing.run import Choice, Imported, import_anomalib

__all__ = ["Choice", "Imported", "import_anomalib"]
