"""Content of `line.toml` as values. `configuration` makes them from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "SINKS",
    "SOURCES",
    "CameraConfig",
    "FolderConfig",
    "JudgingConfig",
    "LineConfig",
    "ModbusConfig",
    "MqttConfig",
    "OpcUaConfig",
    "ProductConfig",
    "RecordConfig",
    "ServerConfig",
    "SinkConfig",
    "SourceConfig",
    "StdoutConfig",
    "WebhookConfig",
]


@dataclass(frozen=True, kw_only=True)
class ProductConfig:
    """A product that the line makes, and its model."""

    name: str
    """Name of the product: letters, digits, `-`, `_` and `.`."""
    model: Path
    """Model file, or bundle. `padim-edge promote` may put another one in its place."""
    bundled: str | None = None
    """Name of the model in a bundle, if it is not the product's name."""
    statistics: Path | None = None
    """Statistics that were kept with the model, for `padim-edge propose`; by default beside it, as `.npz`."""
    device: str = "auto"
    """Device that the model runs on, as for `infer --device`."""
    threshold: float | None = None
    """Threshold to use instead of the model's own."""
    min_area: int = 0
    """Regions of less area, in square pixels, are not reported."""


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """A folder that other programs write images into."""

    name: str
    """Name of the source."""
    path: Path
    """The folder."""
    product: str | None = None
    """Product of all its images; `None` takes the product that is made at the moment."""
    subfolders: bool = True
    """Whether sub-folders are watched, too."""
    judged: str = "keep"
    """Fate of a file that was judged: `keep`, `move` or `delete`."""
    move_to: Path | None = None
    """Folder that judged files are moved to, where `judged` is `move`. It must not lie within `path`."""
    settle_s: float = 1.0
    """Seconds without a change after which a file counts as complete where the system does not tell that it was
    closed."""
    poll: bool = False
    """Whether the folder is searched at intervals, for network drives that do not tell of changes."""


@dataclass(frozen=True, kw_only=True)
class CameraConfig:
    """A camera or a stream: PyAV's, or one that another package brings."""

    name: str
    """Name of the source."""
    camera: str = "av"
    """`av` for a USB camera, an RTSP stream or a video file, or the name of an entry point of the group
    `padim_edge.cameras`."""
    url: str = ""
    """Address to open, such as `/dev/video0`, `rtsp://camera/stream` or a video file."""
    product: str | None = None
    """Product of all its images; `None` takes the product that is made at the moment."""
    trigger: str = "free"
    """`free` judges frames as fast as possible, the newest first; `software` takes one frame for each trigger."""
    every_s: float = 0.0
    """Seconds from one frame to the next at least, where `trigger` is `free`."""
    timeout_s: float = 5.0
    """Seconds that a frame may take before the camera counts as lost and is opened again."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further options, which the camera understands."""


SourceConfig = FolderConfig | CameraConfig


@dataclass(frozen=True, kw_only=True)
class StdoutConfig:
    """One JSON object per image on stdout."""

    name: str = "stdout"
    """Name of the sink."""


@dataclass(frozen=True, kw_only=True)
class MqttConfig:
    """A broker that is told of each row, and of the state of the line."""

    name: str = "mqtt"
    """Name of the sink."""
    host: str = "localhost"
    """Host of the broker."""
    port: int = 1883
    """Port of the broker."""
    username: str | None = None
    """User at the broker."""
    password_file: Path | None = None
    """File with the password."""
    tls: bool = False
    """Whether the connection is encrypted."""
    ca_file: Path | None = None
    """File with the certificate that the broker's is checked against; `None` takes the system's."""
    topic: str = "padim-edge"
    """First part of all topics; the line's name follows."""
    home_assistant: bool = True
    """Whether the line announces itself to Home Assistant under `homeassistant/`."""
    triggers: str | None = None
    """Source that messages to the topic `.../trigger` trigger."""


@dataclass(frozen=True, kw_only=True)
class WebhookConfig:
    """A URL that is told of rows by POST."""

    name: str = "webhook"
    """Name of the sink."""
    url: str = field(repr=False)
    """URL to post to."""
    secret_file: Path | None = None
    """File with the secret that signs the content (HMAC-SHA-256)."""
    verdicts: tuple[str, ...] = ()
    """Verdicts to tell; all of them where empty."""
    timeout_s: float = 10.0
    """Seconds that one attempt may take."""


@dataclass(frozen=True, kw_only=True)
class OpcUaConfig:
    """An OPC UA server, through which a PLC triggers a source and reads the result."""

    name: str = "opcua"
    """Name of the sink."""
    host: str = "127.0.0.1"
    """Address that the server listens on."""
    port: int = 4840
    """Port that the server listens on."""
    source: str
    """Source that the PLC triggers."""
    timeout_s: float = 2.0
    """Seconds from the trigger to the result; then the part is rejected."""
    heartbeat_s: float = 0.5
    """Period of the heartbeat."""
    username: str | None = None
    """User that may connect; needed where `host` is not a loopback address."""
    password_file: Path | None = None
    """File with the password of that user."""


@dataclass(frozen=True, kw_only=True)
class ModbusConfig:
    """A Modbus TCP server, through which a PLC triggers a source and reads the result."""

    name: str = "modbus"
    """Name of the sink."""
    host: str = "127.0.0.1"
    """Address that the server listens on. Modbus has no passwords: only a network of its own is safe."""
    port: int = 5020
    """Port that the server listens on; PLCs expect 502, which needs rights."""
    source: str
    """Source that the PLC triggers."""
    timeout_s: float = 2.0
    """Seconds from the trigger to the result; then the part is rejected."""
    heartbeat_s: float = 0.5
    """Period of the heartbeat."""
    open_network: bool = False
    """Confirms that `host` may be another than a loopback address although nobody has to log in."""


SinkConfig = StdoutConfig | MqttConfig | WebhookConfig | OpcUaConfig | ModbusConfig

SOURCES: Mapping[str, type[SourceConfig]] = {"folder": FolderConfig, "camera": CameraConfig}
"""Kinds of sources."""

SINKS: Mapping[str, type[SinkConfig]] = {
    "stdout": StdoutConfig,
    "mqtt": MqttConfig,
    "webhook": WebhookConfig,
    "opcua": OpcUaConfig,
    "modbus": ModbusConfig,
}
"""Kinds of sinks."""


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """The page, the HTTP interface and the metrics."""

    host: str = "127.0.0.1"
    """Address to listen on. Any but a loopback address needs `token_file`."""
    port: int = 8765
    """Port to listen on; 0 takes a free one."""
    token_file: Path | None = None
    """File with the token for changes; by default one is made in the line's folder."""
    public: bool = False
    """Whether the page may be read without the token where `host` is not a loopback address."""
    images: bool = True
    """Whether images may be posted."""
    most_mb: int = 64
    """Largest posted image in MB."""
    rate: float = 50.0
    """Requests a second that one address may make on average; bursts of four times as many are allowed."""
    batch: int = 8
    """Most images of requests to `/v2` that a GPU judges in one call. A CPU judges each by itself."""
    batch_wait_ms: float = 2.0
    """Milliseconds that an image waits for others to come, on a GPU that is idle."""


@dataclass(frozen=True, kw_only=True)
class RecordConfig:
    """How long rows and images are kept."""

    rows: int = 10_000_000
    """Number of rows to keep; the oldest go first."""
    images_mb: int = 2000
    """MB of kept images; the oldest go first, those that a person marked last."""
    good_every: int = 200
    """Number of good images of which one is kept; 0 keeps none. Images of all other verdicts are kept."""


@dataclass(frozen=True, kw_only=True)
class JudgingConfig:
    """How the processor is used."""

    prefer: str = "auto"
    """`latency` gives one image all cores, `throughput` gives each core an image; `auto` is `throughput` where all
    sources are folders and no images are posted."""
    most_waiting: int = 64
    """Number of images that may wait for a core; further posts are refused with 429."""


@dataclass(frozen=True, kw_only=True)
class LineConfig:
    """A whole line."""

    name: str = "line"
    """Name of the line in topics and on the page: letters, digits, `-`, `_` and `.`."""
    folder: Path
    """Folder for the record, the kept images, the token and proposals."""
    products: tuple[ProductConfig, ...]
    """Products, at least one. The first is made until another is chosen."""
    sources: tuple[SourceConfig, ...] = ()
    """Sources besides posted images."""
    sinks: tuple[SinkConfig, ...] = ()
    """Sinks."""
    server: ServerConfig | None = None
    """The page; `None` without one."""
    record: RecordConfig = RecordConfig()
    """The record."""
    judging: JudgingConfig = JudgingConfig()
    """The use of the processor."""
