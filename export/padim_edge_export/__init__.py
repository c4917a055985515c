"""From a pretrained torch backbone to its embedding graph, in float32, float16 or int8."""
