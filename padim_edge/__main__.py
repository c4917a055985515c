"""`python -m padim_edge` is `padim-edge`."""

from __future__ import annotations

from padim_edge_runtime.cli import main

main()
