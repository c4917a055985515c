"""Learning from good images on the device: fit, calibrate, update. Needs onnx and threadpoolctl, not torch."""
