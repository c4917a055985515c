"""Continuous operation on a line: images come in, each gets one verdict on record, and others are told.

The way of an image: a source makes an `Arrival`, the line judges it, the record makes its `Row` durable, and the sinks
tell others about the row.
"""
