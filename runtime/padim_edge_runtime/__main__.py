"""`python -m padim_edge_runtime` is `padim-edge`."""

from __future__ import annotations

from padim_edge_runtime.cli import main

main()
