"""Fit PaDiM on good images and export one fused ONNX graph."""
