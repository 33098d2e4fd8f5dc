"""What this Nuke session keeps: one generation, fixed at its start, and the farm lock that it was started with.

The generation is opened once and never again, so an open script cannot change under an artist while `current` moves.
A session that could not open one keeps that sentence and goes on without models. Left out: nodes (`changeover_nuke`).
"""

# ruff: noqa: PTH107, PTH112
# Importing pathlib would cost Nuke's start as much as all the rest of this.

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from typing import List, NamedTuple, Optional, Tuple

import changeover_nuke_answers as answers
import changeover_nuke_store as store
import nuke
from changeover_nuke_answers import LockEntry, Question, Release, Resolution, Scope

__all__ = ["Session", "cattery_root", "drop_lease", "keep_lease", "nuke_line", "resolve", "session"]


class Session(NamedTuple):
    """What was opened, or the sentence in `trouble` why not; `lock` is None where no farm lock is set."""

    opened: Optional[store.Opened]
    lock: Optional[Tuple[LockEntry, ...]]
    trouble: str
    line: str


# Reloading the module must not open another generation: what was kept before the reload is kept on.
_kept: List[Session] = globals().get("_kept", [])


def session() -> Session:
    """The session of this process; the first call opens it, and it never changes."""
    if not _kept:
        _kept.append(_open())
    return _kept[0]


def nuke_line() -> str:
    """The line of this Nuke: ``15.1`` for ``15.1v3``."""
    return str(nuke.NUKE_VERSION_STRING).partition("v")[0]


def cattery_root() -> str:
    """The folder that holds this generation's ``Cattery`` for this Nuke; empty if there is none."""
    this = session()
    if this.opened is None:
        return ""
    root = f"{this.opened.folder}/nuke/{this.line}"
    return root if os.path.isdir(root + "/Cattery") else ""


def resolve(
    model: str,
    loader: str,
    scope: Optional[Scope] = None,
    stamp: Optional[Release] = None,
    node: Optional[str] = None,
) -> Resolution:
    """Which file `loader` gets of `model` here, from the frozen generation.

    Args:
        model: ``vendor/name``, or the bare name where only one vendor has it.
        loader: ``nuke-inference``, ``mlserver``, ``flame`` or ``python``.
        scope: Where the node works; None where it is not known.
        stamp: What the node was made with; None for a new node, or one that follows its channel.
        node: The node's full name, for a farm lock that names single nodes.

    Returns:
        A path, or one plain sentence; it never raises.
    """
    this = session()
    if this.opened is None or this.trouble:
        return Resolution(model, loader, "none", unavailable=this.trouble, error=True, stamp=stamp)
    question = Question(model, loader, this.line, scope or Scope(), stamp, node)
    try:
        found = answers.resolve(this.opened.frozen, question, this.lock)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        sentence = f"{this.opened.folder}/generation.json is not as expected ({error!r}); run: changeover status"
        return Resolution(model, loader, "none", unavailable=sentence, error=True, stamp=stamp)
    return _present(found)


def _present(found: Resolution) -> Resolution:
    """The answer, if its file is there; a file that is gone is an error, never a substitute."""
    if found.path is None or store.is_file(found.path, render=not nuke.GUI):
        return found
    sentence = (
        f"the file {found.path} is not on this machine, and nothing is loaded in its place; run: changeover update"
    )
    return found._replace(path=None, unavailable=f"{found.release}: {sentence}", error=True)


def _open() -> Session:
    line = nuke_line()
    try:
        opened = store.open_generation(os.environ, render=not nuke.GUI)
    except store.StoreError as error:
        return Session(None, None, str(error), line)
    if opened.lease:
        keep_lease(opened.lease)
    try:
        return Session(opened, store.read_lock(os.environ, render=not nuke.GUI), "", line)
    except store.StoreError as error:
        return Session(opened, None, str(error), line)


def keep_lease(lease: str) -> threading.Event:
    """Touch the lease every hour until the event that is returned is set; it is taken away at this process's end."""
    ended = threading.Event()

    def touch() -> None:
        while not ended.wait(store.LEASE_SECONDS):
            store.touch_lease(lease)

    threading.Thread(target=touch, name="changeover-lease", daemon=True).start()
    atexit.register(drop_lease, lease, ended)
    return ended


def drop_lease(lease: str, ended: threading.Event) -> None:
    """Stop touching the lease and take it away; somebody else may have done so before."""
    ended.set()
    with contextlib.suppress(OSError):
        os.remove(lease)
