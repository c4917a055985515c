"""Devices that a model runs on: execution providers, TensorRT's engines, and what this machine offers."""
