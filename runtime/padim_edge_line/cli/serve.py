"""The command `serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from padim_edge_line.cli.options import FolderOption, LineDeviceOption, LogJsonOption, names_of, start
from padim_edge_runtime.cli.options import INPUT, OUTPUT

__all__ = ["serve"]


def serve(
    model: Annotated[
        list[Path], typer.Option(metavar="MODEL", help="A model; may be given several times.", rich_help_panel=INPUT)
    ],
    folder: FolderOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on.", rich_help_panel=OUTPUT)] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.", rich_help_panel=OUTPUT)
    ] = 8765,
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="File with the token; needed for any but a loopback address.", rich_help_panel=OUTPUT
        ),
    ] = None,
    device: LineDeviceOption = "auto",
    log_json: LogJsonOption = False,
) -> None:
    """Judge images that are sent by HTTP, and show them on a page.

    An image is sent with curl --data-binary @image.png -H "Content-Type: image/png" http://127.0.0.1:8765/api/images
    """
    products = names_of(model)
    for each in products.values():
        each["device"] = device
    server: dict[str, Any] = {"host": host, "port": port}
    if token_file is not None:
        server["token_file"] = str(token_file.absolute())
    first = next(iter(products))
    found = {
        "name": first,
        "folder": str((folder or Path(f"{first}-line")).absolute()),
        "products": products,
        "server": server,
    }

    def make() -> Any:
        from padim_edge_line.configuration import line_of

        return line_of(found, Path())

    start(make, log_json=log_json)
