"""Devices: which execution providers this machine has, and how a model is opened on one."""
