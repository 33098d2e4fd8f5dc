"""Where a node works: show, sequence and shot, found by the generation's scope rules.

The sources are asked in the order of the rules: environment variables, a pattern over the script's path, knobs of the
root, Graph Scope Variables. Each part is taken from the first source that has it; a source that contradicts what an
earlier one said is passed over whole, so parts of two shows never mix. What nobody says stays unknown.
"""

from __future__ import annotations

import os
from typing import Any, Mapping, Optional

import nuke
from changeover_nuke_answers import Scope, scope_by_rules

__all__ = ["find_scope"]


def find_scope(rules: Mapping[str, Any], node: Optional[nuke.Node]) -> Scope:
    """The scope of a node, or of the script where `node` is None, by the rules of the generation."""
    root = nuke.root()
    return scope_by_rules(
        rules,
        root.name(),
        os.environ.get,
        lambda name: _knob_text(root, name),
        lambda name: _gsv_text(node or root, name),
    )


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
