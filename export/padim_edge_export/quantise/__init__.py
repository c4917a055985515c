"""The embedding graph in fewer bits: float16, and int8 for onnxruntime's CPU provider or for TensorRT."""
