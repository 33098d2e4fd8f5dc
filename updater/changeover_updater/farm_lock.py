"""The farm lock: each node of a script with the release that Nuke would load for it at this station, frozen.

What a node resolves to is asked of the plug-in's own module, loaded from its folder: it is standard library and needs
no host, and two sets of rules would differ one day. `freeze` is a function of the script, the generation and the store;
it answers for every node or raises once, naming each node that has no answer. Left out: nodes inside a gizmo that the
script only names, and Graph Scope Variables, which only Nuke can read; where one of them matters, the caller says so.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import TYPE_CHECKING

from changeover_registry.errors import ChangeoverError, RefusedError, UndecidedError
from changeover_registry.records.farm import OS_NAMES, Device, LockedNode, OsName, OsPaths
from changeover_registry.records.station import Answer, Generation, GenerationRelease
from changeover_updater.nuke_script import NukeScript, ScriptNode
from changeover_updater.plugin import plugin_folder

if TYPE_CHECKING:
    import changeover_nuke_answers as answers

__all__ = ["NODE_CLASSES", "Frozen", "Job", "answers_module", "freeze", "system_name"]

NODE_CLASSES = frozenset({"Inference"})
"""The classes of node that the plug-in looks after."""

_MODEL, _VERSION, _DIGEST = "changeover_model", "changeover_version", "changeover_digest"
_STORED = re.compile(r"/releases/[^/]+/[^/]+/[^/]+-[0-9a-f]{12}/|/not-available/")
_TILES = ("None", "1024", "2048", "4096")
_TRUE = frozenset({"true", "1"})


@dataclass(frozen=True, slots=True)
class Job:
    """What is frozen, besides the script: the station's generation, the Nuke line, the scope, the roots of the store.

    `scope` is what was said by hand (show, sequence, shot); None leaves it to the generation's rules. `device` ``gpu``
    wants a GPU for every node, whatever the policy says. `there` says whether a path below the store is a file.
    """

    generation: Generation
    store: str
    nuke_line: str
    environment: Mapping[str, str]
    scope: tuple[str | None, str | None, str | None] | None = None
    paths: OsPaths | None = None
    system: OsName = "linux"
    device: Device = "any"
    there: Callable[[str], bool] = lambda _: True


@dataclass(frozen=True, slots=True)
class Frozen:
    """The lines of the lock, and nodes that are none of ours, with the file that each loads."""

    lines: tuple[LockedNode, ...]
    foreign: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


@cache
def answers_module() -> ModuleType:
    """The plug-in's module that decides what a node resolves to.

    Raises:
        InvalidInputError: The installation lacks the plug-in.
    """
    path = plugin_folder() / "changeover_nuke_answers.py"
    spec = spec_from_file_location("changeover_nuke_answers", path)
    if spec is None or spec.loader is None:  # pragma: no cover - a path that ends in .py has both
        message = f"{path} cannot be loaded"
        raise ImportError(message)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def system_name(platform: str) -> OsName:
    """The name in `[paths]` of the system that ``sys.platform`` names."""
    return "windows" if platform == "win32" else "macos" if platform == "darwin" else "linux"


def freeze(script: NukeScript, job: Job) -> Frozen:
    """Answer for every node of a script.

    Raises:
        RefusedError: A node has no release here, or wants a device that it is kept from.
        UndecidedError: What is chosen for single shows could apply to a node, and its show is not known.
    """
    frozen = answers_module().Frozen(job.store, job.generation.model_dump(mode="json", exclude_none=True))
    lines: list[LockedNode] = []
    foreign: list[tuple[str, str]] = []
    notes: list[str] = []
    errors: list[ChangeoverError] = []
    for node in script.nodes:
        try:
            question = _question(script, frozen, job, node)
            if question is None:
                foreign.append((node.name, node.knobs.get("modelFile", "")))
                continue
            lines.append(_line(script, frozen, job, node, question))
            notes.extend(_notes(job.generation, node, lines[-1]))
        except ChangeoverError as error:
            errors.append(error)
    if errors:
        raise _together(errors)
    return Frozen(tuple(lines), tuple(foreign), tuple(notes))


def _question(script: NukeScript, frozen: "answers.Frozen", job: Job, node: ScriptNode) -> "answers.Question | None":
    """What Nuke would ask for a node when the script is opened; None for a node that is none of ours."""
    module = answers_module()
    model, version, digest = (node.knobs.get(name, "").strip() for name in (_MODEL, _VERSION, _DIGEST))
    stamp = module.Release(model, version, digest) if model and (version or digest) else None
    if not model:
        stamp = _adopted(frozen, job, node)
        if stamp is None:
            return None
        model = stamp.model
    scope = _scope(script, frozen, job)
    question: answers.Question = module.Question(model, module.INFERENCE, job.nuke_line, scope, stamp, node.name)
    return question


def _adopted(frozen: "answers.Frozen", job: Job, node: ScriptNode) -> "answers.Release | None":
    """The release whose file an unstamped node loads: the plug-in stamps it with that when the script is opened."""
    path: str = answers_module().plain_path(node.knobs.get("modelFile", ""))
    for root in (job.store, *(root for name in OS_NAMES if job.paths and (root := job.paths.root(name)))):
        if path.startswith(root + "/"):
            found = frozen.release_at(frozen.root + path[len(root) :])
            if found is not None:
                return found
    if _STORED.search(path):
        raise RefusedError(
            "farm lock",
            where=node.name,
            expected=f"a Model File that generation {job.generation.number} serves",
            actual=f"{path}, which is none of its files, and no stamp",
            remedy="open the script in Nuke, choose the model again and save it",
        )
    return None


def _scope(script: NukeScript, frozen: "answers.Frozen", job: Job) -> "answers.Scope":
    module = answers_module()
    if job.scope is not None:
        said: answers.Scope = module.Scope(*job.scope)
        return said
    order = list(frozen.rules.get("order", ()))
    if script.gsv and "gsv" in order:
        # Whatever the variables say goes before the sources behind them, and nobody here can read what they say.
        order = order[: order.index("gsv")]
    found: answers.Scope = module.scope_by_rules(
        {**frozen.rules, "order": order},
        script.path,
        job.environment.get,
        lambda name: script.root.get(name, "").strip(),
        lambda _: None,
    )
    return found


def _line(
    script: NukeScript, frozen: "answers.Frozen", job: Job, node: ScriptNode, question: "answers.Question"
) -> LockedNode:
    module = answers_module()
    found: answers.Resolution = module.resolve(frozen, question, None)
    doubt: str = module.scope_doubt(frozen, question._replace(model=found.model))
    if doubt:
        raise _not_known(node, script, doubt)
    if found.path is None or found.release is None:
        raise _no_release(node, found.unavailable or "nothing is available")
    held = job.generation.release(found.release.key)
    answer = _answer(held, job.nuke_line) if held else None
    if answer is None or answer.path is None or not all(job.there(file.path) for file in answer.files):
        raise _no_release(node, f"a file of {found.release} is not on this machine; run: changeover update")
    return LockedNode(
        model=found.release.model,
        version=found.release.version,
        digest=found.release.digest,
        node=node.name,
        source=found.source,
        nuke_line=job.nuke_line,
        variant=answer.variant,
        precision=answer.precision,
        half=node.knobs.get("halfPrecision", "false") in _TRUE,
        tile=_tile(node),
        device=_device(job, node),
        path=answer.path,
        paths=_paths(job, answer.path),
        files=answer.files,
    )


def _answer(held: GenerationRelease, line: str) -> Answer | None:
    return next((a for a in held.answers if a.loader == "nuke-inference" and a.nuke_line == line), None)


def _tile(node: ScriptNode) -> str | None:
    """The node's tile as contracts write it; None where it is animated or an expression."""
    size, overlap = node.knobs.get("tileSize", "None"), node.knobs.get("tileOverlap", "64")
    if size not in _TILES or not overlap.isdecimal():
        return None
    return "none" if size == "None" else f"{size}+{overlap}"


def _device(job: Job, node: ScriptNode) -> Device:
    wanted: Device = "gpu" if "gpu" in {job.generation.farm_device, job.device} else "any"
    if node.knobs.get("useGPUIfAvailable", "true") in _TRUE:
        return wanted
    if wanted == "gpu":
        raise RefusedError(
            "farm lock",
            where=node.name,
            expected="a node that may use the GPU, which the "
            + ("policy" if job.device == "any" else "job")
            + " wants",
            actual="Use GPU if available is off",
            remedy="switch it on and save the script",
        )
    return "cpu"


def _paths(job: Job, path: str) -> dict[OsName, str]:
    """The file on each system whose root of the store is known."""
    found: dict[OsName, str] = {job.system: f"{job.store}/{path}"}
    for name in OS_NAMES:
        root = job.paths.root(name) if job.paths else None
        if root is not None:
            found[name] = f"{root}/{path}"
    return found


def _notes(generation: Generation, node: ScriptNode, line: LockedNode) -> Iterator[str]:
    held = generation.release(str(line.ref()))
    answer = _answer(held, str(line.nuke_line)) if held else None
    if held and held.withdrawn:
        yield f"{node.name}: {line.ref()} was withdrawn by its vendor: {held.withdrawn}"
    if line.tile is not None and answer and answer.tiles and line.tile not in answer.tiles:
        proven = ", ".join(answer.tiles)
        yield f"{node.name}: tile {line.tile} was not proven for {line.ref()} here; proven are {proven}"


def _not_known(node: ScriptNode, script: NukeScript, doubt: str) -> UndecidedError:
    of_gsv = "; the script has Graph Scope Variables, which only Nuke can read" if script.gsv else ""
    return UndecidedError(
        "scope",
        where=node.name,
        expected="the show, sequence and shot of the script, as the policy's [scope] finds them",
        actual=f"a part that is not known, and {doubt}{of_gsv}",
        remedy="give --show, --sequence and --shot",
    )


def _no_release(node: ScriptNode, sentence: str) -> RefusedError:
    return RefusedError(
        "farm lock",
        where=node.name,
        expected="a release that this station serves to it",
        actual=sentence,
        remedy="nothing was written; put it right and lock again",
    )


def _together(errors: list[ChangeoverError]) -> ChangeoverError:
    """The first error, with the nodes of the others; what is refused goes before what is not known."""
    first, *others = sorted(errors, key=lambda error: error.exit_code)
    if others:
        nodes = ", ".join(error.where for error in others[:20]) + (" ..." if len(others) > 20 else "")
        more = "; and " + f"{len(others)} more: {nodes}"
        return type(first)(
            first.rule, where=first.where, expected=first.expected, actual=first.actual + more, remedy=first.remedy
        )
    return first
