"""The nodes of the OPC UA server: the inputs that a PLC writes, and the status that it reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from asyncua import ua
from asyncua.server.server import Server

from padim_edge_line.plc_registers import Status, status_bytes

__all__ = ["INPUT_NAMES", "NAMESPACE", "Nodes", "make_nodes"]

NAMESPACE = "urn:padim-edge:plc"
"""Address of the namespace of all nodes. Its index is 2."""

_Kind = ua.VariantType

_INPUTS: Mapping[str, tuple[ua.VariantType, Any]] = {
    "Recipe": (_Kind.UInt16, 0),
    "PartId": (_Kind.String, ""),
    "Trigger": (_Kind.UInt16, 0),
}

INPUT_NAMES = tuple(_INPUTS)
"""Names of the nodes that a client may write."""

_STATUS: Mapping[str, tuple[ua.VariantType, Callable[[Status], Any]]] = {
    "Heartbeat": (_Kind.UInt16, lambda status: status.heartbeat),
    "Ready": (_Kind.Boolean, lambda status: status.ready),
    "Busy": (_Kind.Boolean, lambda status: status.busy),
    "Score": (_Kind.Float, lambda status: status.score),
    "Threshold": (_Kind.Float, lambda status: status.threshold),
    "Row": (_Kind.UInt32, lambda status: status.row),
    "LatencyMs": (_Kind.UInt32, lambda status: status.latency_ms),
    "ResultProduct": (_Kind.UInt16, lambda status: status.answer_product),
    "ResultPartId": (_Kind.String, lambda status: status.answer.part),
    "Reason": (_Kind.UInt16, lambda status: int(status.answer.reason)),
    "Result": (_Kind.UInt16, lambda status: int(status.answer.result)),
    "ResultTrigger": (_Kind.UInt16, lambda status: status.answer.number),
    "Product": (_Kind.UInt16, lambda status: status.product),
    "Products": (_Kind.UInt16, lambda status: status.products),
    "ProductName": (_Kind.String, lambda status: status.product_name),
    "Triggers": (_Kind.UInt32, lambda status: status.orders % 2**32),
    "Good": (_Kind.UInt32, lambda status: status.good % 2**32),
    "Rejected": (_Kind.UInt32, lambda status: status.rejected % 2**32),
    "Block": (_Kind.ByteString, status_bytes),
}
"""Nodes of the status, in the order in which subscribers are told: the result behind all that belongs to it, and the
number of its trigger last."""

_CLEARED = ("Result", "ResultTrigger")
"""Nodes that subscribers are told of first where an answer is replaced."""


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """Access to the nodes of a server."""

    server: Server
    """The server."""
    ids: Mapping[str, ua.NodeId]
    """Address of each node by its name."""

    def serve(self, look: Callable[[], Status], wrote: Callable[[str, Any], None]) -> None:
        """Answer each reading with the present status, and pass on what clients write.

        Args:
            look: Function that returns the present status.
            wrote: Function that is given the name and the value of an input. It may raise an error of asyncua.
        """

        def reader(name: str) -> Callable[[ua.NodeId, Any], ua.DataValue]:
            return lambda _node, _attribute: _value(name, look())

        def writer(name: str, kind: type) -> Callable[[Any, Any, ua.DataValue], None]:
            def write(node: Any, attribute: Any, value: ua.DataValue) -> None:
                found = value.Value.Value if value.Value is not None else None
                if type(found) is not kind:
                    raise ua.uaerrors.BadTypeMismatch
                wrote(name, found)
                node.attributes[attribute].value = value

            return write

        for name in _STATUS:
            self.server.set_attribute_value_callback(self.ids[name], reader(name))
            # What `tell` writes is for subscribers only; readers are given the present status.
            self.server.set_attribute_value_setter(self.ids[name], lambda _node, _attribute, _value: None)
        for name, (_, first) in _INPUTS.items():
            self.server.set_attribute_value_setter(self.ids[name], writer(name, type(first)))

    async def tell(self, before: Status, after: Status) -> None:
        """Tell the subscribers what has changed: a cleared result first, a new one last."""
        if before.answer is not after.answer and before.answer.number:
            for name in _CLEARED:
                await self.server.write_attribute_value(self.ids[name], _value(name, Status()))
        for name, (_, field) in _STATUS.items():
            if name in _CLEARED or field(before) != field(after):
                await self.server.write_attribute_value(self.ids[name], _value(name, after))

    async def tell_time(self) -> None:
        """Bring the server's clock up to date, by which clients see that the connection lives."""
        await self.server.iserver.current_time_node.write_value(datetime.now(timezone.utc))


async def make_nodes(server: Server) -> Nodes:
    """Add the nodes to a server. Clients may write the inputs and nothing else."""
    space = await server.register_namespace(NAMESPACE)
    root = await server.nodes.objects.add_object(_id("PadimEdge", space), ua.QualifiedName("PadimEdge", space))
    ids = {}
    for folder, names in (("Inputs", _INPUTS), ("Status", _STATUS)):
        place = await root.add_object(_id(folder, space), ua.QualifiedName(folder, space))
        for name, (kind, _) in names.items():
            first = _INPUTS[name][1] if name in _INPUTS else _STATUS[name][1](Status())
            ids[name] = _id(f"{folder}.{name}", space)
            node = await place.add_variable(ids[name], ua.QualifiedName(name, space), first, varianttype=kind)
            if name in _INPUTS:
                await node.set_writable()
    return Nodes(server=server, ids=ids)


def _id(name: str, space: int) -> ua.NodeId:
    return ua.NodeId.from_string(f"ns={space};s={name}")


def _value(name: str, status: Status) -> ua.DataValue:
    kind, field = _STATUS[name]
    return ua.DataValue(ua.Variant(field(status), kind), SourceTimestamp=ua.DateTime.now(timezone.utc))
