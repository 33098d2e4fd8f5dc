"""Runs one model a few times with the runtime's log at level INFO, which tells each extension of its arena.

    python arena_log.py MODEL FEEDS RUNS    FEEDS is JSON: {input: [dims]}; the log goes to standard error

Needs no more than onnxruntime, of any release since 1.15, and numpy; nothing of ours is imported, so a throw-away
environment can run it. The last line that it makes the runtime write is the arena's size (`statistics.logged_total`).
"""

import json
import sys

__all__ = ["main"]


def main(model: str, feeds: dict[str, list[int]], runs: int) -> str:
    """Run with the same values each time, and answer the runtime's release."""
    import numpy as np
    import onnxruntime

    onnxruntime.set_default_logger_severity(1)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 1
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    values = {name: np.full(shape, 0.5, np.float32) for name, shape in feeds.items()}
    for _ in range(runs):
        session.run(None, values)
    return str(onnxruntime.__version__)


if __name__ == "__main__":
    sys.stdout.write(main(sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])))
