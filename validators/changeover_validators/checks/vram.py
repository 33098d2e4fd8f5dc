"""Check 6, VRAM: whether an operating point's predicted memory fits what the policy leaves of a host's memory.

The budget comes from total memory and the policy, never from what happens to be free now, so the same facts always
give the same answer. A curve is compared, never extended: a plate that it does not hold is answered only by a larger
one that fits. What this leaves out: the prediction (`vram/`), and the go or no-go on free memory at changeover time.
"""

from decimal import Decimal

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu, HostFacts
from changeover_registry.records.findings import Finding, NotRun, Passed, Refused
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Tile
from changeover_registry.records.verdict import CurvePoint, OperatingPoint

__all__ = ["MIB", "budget", "check_vram"]

MIB = 1 << 20
"""Bytes in a MiB."""


def budget(facts: HostFacts, policy: Policy, provider: str) -> int | Unknown:
    """Bytes that weights and activations of a model may take at once.

    For ``cuda``: the least over the host's GPUs of total less reserved, the display's reserve where one may hang on it,
    Nuke's baseline, the headroom and the runtime's context. For ``cpu``: the policy's share of RAM. Never negative.
    """
    if provider == "cpu":
        if isinstance(facts.ram_mib, Unknown):
            return facts.ram_mib
        return int(facts.ram_mib * MIB * Decimal(policy.hardware.ram_share))
    if isinstance(facts.gpus, Unknown):
        return facts.gpus
    if not facts.gpus:
        return Unknown(unknown="no GPU on this host")
    found = [_gpu_budget(gpu, policy) for gpu in facts.gpus]
    unknown = [item for item in found if isinstance(item, Unknown)]
    return unknown[0] if unknown else min(item for item in found if isinstance(item, int))


def check_vram(
    point: OperatingPoint,
    curve: tuple[CurvePoint, ...],
    facts: HostFacts,
    policy: Policy,
    *,
    largest: Tile | None = None,
) -> Finding:
    """Compare `curve` at the policy's plate with the host's budget.

    Args:
        point: What the curve belongs to; its provider chooses between VRAM and RAM.
        curve: Predicted bytes at plate sizes; empty for what cannot be predicted, such as a ``.cat``.
        facts: The host.
        policy: Plate and reserves.
        largest: The largest tile that fits, if the caller searched for one; it becomes the refusal's remedy.
    """
    if not curve:
        why = "no prediction of memory for this variant (only ONNX graphs are read)"
        return _not_run(point, why, "measure it on this host, or override vram for this release")
    allowed = budget(facts, policy, point.provider)
    if isinstance(allowed, Unknown):
        return _not_run(point, f"the memory budget is unknown: {allowed.unknown}", "run changeover facts on this host")
    needed = _at_plate(curve, policy.vram.plate, allowed)
    width, height = policy.vram.plate
    if needed is None:
        return _not_run(point, f"no prediction at {width}x{height}", "run changeover check again with this policy")
    if needed <= allowed:
        detail = f"{_mib(needed)} of {_mib(allowed)} MiB at {width}x{height}, modelled"
        return Passed(check="vram", subject=str(point), detail=detail)
    return Refused(
        check="vram",
        subject=str(point),
        rule="VRAM budget" if point.provider != "cpu" else "RAM budget",
        expected=f"at most {_mib(allowed)} MiB ({_terms(point, policy)})",
        actual=f"{_mib(needed)} MiB at {width}x{height} with tile {point.tile}, modelled",
        remedy=_remedy(point, largest),
    )


def _gpu_budget(gpu: Gpu, policy: Policy) -> int | Unknown:
    if gpu.mig is not False:
        return Unknown(unknown=f"{gpu.name} is divided into instances; which one Nuke gets is not known")
    if isinstance(gpu.total_mib, Unknown):
        return gpu.total_mib
    if isinstance(gpu.reserved_mib, Unknown):
        return gpu.reserved_mib
    vram = policy.vram
    # An unknown display counts as one: a reserve too many costs a tile size, one too few costs a crash.
    display = 0 if gpu.display is False else vram.display_reserve_mib
    kept = gpu.reserved_mib + display + vram.nuke_baseline_mib + vram.headroom_mib + vram.context_mib
    return max(0, gpu.total_mib - kept) * MIB


def _at_plate(curve: tuple[CurvePoint, ...], plate: tuple[int, int], allowed: int) -> int | None:
    exact = [point.bytes for point in curve if (point.width, point.height) == plate]
    if exact:
        return exact[0]
    larger = [point.bytes for point in curve if point.width >= plate[0] and point.height >= plate[1]]
    # A larger plate that fits answers for a smaller one; one that does not fit says nothing about it.
    return min((needed for needed in larger if needed <= allowed), default=None)


def _terms(point: OperatingPoint, policy: Policy) -> str:
    if point.provider == "cpu":
        return f"{policy.hardware.ram_share} of the RAM"
    vram = policy.vram
    return (
        f"total less reserved, {vram.nuke_baseline_mib} for Nuke, {vram.headroom_mib} headroom, "
        f"{vram.context_mib} context, {vram.display_reserve_mib} where a display hangs on the card"
    )


def _remedy(point: OperatingPoint, largest: Tile | None) -> str:
    if largest is not None:
        return f"the largest operating point that fits is {point.variant}/{largest}/{point.provider}"
    return "use a smaller tile, or a host with more memory"


def _not_run(point: OperatingPoint, why: str, remedy: str) -> NotRun:
    return NotRun(check="vram", subject=str(point), why=why, remedy=remedy)


def _mib(size_bytes: int) -> int:
    """Whole MiB, rounded up, so that a line never says that 8 of 8 does not fit."""
    return -(-size_bytes // MIB)
