"""Whether a release fits a host at a plate: the answer with all that it rests on, for a person and for ``--json``.

Offline: facts come from a file or from this machine, predictions from arithmetic on the model file. What is decided is
decided in `changeover_validators.fits`; this module brings it what it needs and says what came of it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from changeover_registry.errors import ChangeoverError, InvalidInputError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu, HostFacts
from changeover_registry.records.memory import MemoryAnswer, MemoryPlan
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Tile, Variant
from changeover_registry.records.verdict import OperatingPoint
from changeover_updater.predicting import Predictors
from changeover_updater.subjects import Subject
from changeover_validators.checks.budget import Budget, budget
from changeover_validators.fits import Fits, Judged, codes, judge_points, passed_over
from changeover_validators.probe import forged_host, forged_hosts
from changeover_validators.vram.curves import tensor_size
from changeover_validators.vram.footprint import Footprint, Room, footprint_of, need_of
from changeover_validators.vram.solve import Solution, Tried, largest_on_plate, largest_tile, tiles_of

__all__ = [
    "EXIT_CODES",
    "Answered",
    "Solved",
    "answer",
    "answer_object",
    "current_footprint",
    "fits_object",
    "host_of_gpu",
    "not_counted",
    "on_cpu",
    "plan_note",
    "plate_of",
    "range_note",
    "solve_tiles",
]

EXIT_CODES = {"fits": 0, "over-budget": 3, "incompatible": 3, "unknown": 4}
_STATIC_SAVES = 2
"""How many times less a session of fixed shapes might ask for: more than was ever seen (research, hardware, 1.2)."""
_PLATE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answered:
    """A question and what came of it.

    `old` is what the release in use takes there, None where none is; `usual` is the policy's own plate, where the
    question is about another one.
    """

    subject: Subject
    facts: HostFacts
    policy: Policy
    fits: Fits
    old: Footprint | Unknown | None = None
    usual: tuple[int, int] | None = None

    @property
    def nearest(self) -> Judged | None:
        """The chosen point; without one, the point with a prediction that needs least."""
        if self.fits.chosen is not None:
            return self.fits.chosen
        known = [one for one in self.fits.points if one.need is not None]
        return min(known, key=lambda one: one.need.bytes if one.need else 0, default=None)


@dataclass(frozen=True, slots=True)
class Solved:
    """The largest tile of a variant on a provider: of those that its loader allows, and of all, for its vendor."""

    variant: str
    provider: str
    allowed: Solution
    any_size: Solution


def plate_of(text: str) -> tuple[int, int]:
    """``4096x2160`` as width and height.

    Raises:
        InvalidInputError: It is not of that form.
    """
    match = _PLATE.fullmatch(text)
    if match is None or max(sizes := (int(match[1]), int(match[2]))) > 65536:
        raise InvalidInputError(
            "plate",
            where="--plate",
            expected="width and height in pixels, such as 4096x2160",
            actual=repr(text),
            remedy="correct it",
        )
    return sizes


def host_of_gpu(name: str, where: str = "--gpu") -> HostFacts:
    """A shipped host with one such card, by the product's name or a part of it; `where` is where somebody named it.

    Raises:
        InvalidInputError: No shipped host has it, or the name says several products.
    """
    cards = {(gpu.name, host): gpu for host in forged_hosts() for gpu in _gpus(forged_host(host))}
    found = {key: gpu for key, gpu in cards.items() if name.lower() in key[0].lower()}
    exact = {key: gpu for key, gpu in found.items() if key[0].lower().endswith(name.lower())} or found
    products = sorted({product for product, _ in exact})
    if len(products) != 1:
        raise InvalidInputError(
            "GPU",
            where=where,
            expected=f"one of {', '.join(sorted({product for product, _ in cards}))}",
            actual=repr(name) if not products else f"{name!r}, which is {' or '.join(products)}",
            remedy="write its name so, or give facts of a host that has it: --host FILE",
        )
    hosts = sorted({host for _, host in exact}, key=_plainness)
    gpu = next(gpu for (_, host), gpu in exact.items() if host == hosts[0])
    return forged_host(hosts[0]).model_copy(update={"gpus": (gpu,), "nuke_gpu": None})


def _plainness(host: str) -> tuple[object, ...]:
    """What of several hosts with one card is asked about: one card alone, the newest driver."""
    facts = forged_host(host)
    driver = facts.driver if isinstance(facts.driver, str) else "0"
    return len(_gpus(facts)), [-int(part) for part in re.findall(r"[0-9]+", driver)], host


def _gpus(facts: HostFacts) -> tuple[Gpu, ...]:
    return facts.gpus if isinstance(facts.gpus, tuple) else ()


def on_cpu(facts: HostFacts, policy: Policy) -> tuple[HostFacts, Policy]:
    """The same host as if it had no GPU, under a policy that serves on the CPU."""
    hardware = policy.hardware.model_copy(update={"serve_on_cpu": True})
    return facts.model_copy(update={"gpus": ()}), policy.model_copy(update={"hardware": hardware})


def answer(
    subject: Subject,
    facts: HostFacts,
    policy: Policy,
    predictors: Predictors,
    old: Footprint | Unknown | None = None,
    usual: tuple[int, int] | None = None,
) -> Answered:
    """Judge every operating point of `subject` on the host of `facts` at the policy's plate."""
    predicting = _Predicting(subject, facts, policy, predictors, old if isinstance(old, Footprint) else None)
    found = judge_points(subject.release, facts, policy, predicting, old)
    return Answered(subject, facts, policy, predicting.settled(found), old, usual)


def current_footprint(
    current: Subject, facts: HostFacts, policy: Policy, predictors: Predictors, provider: str
) -> Footprint | Unknown:
    """What the release in use takes on a host that no verdict was made on: predicted, as of any other release.

    It is taken at the point that would be used there; where none fits, at the one that needs least.
    """
    nothing = Unknown(unknown=f"nothing is known of {current.name}")
    try:
        found = answer(current, facts, policy, predictors).fits
    except ChangeoverError:
        return nothing
    known = [one for one in found.points if one.answer and one.need and one.point.provider == provider]
    fitting = next((one for one in known if one.outcome == "fits"), None)
    near = fitting or min(known, key=lambda one: one.need.bytes if one.need else 0, default=None)
    return footprint_of(near.answer) if near and near.answer else nothing


def not_counted(answered: Answered) -> str | None:
    """That the changeover is not counted, and why, where the policy asks for it and the release in use is unknown."""
    if not isinstance(answered.old, Unknown) or answered.policy.vram.changeover == "unload-first":
        return None
    return f"the changeover is not counted: {answered.old.unknown}"


def plan_note(answered: Answered) -> str | None:
    """That another plan is served than the one of this answer: a verdict's plan is the one for the policy's plate."""
    near, usual = answered.nearest, answered.usual
    variant = answered.subject.release.variant(near.point.variant) if near else None
    if near is None or near.answer is None or variant is None or usual is None:
        return None
    if tensor_size(variant.contract, *usual, near.point.tile) == (near.answer.key.width, near.answer.key.height):
        return None
    return (
        f"the plan is chosen for this plate; a release is checked and served under the plan for the policy's "
        f"({usual[0]}x{usual[1]}), with which this plate may take more"
    )


def range_note(found: MemoryAnswer) -> str | None:
    """What the width of a range on a GPU is that nobody measured: less the sessions than what cuDNN takes."""
    key = found.key
    modelled = (key.runtime, key.provider, found.label) == ("onnxruntime", "cuda", "modelled")
    if not modelled or key.plan.cudnn_max_workspace is False:
        return None
    return "least with onnxruntime's bound for cuDNN's workspace, most with all that cuDNN may take: not measured"


@dataclass(frozen=True, slots=True)
class _Predicting:
    """Predicts points under plans that are quickly chosen, and under the best one where that could change an answer."""

    subject: Subject
    facts: HostFacts
    policy: Policy
    predictors: Predictors
    old: Footprint | None

    def __call__(self, variant: Variant, point: OperatingPoint) -> MemoryAnswer:
        """The prediction of a point at the policy's plate."""
        quick = self._answer(variant, point, quick=True)
        allowed = budget(self.facts, self.policy, point.provider)
        if isinstance(allowed, Unknown):
            return quick
        room = Room(allowed.allowed_bytes, self.policy, self.old)
        hopeless = room.share(room.allowed_bytes) < quick.requested_bytes // _STATIC_SAVES
        return quick if hopeless or room.fits(quick) else self._answer(variant, point, quick=False)

    def settled(self, found: Fits) -> Fits:
        """With the chosen point under the plan that a check would keep for it."""
        chosen = found.chosen
        variant = self.subject.release.variant(chosen.point.variant) if chosen else None
        if chosen is None or variant is None:
            return found
        best = self._answer(variant, chosen.point, quick=False)
        need = need_of(footprint_of(best), self.policy, self.old)
        settled = replace(chosen, answer=best, need=need)
        points = tuple(settled if one is chosen else one for one in found.points)
        return replace(found, points=points, chosen=settled)

    def _answer(self, variant: Variant, point: OperatingPoint, *, quick: bool) -> MemoryAnswer:
        predictor = self.predictors.of(self.subject.release, variant, point.provider)
        size = tensor_size(variant.contract, *self.policy.vram.plate, point.tile)
        return predictor.answer(*size, self.predictors.plan(predictor, variant, point.tile, size, quick=quick))


def solve_tiles(answered: Answered, predictors: Predictors, old: Footprint | None = None) -> tuple[Solved, ...]:
    """The largest tile of each variant that the host can run, with the next larger one.

    What is unknown is left out, and so is a variant whose tensor has one size whatever the tile.
    """
    if isinstance(answered.fits.budget, Unknown):
        return ()
    room = Room(answered.fits.budget.allowed_bytes, answered.policy, old)
    found = []
    for variant_id, provider in dict.fromkeys((one.point.variant, one.point.provider) for one in answered.fits.points):
        variant = answered.subject.release.variant(variant_id)
        if variant is None or variant.contract.resize is not None or not _predicted(answered, variant_id, provider):
            continue
        found.append(_solved(answered, predictors, variant, provider, room))
    return tuple(found)


def _predicted(answered: Answered, variant: str, provider: str) -> bool:
    points = (one for one in answered.fits.points if (one.point.variant, one.point.provider) == (variant, provider))
    return any(one.answer is not None for one in points)


def _solved(answered: Answered, predictors: Predictors, variant: Variant, provider: str, room: Room) -> Solved:
    predictor, plate = predictors.of(answered.subject.release, variant, provider), answered.policy.vram.plate

    def plan(tile: Tile, width: int, height: int) -> MemoryPlan:
        return predictors.plan(predictor, variant, tile, (width, height))

    def quick_plan(tile: Tile, width: int, height: int) -> MemoryPlan:
        # The best plan may fix the shapes, which would take sessions of their own for each of a dozen sizes.
        return predictors.plan(predictor, variant, tile, (width, height), quick=True)

    allowed = largest_tile(predictor, variant.contract, tiles_of(variant), plate, room, plan)
    any_size = largest_on_plate(predictor, variant.contract, plate, room, quick_plan)
    return Solved(variant.id, provider, allowed, any_size)


def answer_object(answered: Answered, solved: tuple[Solved, ...] | None = None) -> dict[str, Any]:
    """An answer for ``--json``: of the chosen point, else of the one that comes nearest."""
    near = answered.nearest
    return {
        "model": answered.subject.name,
        "host": answered.facts.host,
        "plate": list(answered.policy.vram.plate),
        "fixed_tensor": list(answered.subject.fixed) if answered.subject.fixed else None,
        "answer": answered.fits.outcome,
        "exit_code": EXIT_CODES[answered.fits.outcome],
        "chosen": str(answered.fits.chosen.point) if answered.fits.chosen else None,
        "point": str(near.point) if near else None,
        **_of(near.answer if near else None),
        "plan_note": plan_note(answered),
        "need": _need(near),
        "changeover_note": not_counted(answered),
        "budget": _budget(answered.fits.budget),
        "reasons": []
        if answered.fits.chosen
        else sorted({code for one in answered.fits.points for code in codes(one)}),
        "points": [fits_object(one) for one in answered.fits.points],
        "passed_over": [
            {"point": str(one.point), "answer": one.outcome, "codes": list(codes(one)), "why": why}
            for one, why in passed_over(answered.fits)
        ],
        **({} if solved is None else {"solve": [_solution(one) for one in solved]}),
    }


def fits_object(one: Judged) -> dict[str, Any]:
    """One operating point for ``--json``."""
    return {
        "point": str(one.point),
        "variant": one.point.variant,
        "precision": one.point.precision,
        "tile": str(one.point.tile),
        "provider": one.point.provider,
        "answer": one.outcome,
        "codes": list(codes(one)),
        "findings": [finding.model_dump(mode="json", exclude_none=True) for finding in one.findings],
        "need": _need(one),
        "total_bytes": one.answer.total_bytes if one.answer else None,
        "label": one.answer.label if one.answer else None,
    }


def _of(found: MemoryAnswer | None) -> Mapping[str, Any]:
    """The figures of an answer with the tuple that they belong to; a number never stands alone."""
    if found is None:
        names = ("runtime", "provider", "options", "steady", "range", "range_note", "parts", "resting_bytes")
        return dict.fromkeys((*names, "total_bytes", "label", "key"))
    body = found.model_dump(mode="json")
    return {
        "runtime": f"{found.key.runtime} {found.key.version}",
        "provider": found.key.provider,
        "options": found.key.plan.model_dump(mode="json"),
        "steady": body["steady"],
        "range": body["range"],
        "range_note": range_note(found),
        "parts": [part for part in body["parts"] if part["name"] != "resting"],
        "resting_bytes": found.part("resting"),
        "total_bytes": found.total_bytes,
        "label": found.label,
        "key": found.key.model_dump(mode="json", exclude={"plan"}, exclude_none=True),
    }


def _need(one: Judged | None) -> dict[str, Any] | None:
    if one is None or one.need is None:
        return None
    need = one.need
    return {"bytes": need.bytes, "alone_bytes": need.alone_bytes, "changeover_bytes": need.changeover_bytes}


def _budget(found: Budget | Unknown) -> dict[str, Any]:
    if isinstance(found, Unknown):
        return {"unknown": found.unknown}
    return {
        "device": found.device,
        "name": found.name,
        "total_bytes": found.total_bytes,
        "kept": {part.what: part.bytes for part in found.kept},
        "allowed_bytes": found.allowed_bytes,
    }


def _solution(one: Solved) -> dict[str, Any]:
    return {
        "variant": one.variant,
        "provider": one.provider,
        "allowed": _sizes(one.allowed),
        "any_size": _sizes(one.any_size),
    }


def _sizes(found: Solution) -> dict[str, Any]:
    """The largest that fits and the next larger one; where none fits, the smallest that was tried."""
    if found.best is None:
        return {"best": None, "larger": None, "smallest": _tried(found.larger)}
    return {"best": _tried(found.best), "larger": _tried(found.larger)}


def _tried(one: Tried | None) -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        "tile": str(one.tile),
        "tensor": [one.width, one.height],
        "need_bytes": one.need_bytes,
        "fits": one.fits,
        "conservative": one.conservative,
        "why": one.why or None,
    }
