"""Memory before anything runs: the graph of an ONNX file, a plan of its buffers, and answers for plates and tiles.

`graph` reads, `planner` decides, `solve` answers. Needs the extra `run` (onnx): import it where a model is at hand.
"""

from changeover_validators.vram.solve import Prediction, curve, largest_size, largest_tile, predict, tensor_size

__all__ = ["Prediction", "curve", "largest_size", "largest_tile", "predict", "tensor_size"]
