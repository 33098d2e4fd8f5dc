"""Memory before anything runs: what a model takes at a size, on a runtime, under settings, and where it fits.

`predictor` is the interface of what answers; `curves`, `footprint` and `solve` are arithmetic on answers, which a base
installation can do. All that reads a model needs the extra `run` (onnx): import it where a model is at hand.
"""
