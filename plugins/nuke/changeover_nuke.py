"""Changeover inside Nuke: which release a node was made with, which file it loads, what is new, and the way back.

For artists through the menu, for pipelines by import. A node says what it was made with in three knobs, so a script
that is opened tomorrow resolves the release of today. Only `move` changes a stamp, and only a person calls it. Standard
library and `nuke` alone; nothing here raises while Nuke starts. Left out: anything that writes the store.
"""

from __future__ import annotations

import os
import re
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import nuke
from changeover_nuke_answers import INFERENCE, Release, Resolution, Scope, plain_path
from changeover_nuke_scope import find_scope
from changeover_nuke_session import cattery_root, nuke_line, resolve, session

__all__ = [
    "Moved",
    "Release",
    "Resolution",
    "Scope",
    "adopt_node",
    "check_render",
    "model_of",
    "models",
    "move",
    "new_node",
    "provenance",
    "refresh_node",
    "refresh_script",
    "release_of",
    "resolve",
    "scope_of",
    "session",
    "stamp_node",
    "stamped_behind",
    "start",
    "status",
    "update_available",
]

_MODEL, _VERSION, _DIGEST, _PREVIOUS = (
    "changeover_model",
    "changeover_version",
    "changeover_digest",
    "changeover_previous",
)
_NODE_CLASS = "Inference"
_DIGEST_TEXT = re.compile(r"[0-9a-f]{64}")


class Moved(NamedTuple):
    """What `move` did with one node: `sentence` is empty where it moved, else it says why it did not."""

    node: str
    before: Optional[Release]
    after: Optional[Release]
    sentence: str = ""


def start() -> None:
    """Fix this session's generation, show its models to Nuke, and watch for scripts and new nodes; never raises."""
    try:
        _start()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the store or with us, Nuke must start
        nuke.tprint(f"Changeover did not start ({type(error).__name__}: {error}); Nuke goes on.")


def status() -> str:
    """One or two sentences: which generation this session keeps, or why it has none."""
    this = session()
    if this.opened is None:
        return this.trouble
    frozen = this.opened.frozen
    kept = f"This session keeps generation {frozen.number} of station {frozen.station} (Nuke {this.line})."
    return " ".join(text for text in (kept, this.trouble) if text)


def models() -> Tuple[str, ...]:
    """The models that this session's generation knows."""
    opened = session().opened
    return () if opened is None else opened.frozen.models()


def scope_of(node: Optional[nuke.Node] = None) -> Scope:
    """Where a node works, or the script where `node` is None; unknown parts are None."""
    opened = session().opened
    return Scope() if opened is None else find_scope(opened.frozen.rules, node)


def model_of(node: nuke.Node) -> str:
    """The model that a node is of; empty for a node that is none of ours."""
    return _text(node, _MODEL)


def release_of(node: nuke.Node) -> Optional[Release]:
    """What a node was made with; None for one that carries no stamp.

    A stamp that was edited into something else is returned as it stands: it resolves to nothing, and says so.
    """
    release = Release(_text(node, _MODEL), _text(node, _VERSION), _text(node, _DIGEST))
    return release if release.model and (release.version or release.digest) else None


def resolution_of(node: nuke.Node) -> Resolution:
    """What a node of ours resolves to, by its model, scope and stamp."""
    return resolve(model_of(node), INFERENCE, scope_of(node), release_of(node), node.fullName())


def stamp_node(node: nuke.Node, release: Release) -> None:
    """Write on a node what it was made with; the knobs are added where they are missing."""
    if node.knob(_MODEL) is None:
        node.addKnob(nuke.Tab_Knob("changeover", "Changeover"))
    for name, label, text in zip(
        (_MODEL, _VERSION, _DIGEST, _PREVIOUS),
        ("model", "version", "digest", "previous"),
        (release.model, release.version, release.digest, _text(node, _PREVIOUS)),
    ):
        if node.knob(name) is None:
            node.addKnob(nuke.String_Knob(name, label))
        node[name].setValue(text)


def new_node(model: str) -> Optional[nuke.Node]:
    """Make a node with the release that `model` has here, stamped; None, and a sentence, where there is none."""
    found = resolve(model, INFERENCE, scope_of())
    if found.path is None or found.release is None:
        _say([_sentence(found)])
        return None
    node = nuke.createNode(_NODE_CLASS)
    node["modelFile"].setValue(found.path)
    stamp_node(node, found.release)
    if found.note:
        nuke.tprint(f"Changeover: {node.fullName()}: {found.note}")
    return node


def adopt_node(node: Optional[nuke.Node] = None) -> Optional[Release]:
    """Stamp an unstamped node whose file is one of this generation's, as Nuke's own Cattery menu makes it."""
    node = nuke.thisNode() if node is None else node
    opened = session().opened
    knob = node.knob("modelFile")
    if opened is None or knob is None or model_of(node):
        return None
    path = plain_path(str(knob.value()))
    release = opened.frozen.release_at(path)
    if release is not None:
        stamp_node(node, release)
        knob.setValue(path)
    return release


def refresh_node(node: nuke.Node) -> Resolution:
    """Point a node at what it resolves to here; what is wrong makes the node fail by name, never load another."""
    found = resolution_of(node)
    wanted = found.path or _nothing(node)
    knob = node["modelFile"]
    if str(knob.value()) != wanted:
        knob.setValue(wanted)
    if found.path is not None and str(knob.value()) != wanted:
        return found._replace(unavailable=f"Nuke did not let the Model File of {node.fullName()} be set")
    return found


def refresh_script() -> Tuple[Resolution, ...]:
    """Point every node of ours in the script at what it resolves to here, and say what could not be had."""
    nodes = _ours()
    found = tuple(refresh_node(node) for node in nodes)
    _say(
        f"{node.fullName()}: {answer.unavailable}"
        for node, answer in zip(nodes, found)
        if answer.unavailable is not None
    )
    return found


def check_render() -> None:
    """Stop a render that would not be what its farm lock froze, or would run on a CPU where a GPU is wanted.

    Nuke calls it before each render. Without a lock and without a wanted GPU nothing is looked at.

    Raises:
        RuntimeError: One sentence; Nuke aborts the render with it.
    """
    this = session()
    locked = this.lock is not None or bool(os.environ.get("CHANGEOVER_LOCK"))
    wants_gpu = this.opened is not None and this.opened.frozen.device == "gpu" and not nuke.GUI
    nodes = _ours() if locked or wants_gpu else []
    if not nodes:
        return
    if this.opened is None or this.trouble:
        raise RuntimeError("Changeover: " + this.trouble)
    if locked and this.lock is None:
        raise RuntimeError("Changeover: CHANGEOVER_LOCK was set after Nuke had started; start Nuke again")
    import changeover_nuke_farm as farm  # Nuke's start does not wait for what only a render needs.

    worker = farm.this_worker(this.line)
    for node in nodes:
        asked = farm.asked_of(node, resolution_of(node))
        found = farm.problem(this.opened.frozen, this.lock, asked, worker, farm.hash_file)
        if found:
            raise RuntimeError("Changeover: " + found)


def update_available(node: nuke.Node) -> Optional[Release]:
    """The release that a new node of this model would get here, if this node has another.

    None for a pinned one, and where that is a release that the studio adopted: nobody judged it.
    """
    current = release_of(node)
    if current is None:
        return None
    offered = resolve(current.model, INFERENCE, scope_of(node))
    if offered.path is None or offered.release is None or offered.source == "pin" or offered.release == current:
        return None
    return None if _adopted(offered.release) else offered.release


def move(nodes: Iterable[nuke.Node], to: str) -> Tuple[Moved, ...]:
    """Move nodes to another release of their model: ``"update"``, ``"back"`` or a version.

    The release that a node leaves is kept on it, so ``"back"`` goes there and back as often as wanted. A node that
    cannot be moved stays as it is, and its `Moved` says why.
    """
    return tuple(_move_one(node, to) for node in nodes)


def provenance(node: nuke.Node) -> str:
    """Which model made this matte, for people and for notes: release, digest, source, station, Nuke, how it ran."""
    if not model_of(node):
        return f"{node.fullName()} was not made with Changeover."
    found = resolution_of(node)
    stamp = release_of(node)
    lines = [
        f"{node.fullName()}: {stamp or model_of(node)}",
        f"sha256 {stamp.digest}" if stamp else "",
        f"loads {found.release} by {found.source}" if found.path else str(found.unavailable),
        found.note,
        status(),
        _how_it_runs(node),
    ]
    return "\n".join(line for line in lines if line)


def stamped_behind(node: nuke.Node) -> Tuple[nuke.Node, ...]:
    """This node and every node of ours that feeds it, nearest first."""
    seen: Dict[str, nuke.Node] = {}
    waiting = [node]
    while waiting:
        here = waiting.pop(0)
        if here.fullName() not in seen:
            seen[here.fullName()] = here
            waiting.extend(here.dependencies())
    return tuple(found for found in seen.values() if model_of(found))


def _start() -> None:
    this = session()
    root = cattery_root()
    if root:
        nuke.pluginAddPath(root, addToSysPath=False)
    nuke.addOnScriptLoad(_guarded(refresh_script))
    nuke.addOnCreate(_guarded(adopt_node), nodeClass=_NODE_CLASS)
    nuke.addBeforeRender(check_render, nodeClass="*")
    if this.trouble:
        nuke.tprint("Changeover: " + this.trouble)


def _adopted(release: Release) -> bool:
    """Whether the studio had a release before it had Changeover, as this session's generation says."""
    opened = session().opened
    entry = opened.frozen.entry(release.key) if opened else None
    return bool(entry and entry.get("adopted"))


def _ours() -> List[nuke.Node]:
    """Every node of ours in the script, in its groups too."""
    return [node for node in nuke.allNodes(_NODE_CLASS, recurseGroups=True) if model_of(node)]


def _guarded(call: Callable[[], object]) -> Callable[[], None]:
    """The call as Nuke may make it: what goes wrong is said, and neither the script nor the node is stopped by it."""

    def guarded() -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - opening a script must not end in our traceback
            nuke.tprint(f"Changeover could not look at the nodes ({type(error).__name__}: {error}).")

    return guarded


def _move_one(node: nuke.Node, to: str) -> Moved:
    before = release_of(node)
    if before is None:
        return Moved(node.fullName(), None, None, "the node carries no stamp")
    target = _target(node, before, to)
    if target is None:
        return Moved(node.fullName(), before, None, f"there is no release to move to ({to})")
    found = resolve(target.model, INFERENCE, scope_of(node), target, node.fullName())
    if found.path is None or found.release != target:
        return Moved(node.fullName(), before, None, found.unavailable or _held(found))
    stamp_node(node, target)
    node[_PREVIOUS].setValue(f"{before.version} {before.digest}")
    node["modelFile"].setValue(found.path)
    return Moved(node.fullName(), before, target)


def _target(node: nuke.Node, before: Release, to: str) -> Optional[Release]:
    if to == "update":
        return update_available(node)
    if to == "back":
        version, _, digest = _text(node, _PREVIOUS).partition(" ")
        return Release(before.model, version, digest) if digest else None
    opened = session().opened
    known: Sequence[Release] = () if opened is None else opened.frozen.releases(before.model)
    return next((release for release in known if release.version == to), None)


def _held(found: Resolution) -> str:
    return f"it stays on {found.release}: {found.source}"


def _nothing(node: nuke.Node) -> str:
    """A path where no file is: Nuke's own node then fails with this name, in the session and on the farm."""
    opened = session().opened
    stamp = release_of(node)
    name = stamp.key if stamp and _DIGEST_TEXT.fullmatch(stamp.digest) else model_of(node)
    safe = re.sub(r"[^A-Za-z0-9._/-]", "-", name)
    return "{}/not-available/{}.cat".format(opened.root if opened else "/changeover", safe)


def _how_it_runs(node: nuke.Node) -> str:
    parts = [
        f"{name} {knob.value()}"
        for name, knob in ((name, node.knob(name)) for name in ("useGPUIfAvailable", "halfPrecision", "tileSize"))
        if knob is not None
    ]
    return "Nuke {}; {}".format(nuke_line(), ", ".join(parts))


def _sentence(found: Resolution) -> str:
    return " ".join(text for text in (found.unavailable, found.note) if text)


def _say(sentences: Iterable[str]) -> None:
    """Tell a person: in a window where there is one, else on the terminal."""
    text = "\n".join(sentences)
    if text:
        nuke.tprint("Changeover: " + text)
        if nuke.GUI:
            nuke.message(text)


def _text(node: nuke.Node, name: str) -> str:
    knob = node.knob(name)
    return "" if knob is None else str(knob.value()).strip()
