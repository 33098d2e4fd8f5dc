"""Nuke runs this when it has windows: the Changeover menu, thin over `changeover_nuke`."""

from __future__ import annotations

from functools import partial
from typing import List

import changeover_nuke
import nuke


def show_models() -> None:
    """Say which models made what the selected nodes show."""
    found = [node for chosen in nuke.selectedNodes() for node in changeover_nuke.stamped_behind(chosen)]
    lines = [changeover_nuke.provenance(node) for node in found]
    nuke.message("\n\n".join(lines) or "No model made this. " + changeover_nuke.status())


def show_updates() -> None:
    """Say which nodes have an update."""
    lines = [
        f"{node.fullName()}: {changeover_nuke.release_of(node)} -> {update}"
        for node, update in ((node, changeover_nuke.update_available(node)) for node in _ours())
        if update is not None
    ]
    nuke.message("\n".join(lines) or "Every node has what is chosen for it.")


def move_selected() -> None:
    """Move the selected nodes to the update that they have."""
    _move([node for node in nuke.selectedNodes() if changeover_nuke.model_of(node)], "update")


def move_all() -> None:
    """Move every node that has an update to it."""
    _move([node for node in _ours() if changeover_nuke.update_available(node) is not None], "update")


def move_back() -> None:
    """Move the selected nodes back to the release that they left."""
    _move([node for node in nuke.selectedNodes() if changeover_nuke.model_of(node)], "back")


def show_status() -> None:
    """Say which generation this session keeps."""
    nuke.message(changeover_nuke.status())


def build() -> None:
    """Make the menu."""
    menu = nuke.menu("Nuke").addMenu("Changeover")
    menu.addCommand("Which model made this matte?", show_models)
    menu.addCommand("Updates available?", show_updates)
    menu.addCommand("Move selected to the update", move_selected)
    menu.addCommand("Move all to the update", move_all)
    menu.addCommand("Move selected back", move_back)
    menu.addCommand("Status", show_status)
    new = menu.addMenu("New node")
    for model in changeover_nuke.models():
        new.addCommand(model, partial(changeover_nuke.new_node, model))


def _ours() -> List[nuke.Node]:
    return [node for node in nuke.allNodes("Inference", recurseGroups=True) if changeover_nuke.model_of(node)]


def _move(nodes: List[nuke.Node], to: str) -> None:
    lines = [
        "{}: {}".format(moved.node, moved.sentence or f"{moved.before} -> {moved.after}")
        for moved in changeover_nuke.move(nodes, to)
    ]
    nuke.message("\n".join(lines) or "No node to move.")


try:
    build()
except Exception as error:  # noqa: BLE001 - a menu that fails must not take Nuke's own with it
    nuke.tprint(f"Changeover has no menu ({type(error).__name__}: {error}); Nuke goes on.")
