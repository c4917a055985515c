"""The command `watch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from padim_edge_artifact.errors import PadimEdgeError
from padim_edge_line.cli.options import FolderOption, LineDeviceOption, LogJsonOption, address_of, names_of, start
from padim_edge_runtime.cli.options import INPUT, OUTPUT

__all__ = ["watch"]


def watch(
    images: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder that images are written into.")],
    model: Annotated[Path, typer.Option(metavar="MODEL", help="The model.", rich_help_panel=INPUT)],
    folder: FolderOption = None,
    judged: Annotated[
        str,
        typer.Option(
            metavar="keep|move|delete", help="What happens to files that were judged.", rich_help_panel=OUTPUT
        ),
    ] = "keep",
    move_to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where judged files are moved to.", rich_help_panel=OUTPUT)
    ] = None,
    mqtt: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Also tell an MQTT broker.", rich_help_panel=OUTPUT)
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Also tell a URL by POST.", rich_help_panel=OUTPUT)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per image on stdout.", rich_help_panel=OUTPUT)
    ] = False,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Serve the page.", rich_help_panel=OUTPUT)] = True,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the page on 127.0.0.1.", rich_help_panel=OUTPUT)
    ] = 8765,
    poll: Annotated[
        bool, typer.Option("--poll", help="Search the folder at intervals (network drives).", rich_help_panel=INPUT)
    ] = False,
    device: LineDeviceOption = "auto",
    log_json: LogJsonOption = False,
) -> None:
    """Judge each image that is written into a folder, once, until it is stopped.

    What more a line may need (cameras, PLC, several products) stands in a file: see `padim-edge run`.
    """
    if not images.is_dir():
        raise PadimEdgeError(f"{images} is no folder; make it, or name the one that images are written into")
    source: dict[str, Any] = {
        "kind": "folder",
        "name": "folder",
        "path": str(images.absolute()),
        "judged": judged,
        "poll": poll,
    }
    if move_to is not None:
        source |= {"move_to": str(move_to.absolute()), "judged": "move"}
    products = names_of([model])
    for each in products.values():
        each["device"] = device
    sinks: list[dict[str, Any]] = [{"kind": "stdout"}] if as_json else []
    if mqtt is not None:
        sinks.append({"kind": "mqtt", **address_of(mqtt, "--mqtt", 1883)})
    if webhook is not None:
        sinks.append({"kind": "webhook", "url": webhook})
    found: dict[str, Any] = {
        "name": next(iter(products)),
        "folder": str((folder or Path(f"{next(iter(products))}-line")).absolute()),
        "products": products,
        "sources": [source],
        "sinks": sinks,
    }
    if page:
        found["server"] = {"port": port, "images": False}

    def make() -> Any:
        from padim_edge_line.configuration import line_of

        return line_of(found, Path())

    start(make, log_json=log_json)
