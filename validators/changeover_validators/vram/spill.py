"""Whether a run spilled out of the GPU's memory into the host's: no error, only many times slower.

Windows' drivers since 536.40 do this in the place of "out of memory", so that a run ended well does not say that it
fitted. Two signs tell: the process holds memory of the host in the GPU's stead, or its frames take many times what the
same model took at the same size. Pure; what this leaves out is how either was measured.
"""

from changeover_registry.records.base import Unknown
from changeover_registry.records.memory import MemoryMeasurement

__all__ = ["FACTOR", "SHARED_BYTES", "spilled"]

FACTOR = 4
"""How many times slower than usual a frame may be; a spill costs an order of magnitude, a busy machine two or three."""

SHARED_BYTES = 64 << 20
"""What every process holds of the host's memory for the driver's own ends, without any spill."""


def spilled(measured: MemoryMeasurement, usual_us: int | None) -> str | None:
    """Why a measurement on a GPU must be a spill; None where nothing says so.

    Args:
        measured: The measurement.
        usual_us: Microseconds of a frame of the same key, where one was measured before.
    """
    if measured.key.provider != "cuda":
        return None
    shared, took = measured.shared_bytes, measured.frame_us
    if shared is not None and not isinstance(shared, Unknown) and shared > SHARED_BYTES:
        return f"{shared / 2**20:.0f} MiB of the host's memory stood in for the GPU's"
    if took is not None and usual_us and took > FACTOR * usual_us:
        return f"a frame took {took / usual_us:.1f} times what it took before ({took} against {usual_us} microseconds)"
    return None
