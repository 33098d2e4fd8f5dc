"""Runs small models one after another and tells the most memory that each run took. Started as a script of its own.

    python probe_peaks.py FOLDER    answers JSON: for each of index.json's models the peak in bytes, or why it has none;
                                    beside each model lies what the session made of it, as FILE.built

Needs no more than onnxruntime, of any release since 1.15, and numpy; the interpreter is a throw-away one, so nothing of
ours is imported here. Without an arena each buffer goes back to the system at once, so the growth of the process'
high-water mark over a run is what was alive (Linux). `index.json` lists [file, {input: [dims, dtype]}].
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["main"]

Feeds = Mapping[str, tuple[list[int], str]]


def main(folder: Path) -> dict[str, Any]:
    """The release, and the peak of each model: bytes, or the words with which the runtime refused it."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    index = json.loads((folder / "index.json").read_text("utf-8"))
    peaks = [_peak(folder / name, feeds) for name, feeds in index]
    return {"version": onnxruntime.__version__, "peaks": peaks}


def _peak(path: Path, feeds: Feeds) -> int | str:
    try:
        session = _session(path)
        values = {name: _values(shape, dtype) for name, (shape, dtype) in feeds.items()}
        Path("/proc/self/clear_refs").write_text("5", "ascii")
        before = _status("VmRSS")
        session.run(None, values)
        return max(0, _status("VmHWM") - before)
    except Exception as error:  # noqa: BLE001 - a runtime refuses what it does not know in classes of its own
        return str(error).splitlines()[0][:200]


def _session(path: Path) -> Any:  # noqa: ANN401 - onnxruntime has no types
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.optimized_model_filepath = f"{path}.built"
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _values(shape: list[int], dtype: str) -> Any:  # noqa: ANN401 - an array
    """Halves for real numbers, ones for whole ones, true: valid wherever they are fed."""
    import numpy as np

    return np.full(shape, 0.5 if dtype.startswith("float") else 1, dtype)


def _status(key: str) -> int:
    """Bytes of a line of the process' own status."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))))
