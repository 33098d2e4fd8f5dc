"""The planner's rules as ``memory.toml`` states them: what writes in place, what aliases, what is folded away."""

from functools import cache
from typing import Any

from changeover_validators.tables import rows
from changeover_validators.vram.planner import Fusion, MemoryRules

__all__ = ["memory_rules"]


@cache
def memory_rules() -> MemoryRules:
    """The rules of the shipped table."""
    table = rows("memory")
    fusions = tuple(Fusion(frozenset(row["operators"]), frozenset(row["after"])) for row in table["fused"])
    return MemoryRules(_operators(table["in_place"]), _operators(table["alias"]), fusions)


def _operators(found: list[dict[str, Any]]) -> frozenset[str]:
    return frozenset(name for row in found for name in row["operators"])
