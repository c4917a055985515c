"""Reading line.toml: right files become values, wrong ones one sentence with the nearest right word."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from padim_edge_artifact import PadimEdgeError
from padim_edge_line import config
from padim_edge_line.config import CameraConfig, FolderConfig, MqttConfig, WebhookConfig
from padim_edge_line.configuration import is_loopback, line_of, read

PAGE = Path(__file__).parents[2] / "docs" / "line-file.md"
PRODUCT = '[products.bottle]\nmodel = "bottle.onnx"\n'
SERVER = "[server]\nport = 1\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "line.toml"
    path.write_text(text)
    return path


def test_the_example_of_the_page_is_a_line(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    line = read(written(tmp_path, block))
    assert [product.name for product in line.products] == ["bottle", "screw"]
    assert [type(source) for source in line.sources] == [FolderConfig, CameraConfig]
    assert line.products[0].model == tmp_path / "bottle.onnx"
    assert line.folder == tmp_path / "line-data"
    assert line.sources[0].move_to == tmp_path / "done"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "kind",
    [
        config.LineConfig,
        config.ProductConfig,
        *config.SOURCES.values(),
        *config.SINKS.values(),
        config.ServerConfig,
        config.RecordConfig,
        config.JudgingConfig,
    ],
)
def test_the_page_has_every_key_with_its_default(kind: Any) -> None:
    page = PAGE.read_text()
    for each in fields(kind):
        if kind is config.LineConfig and each.name in ("products", "sources", "sinks", "server", "record", "judging"):
            continue
        if kind is config.ProductConfig and each.name == "name":
            continue
        rows = [line for line in page.splitlines() if line.startswith(f"| `{each.name}` |")]
        assert rows, each.name
        if each.default is MISSING:
            continue
        default = each.default
        shown = (
            str(default).lower() if isinstance(default, bool) else f'"{default}"' if isinstance(default, str) else ""
        )
        if isinstance(default, (int, float)) and not isinstance(default, bool):
            shown = str(default)
        assert not shown or any(re.sub(r"_", "", shown) in re.sub(r"_", "", row) for row in rows), each.name


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "there is no product, expected a table such as"),
        ("[products]\nbottle = 1\n" + SERVER, r"\[products.bottle\] is 1, expected a table"),
        ("[products.bottle]\n" + SERVER, r"\[products.bottle\] has no model; add it"),
        ('[products.bottle]\nmodle = "x"\n', "'modle' is no key in .*; do you mean 'model'?"),
        ('[products."a b"]\nmodel = "x"\n' + SERVER, "'a b' is no name"),
        ("nmae = 'x'\n" + PRODUCT, "'nmae' is no key in the file.*do you mean 'name'?"),
        (PRODUCT, "nothing brings images"),
        (PRODUCT + "[server]\nimages = false\n", "nothing brings images"),
        (PRODUCT + "[server]\nport = 70000\n", r"port in \[server\] is 70000, expected 0 to 65535"),
        (PRODUCT + "[server]\nport = true\n", r"port in \[server\] is True, expected a whole number"),
        (PRODUCT + '[server]\nport = "1"\n', "expected a whole number"),
        (PRODUCT + "[server]\nrate = nan\n", "rate in .* is nan"),
        (PRODUCT + '[server]\nhost = "0.0.0.0"\n', "which others can reach, and there is no token_file"),
        (PRODUCT + "[sources]\nkind = 'folder'\n", r"\[sources\] is one table, expected \[\[sources\]\]"),
        (PRODUCT + "[[sources]]\nkind = 'foldr'\n", "'foldr' is no kind in .*do you mean 'folder'?"),
        (PRODUCT + "[[sources]]\npath = 'x'\n", "'None' is no kind in"),
        (PRODUCT + "[[sources]]\nkind = 'folder'\nname = 'a'\n", "number 1 .folder. has no path"),
        (PRODUCT + "[[sources]]\nkind = 'folder'\nname = 'a'\npath = 'x'\njudged = 'moved'\n", "do you mean 'move'?"),
        (PRODUCT + "[[sources]]\nkind = 'folder'\nname = 'a'\npath = 'x'\njudged = 'move'\n", "needs both judged"),
        (
            PRODUCT + "[[sources]]\nkind = 'folder'\nname = 'a'\npath = 'x'\njudged = 'move'\nmove_to = 'x/done'\n",
            "lies within the watched folder",
        ),
        (
            PRODUCT + "[[sources]]\nkind = 'folder'\nname = 'a'\npath = 'x'\nproduct = 'botle'\n",
            "'botle' is no product of the source a.*do you mean 'bottle'?",
        ),
        (PRODUCT + SERVER + "[[sinks]]\nkind = 'opcua'\nsource = 'x'\n", "expected one of: none"),
        (PRODUCT + SERVER + "[[sinks]]\nkind = 'webhook'\nurl = 'ftp://x'\n", "neither http:// nor https://"),
        (
            PRODUCT + SERVER + "[[sinks]]\nkind = 'webhook'\nurl = 'http://x'\nverdicts = ['bad']\n",
            "'bad' is no verdict",
        ),
        (PRODUCT + SERVER + "[[sinks]]\nkind = 'mqtt'\n[[sinks]]\nkind = 'mqtt'\n", "two sinks are called 'mqtt'"),
        ("x = [", "is no TOML"),
        ("x = " + "[" * 5000, "is no TOML"),
    ],
)
def test_a_wrong_file_is_answered_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(PadimEdgeError, match=sentence) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value).replace("\n", "", 0).strip()


CAMERA = "[[sources]]\nkind = 'camera'\nname = 'c'\ntrigger = 'software'\n"


@pytest.mark.parametrize(
    ("sink", "sentence"),
    [
        ("kind = 'opcua'\nsource = 'c'\nhost = '0.0.0.0'\n", "give username and password_file"),
        ("kind = 'modbus'\nsource = 'c'\nhost = '10.0.0.1'\n", "set open_network = true"),
        ("kind = 'mqtt'\ntriggers = 'd'\n", "'d' is no source of the sink mqtt"),
    ],
)
def test_what_others_can_reach_needs_a_word(tmp_path: Path, sink: str, sentence: str) -> None:
    with pytest.raises(PadimEdgeError, match=sentence):
        read(written(tmp_path, PRODUCT + CAMERA + "[[sinks]]\n" + sink))


def test_a_missing_file_and_a_huge_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PadimEdgeError, match="cannot be read"):
        read(tmp_path / "none.toml")
    with pytest.raises(PadimEdgeError, match="more than 1000000 bytes"):
        read(written(tmp_path, "#" * 1_000_001))


def test_values_of_sinks_are_read(tmp_path: Path) -> None:
    line = line_of(
        {
            "products": {"a": {"model": "a.onnx", "min_area": 5, "threshold": 3}},
            "server": {"rate": 5},
            "sinks": [
                {"kind": "mqtt", "password_file": "p"},
                {"kind": "webhook", "url": "https://x", "verdicts": ["anomalous", "not comparable"]},
            ],
        },
        tmp_path,
    )
    mqtt, webhook = line.sinks
    assert isinstance(mqtt, MqttConfig)
    assert isinstance(webhook, WebhookConfig)
    assert mqtt.password_file == tmp_path / "p"
    assert webhook.verdicts == ("anomalous", "not comparable")
    assert line.products[0].threshold == 3.0


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("127.9.9.9", True), ("0.0.0.0", False), ("::", False),
     ("10.0.0.1", False), ("device.local", False), ("localhost.evil.com", False), ("", False)],
)  # fmt: skip
def test_loopback_addresses_are_told_from_others(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
