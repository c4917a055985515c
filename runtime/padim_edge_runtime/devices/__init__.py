"""Where a model runs: execution providers, TensorRT's engines, and what this machine offers."""
