"""The benchmarks are no distribution: tests import them from the root of the repository, and helpers from here."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
