"""Sinks: the parts that tell others about rows. Each has a durable position in the record and no queue of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from padim_edge_line.config import ModbusConfig, MqttConfig, OpcUaConfig, SinkConfig, StdoutConfig, WebhookConfig

if TYPE_CHECKING:
    from padim_edge_line.interfaces import Sink

__all__ = ["check", "sink_of"]


def sink_of(config: SinkConfig, line_name: str) -> Sink:
    """Make a sink. Only the packages of its kind are imported."""
    if isinstance(config, StdoutConfig):
        from padim_edge_line.sinks.stdout import StdoutSink

        return StdoutSink(config)
    if isinstance(config, MqttConfig):
        from padim_edge_line.sinks.mqtt import MqttSink

        return MqttSink(config, line_name)
    if isinstance(config, WebhookConfig):
        from padim_edge_line.sinks.webhook import WebhookSink

        return WebhookSink(config, line_name)
    if isinstance(config, OpcUaConfig):
        from padim_edge_line.sinks.opcua import OpcUaSink

        return OpcUaSink(config)
    if isinstance(config, ModbusConfig):
        from padim_edge_line.sinks.modbus import ModbusSink

        return ModbusSink(config)
    raise TypeError(config)


async def check(config: SinkConfig) -> str:
    """Try the connection of a sink and return a sentence about it. Nothing is told to the other side.

    Raises:
        PadimEdgeError: There is no connection. The message says what to do.
    """
    if isinstance(config, StdoutConfig):
        from padim_edge_line.sinks import stdout

        return await stdout.check(config)
    if isinstance(config, MqttConfig):
        from padim_edge_line.sinks import mqtt

        return await mqtt.check(config)
    if isinstance(config, WebhookConfig):
        from padim_edge_line.sinks import webhook

        return await webhook.check(config)
    if isinstance(config, OpcUaConfig):
        from padim_edge_line.sinks import opcua

        return await opcua.check(config)
    if isinstance(config, ModbusConfig):
        from padim_edge_line.sinks import modbus

        return await modbus.check(config)
    raise TypeError(config)
