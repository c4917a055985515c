"""Measure how well a model tells good images from anomalous ones, and what one model costs against another."""
