"""Golden shots: a studio's own plates and approved mattes, and how a candidate is scored and judged on them.

Nothing is imported here: `judge` works in the base installation, the other modules need the extra `run`.
"""
