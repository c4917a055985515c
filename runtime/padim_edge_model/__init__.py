"""From statistics to the fused model: whitening, distance, map and file. numpy and onnx, no torch."""
