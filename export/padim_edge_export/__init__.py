"""Backbone -> embedding graph; embedding graph + statistics -> fused graph -> file."""
