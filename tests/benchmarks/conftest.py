"""Search paths: the benchmarks are not installed, so tests import them from the repository, and helpers from here."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
