"""Fit PaDiM on good pictures and export one fused ONNX graph."""
