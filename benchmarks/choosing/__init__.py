"""Parts of `benchmarks.presets` and `benchmarks.score_rules`: which preset, and which score, for which part."""
