"""`python -m padim_edge.fit`, or `torchrun --nproc-per-node K -m padim_edge.fit`: the command `padim-edge fit`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command with the arguments of this process."""
    from padim_edge_runtime.cli import main as run

    sys.argv.insert(1, "fit")
    run()


if __name__ == "__main__":
    main()
