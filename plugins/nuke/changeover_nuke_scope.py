"""Where a node works: show, sequence and shot, found by the generation's scope rules.

The sources are asked in the order of the rules: environment variables, a pattern over the script's path, knobs of the
root, Graph Scope Variables. Each part is taken from the first source that has it; a source that contradicts what an
earlier one said is passed over whole, so parts of two shows never mix. What nobody says stays unknown.
"""

from __future__ import annotations

import os
import re
from typing import Any, Iterable, Mapping, Optional, Sequence

import nuke
from changeover_nuke_answers import Scope

__all__ = ["find_scope", "join_scopes", "scope_from_path"]

_PARTS = ("show", "sequence", "shot")
_DEFAULTS: Mapping[str, Sequence[str]] = {
    "order": ("environment", "path", "knobs", "gsv"),
    "environment": ("SHOW", "SEQUENCE", "SHOT"),
    "knobs": ("changeover_show", "changeover_sequence", "changeover_shot"),
    "gsv": _PARTS,
}


def find_scope(rules: Mapping[str, Any], node: Optional[nuke.Node]) -> Scope:
    """The scope of a node, or of the script where `node` is None, by the rules of the generation."""
    root = nuke.root()
    sources = {
        "environment": lambda: _named(os.environ.get, _names(rules, "environment")),
        "path": lambda: scope_from_path(str(rules.get("path", "")), root.name()),
        "knobs": lambda: _named(lambda name: _knob_text(root, name), _names(rules, "knobs")),
        "gsv": lambda: _named(lambda name: _gsv_text(node or root, name), _names(rules, "gsv")),
    }
    return join_scopes(sources[source]() for source in _names(rules, "order") if source in sources)


def join_scopes(scopes: Iterable[Scope]) -> Scope:
    """Fill each part from the first scope that has it; a scope that contradicts an earlier one adds nothing."""
    joined = Scope()
    for scope in scopes:
        if all(ours is None or theirs is None or ours == theirs for ours, theirs in zip(joined, scope)):
            joined = Scope(*(ours if ours is not None else theirs for ours, theirs in zip(joined, scope)))
    return joined


def scope_from_path(pattern: str, path: str) -> Scope:
    """What a pattern with the named groups ``show``, ``sequence``, ``shot`` finds in a script's path."""
    try:
        match = re.search(pattern, path.replace("\\", "/")) if pattern else None
    except re.error:
        return Scope()
    groups = match.groupdict() if match else {}
    return Scope(*(groups.get(part) or None for part in _PARTS))


def _names(rules: Mapping[str, Any], source: str) -> Sequence[str]:
    return [str(name) for name in rules.get(source, _DEFAULTS[source])]


def _named(read: Any, names: Sequence[str]) -> Scope:  # noqa: ANN401 - a reader returns text or None
    return Scope(*(read(name) or None for name in names))


def _knob_text(node: nuke.Node, name: str) -> str:
    knob = node.knob(name)
    return "" if knob is None else str(knob.value()).strip()


def _gsv_text(node: nuke.Node, name: str) -> str:
    """The value of a Graph Scope Variable where the node stands: the innermost group that sets it counts."""
    path = name if "." in name else "__default__." + name
    here: Optional[nuke.Node] = node
    while here is not None:
        value = _own_gsv(here, path)
        if value:
            return value
        here = here.parent()
    return _own_gsv(nuke.root(), path)


def _own_gsv(node: nuke.Node, path: str) -> str:
    knob = node.knob("gsv")
    reader = getattr(knob, "getGsvValue", None)
    return str((reader(path) if reader else None) or "").strip()
