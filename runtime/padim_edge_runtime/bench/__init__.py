"""Measurements of a model on this machine: latency, throughput, memory, temperature and power."""
