"""What a session answers from its frozen generation: pins, stamps, the farm lock and channels, in that order.

Everything here is a function of values: no disk, no clock, no `nuke`. The one input is the generation as it was read
from ``generation.json``; the one answer is a `Resolution` that holds a path or a plain sentence, never an exception.
Left out: finding the store (`changeover_nuke_store`) and touching nodes (`changeover_nuke`).
"""

from __future__ import annotations

import re
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

__all__ = [
    "INFERENCE",
    "Frozen",
    "LockEntry",
    "Part",
    "Question",
    "Release",
    "Resolution",
    "Scope",
    "join_scopes",
    "lock_entry",
    "model_path_problem",
    "plain_path",
    "resolve",
    "scope_by_rules",
    "scope_doubt",
    "scope_from_path",
]

INFERENCE = "nuke-inference"
"""The loader of Nuke's own Inference node; it loads ``.cat`` files and nothing else."""

_BAD_CHARACTER = re.compile(r"[\s#%\[\]{}]")
_RELATIVE = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")
_PARTS = ("show", "sequence", "shot")
_DEFAULTS: Mapping[str, Sequence[str]] = {
    "order": ("environment", "path", "knobs", "gsv"),
    "environment": ("SHOW", "SEQUENCE", "SHOT"),
    "knobs": ("changeover_show", "changeover_sequence", "changeover_shot"),
    "gsv": _PARTS,
}
_Reader = Callable[[str], Optional[str]]


class Release(NamedTuple):
    """One release, exactly: ``vendor/name``, version, and the sha256 of its record."""

    model: str
    version: str
    digest: str

    @property
    def key(self) -> str:
        """``acme/person-roto@1.0.0-0123456789ab``: how a generation names it."""
        return f"{self.model}@{self.version}-{self.digest[:12]}"

    def __str__(self) -> str:
        return f"{self.model} {self.version} ({self.digest[:12]})"


class Scope(NamedTuple):
    """Where a node works; None is unknown."""

    show: Optional[str] = None
    sequence: Optional[str] = None
    shot: Optional[str] = None


class LockEntry(NamedTuple):
    """One line of a farm lock: the release of one node, or of every node of the model where `node` is None.

    `device` is what it must run on (``any``, ``gpu``, ``cpu``), `line` the Nuke line that it was written for, `files`
    what that Nuke loads: path below the store and sha256. A lock that was written by hand may leave them out.
    """

    release: Release
    node: Optional[str] = None
    device: str = "any"
    line: Optional[str] = None
    files: Tuple[Tuple[str, str], ...] = ()


class Question(NamedTuple):
    """What is asked: `stamp` is what the node was made with, `node` its full name, `line` the Nuke line (``15.1``)."""

    model: str
    loader: str
    line: str
    scope: Scope = Scope()
    stamp: Optional[Release] = None
    node: Optional[str] = None


class Resolution(NamedTuple):
    """The answer: a path, or one sentence in `unavailable`.

    `source` is ``pin``, ``stamp``, ``lock``, ``channel <name>`` or ``none``. `error` says that something is wrong
    which a person must put right; without it an absent path is an ordinary answer. `note` is a further sentence, such
    as that the scope is not known.
    """

    model: str
    loader: str
    source: str
    release: Optional[Release] = None
    path: Optional[str] = None
    unavailable: Optional[str] = None
    error: bool = False
    stamp: Optional[Release] = None
    note: str = ""


class _Choice(NamedTuple):
    """A release that one rule names; `why` goes into the sentence when it is missing."""

    source: str
    key: str
    digest: str
    why: str


class Part(NamedTuple):
    """What a generation says of one model: its releases by key, its channels' keys, and its pins in their order."""

    releases: Mapping[str, Mapping[str, Any]]
    channels: Mapping[str, str]
    pins: Sequence[Mapping[str, Any]]


class Frozen:
    """One generation: its releases, channels and pins, by model.

    Args:
        root: The store under which the generation was found; every path is joined with it.
        body: The parsed ``generation.json``, or the first line of ``resolve.jsonl``, which holds the same less what is
            of single models, and their names.
        read: For such a first line: reads the line of a model that it names, when that is first asked for.

    Raises:
        KeyError, TypeError, AttributeError: `body` has not the shape of a generation.
    """

    def __init__(
        self, root: str, body: Mapping[str, Any], read: Optional[Callable[[str], Mapping[str, Any]]] = None
    ) -> None:
        self.root = root.replace("\\", "/").rstrip("/")
        self.number = int(body["number"])
        self.station = str(body["station"])
        self.channel = str(body.get("channel", "stable"))
        self.follow = frozenset(body.get("follow", ()))
        self.lines = tuple(body.get("nuke_lines", ()))
        self.rules = dict(body.get("scope", {}))
        self.device = str(body.get("farm_device", "any"))
        by_model = {} if read else _by_model(body)
        self._models = tuple(body["models"] if read else sorted(by_model))
        self._read = read or by_model.__getitem__
        self._parts: Dict[str, Part] = {}

    def models(self) -> Tuple[str, ...]:
        """Every model that this generation can answer for, sorted."""
        return self._models

    def named(self, model: str) -> Tuple[str, ...]:
        """The full names that `model`, full or bare, may mean."""
        if "/" in model:
            return (model,)
        return tuple(name for name in self._models if name.endswith("/" + model))

    def part(self, model: str) -> Part:
        """What the generation says of one model."""
        found = self._parts.get(model)
        if found is None:
            found = self._parts[model] = _part(self._read(model) if model in self._models else {})
        return found

    def releases(self, model: str) -> Tuple[Release, ...]:
        """The releases of one model in this generation."""
        return tuple(_release(entry) for entry in self.part(model).releases.values())

    def entry(self, key: str) -> Optional[Mapping[str, Any]]:
        """The release of that key as the generation holds it."""
        return self.part(key.partition("@")[0]).releases.get(key)

    def pointer(self, channel: str, model: str) -> Optional[str]:
        """The key that a channel answers for a model."""
        return self.part(model).channels.get(channel)

    def pins(self, model: str) -> Sequence[Mapping[str, Any]]:
        """The pins of one model, in the order of the file."""
        return self.part(model).pins

    def release_at(self, path: str) -> Optional[Release]:
        """The release that has this file, by its absolute path."""
        prefix = self.root + "/releases/"
        below = path[len(prefix) :] if path.startswith(prefix) else ""
        relative = "releases/" + below
        for entry in self.part("/".join(below.split("/")[:2])).releases.values() if below else ():
            if any(answer.get("path") == relative for answer in entry["answers"]):
                return _release(entry)
        return None

    def files(self, release: Release, line: str) -> Tuple[Tuple[str, str], ...]:
        """The files that Nuke's own node of that line loads of a release: path below the store, and sha256."""
        entry = self.entry(release.key) or {"answers": ()}
        answers = [a for a in entry["answers"] if a["loader"] == INFERENCE and a.get("nuke_line") == line]
        return tuple((str(f["path"]), str(f["sha256"])) for a in answers[:1] for f in a.get("files", ()))


def _by_model(body: Mapping[str, Any]) -> Dict[str, Dict[str, List[Mapping[str, Any]]]]:
    """A whole generation, taken apart by model as ``resolve.jsonl`` has it."""
    found: Dict[str, Dict[str, List[Mapping[str, Any]]]] = {}
    for name in ("releases", "channels", "pins"):
        for entry in body.get(name, ()):
            found.setdefault(entry["model"], {}).setdefault(name, []).append(entry)
    return found


def _part(body: Mapping[str, Any]) -> Part:
    return Part(
        {entry["key"]: entry for entry in body.get("releases", ())},
        {entry["channel"]: entry["key"] for entry in body.get("channels", ())},
        body.get("pins", ()),
    )


def resolve(frozen: Frozen, question: Question, lock: Optional[Sequence[LockEntry]]) -> Resolution:
    """Answer one question from a frozen generation; `lock` is None where no farm lock is set.

    A stamped node: the narrowest pin, then its stamp; a lock that names another release is an error. An unstamped
    node, or one of a show that follows its channel: the narrowest pin, the lock, ``show/<show>``, the station's
    channel, none.
    """
    names = frozen.named(question.model)
    if question.stamp is not None and question.stamp.model.partition("/")[2] == question.model:
        names = (question.stamp.model,)
    if len(names) != 1:
        return _not_one_model(frozen, question, names)
    asked = question._replace(model=names[0])
    if asked.stamp is not None and asked.stamp.model != asked.model:
        return _wrong(asked, "none", f"the node is stamped with {asked.stamp}, which is not {asked.model}")
    follows = asked.stamp is None or asked.scope.show in frozen.follow
    entry = lock_entry(lock or (), asked.model, asked.node)
    choice = _following(frozen, asked, entry) if follows else _stamped(frozen, asked)
    if not follows and choice is not None and entry is not None and entry.release.key != choice.key:
        return _locked_out(asked, choice, entry)
    if choice is None:
        return _no_release(frozen, asked)
    return _served(frozen, asked, choice)


def lock_entry(lock: Sequence[LockEntry], model: str, node: Optional[str]) -> Optional[LockEntry]:
    """The lock's line for a node of a model; a line that names the node goes before one that names none."""
    lines = [entry for entry in lock if entry.release.model == model]
    own = [entry for entry in lines if entry.node is not None and entry.node == node]
    return next(iter(own + [entry for entry in lines if entry.node is None]), None)


def model_path_problem(path: str) -> str:
    """One sentence if Nuke or a farm would read `path` as a pattern or as several words; else an empty text."""
    found = _BAD_CHARACTER.search(path)
    if found is None:
        return ""
    what = "a space" if found.group().isspace() else found.group()
    return f"the path {path} has {what} in it, which Nuke and farms read as something else; move the store"


def _following(frozen: Frozen, asked: Question, entry: Optional[LockEntry]) -> Optional[_Choice]:
    pinned = _pinned(frozen, asked)
    if pinned is not None:
        return pinned
    if entry is not None:
        return _Choice("lock", entry.release.key, entry.release.digest, "which the farm lock names")
    shows = [] if asked.scope.show is None else ["show/" + asked.scope.show]
    for channel in [*shows, frozen.channel]:
        key = frozen.pointer(channel, asked.model)
        if key is not None:
            return _Choice("channel " + channel, key, "", f"which channel {channel} names")
    return None


def _stamped(frozen: Frozen, asked: Question) -> Optional[_Choice]:
    pinned = _pinned(frozen, asked)
    if pinned is not None or asked.stamp is None:
        return pinned
    return _Choice("stamp", asked.stamp.key, asked.stamp.digest, "which this node was made with")


def _pinned(frozen: Frozen, asked: Question) -> Optional[_Choice]:
    covering = [pin for pin in frozen.pins(asked.model) if _covers(pin, asked.scope)]
    if not covering:
        return None
    pin = max(covering, key=_narrowness)
    return _Choice("pin", pin["key"], "", "which is pinned for " + _pin_scope(pin))


def _covers(pin: Mapping[str, Any], scope: Scope) -> bool:
    parts = ((pin.get("show"), scope.show), (pin.get("sequence"), scope.sequence), (pin.get("shot"), scope.shot))
    return all(wanted is None or wanted == known for wanted, known in parts)


def _narrowness(pin: Mapping[str, Any]) -> Tuple[bool, bool, bool]:
    return (pin.get("shot") is not None, pin.get("sequence") is not None, pin.get("show") is not None)


def _pin_scope(pin: Mapping[str, Any]) -> str:
    parts = [f"{part} {pin[part]}" for part in ("show", "sequence", "shot") if pin.get(part) is not None]
    return ", ".join(parts) or "the whole site"


def _served(frozen: Frozen, asked: Question, choice: _Choice) -> Resolution:
    """What the chosen release answers for this loader, or why it cannot be had."""
    entry = frozen.entry(choice.key)
    if entry is None or (choice.digest and choice.digest != entry["digest"]):
        return _wrong(asked, choice.source, _missing(choice.key, choice.why))
    release = _release(entry)
    path, sentence = _answer(frozen, asked, entry)
    note = " ".join(text for text in (_withdrawn(entry), _unknown_scope(frozen, asked)) if text)
    problem = model_path_problem(path) if path else ""
    if problem:
        return _wrong(asked, choice.source, problem)._replace(release=release)
    return Resolution(
        asked.model, asked.loader, choice.source, release, path or None, sentence or None, False, asked.stamp, note
    )


def _answer(frozen: Frozen, asked: Question, entry: Mapping[str, Any]) -> Tuple[str, str]:
    """A path and no sentence, or no path and the sentence."""
    found = next((answer for answer in entry["answers"] if _answers(answer, asked)), None)
    if found is None:
        return "", _no_answer(frozen, asked, entry)
    path = found.get("path")
    if not path:
        return "", str(found.get("unavailable") or f"not available for {asked.loader}: no reason was given")
    if asked.loader == INFERENCE and not path.endswith(".cat"):
        file = path.rpartition("/")[2]
        return "", f"not available in Nuke {asked.line}: its Inference node loads .cat files, and {file} is not one"
    if _RELATIVE.fullmatch(path) is None or ".." in path.split("/"):
        return "", f"not available: the generation names a path outside the store ({path})"
    return frozen.root + "/" + path, ""


def _answers(answer: Mapping[str, Any], asked: Question) -> bool:
    if answer["loader"] != asked.loader:
        return False
    return asked.loader != INFERENCE or answer.get("nuke_line") == asked.line


def _no_answer(frozen: Frozen, asked: Question, entry: Mapping[str, Any]) -> str:
    if asked.loader == INFERENCE and asked.line not in frozen.lines:
        lines = ", ".join(frozen.lines) or "no Nuke"
        return f"not available in Nuke {asked.line}: this station prepares models for {lines}"
    where = "in Nuke " + asked.line if asked.loader == INFERENCE else "for " + asked.loader
    return f"not available {where}: {_release(entry)} has no form for it"


def _release(entry: Mapping[str, Any]) -> Release:
    return Release(entry["model"], entry["version"], entry["digest"])


def _withdrawn(entry: Mapping[str, Any]) -> str:
    why = entry.get("withdrawn")
    return f"{_release(entry)} was withdrawn by its vendor: {why}" if why else ""


def _unknown_scope(frozen: Frozen, asked: Question) -> str:
    scope = asked.scope
    if scope.show is None:
        return "The show of this node is not known: what is set for single shows was not looked at."
    guessed = [pin for pin in frozen.pins(asked.model) if not _covers(pin, scope) and _could_cover(pin, scope)]
    if not guessed:
        return ""
    return f"A pin for {_pin_scope(guessed[0])} may apply, but that part of this node's scope is not known."


def _could_cover(pin: Mapping[str, Any], scope: Scope) -> bool:
    return _covers(pin, Scope(*(known or pin.get(part) for known, part in zip(scope, _PARTS))))


def _missing(key: str, why: str) -> str:
    return f"{key}, {why}, is not on this machine, and nothing is loaded in its place; run: changeover update"


def _locked_out(asked: Question, choice: _Choice, entry: LockEntry) -> Resolution:
    differ = f"the farm lock names {entry.release.key}, but this node resolves to {choice.key}, {choice.why}"
    return _wrong(asked, choice.source, f"{differ}; nothing is loaded: write the lock again")


def _no_release(frozen: Frozen, asked: Question) -> Resolution:
    sentence = (
        f"no release of {asked.model} is chosen for this station (channel {frozen.channel}); see: changeover promote"
    )
    answer = Resolution(asked.model, asked.loader, "none", unavailable=sentence, stamp=asked.stamp)
    return answer._replace(note=_unknown_scope(frozen, asked))


def _not_one_model(frozen: Frozen, question: Question, names: Sequence[str]) -> Resolution:
    if names:
        sentence = "{} may be {}; write the vendor too".format(question.model, " or ".join(names))
    else:
        sentence = f"no model {question.model} is known to generation {frozen.number} of station {frozen.station}"
    return _wrong(question, "none", sentence)


def _wrong(asked: Question, source: str, sentence: str) -> Resolution:
    return Resolution(asked.model, asked.loader, source, None, None, sentence, True, asked.stamp)


def scope_by_rules(rules: Mapping[str, Any], path: str, environment: _Reader, knobs: _Reader, gsv: _Reader) -> Scope:
    """The scope that the generation's rules find for a script.

    Args:
        rules: What the generation says: the order of the sources, and what each is asked for.
        path: The script's path.
        environment: The value of an environment variable, by name.
        knobs: The value of a knob of the root, by name.
        gsv: The value of a Graph Scope Variable where the node stands, by name.
    """
    sources: Mapping[str, Callable[[], Scope]] = {
        "environment": lambda: _named(environment, _names(rules, "environment")),
        "path": lambda: scope_from_path(str(rules.get("path", "")), path),
        "knobs": lambda: _named(knobs, _names(rules, "knobs")),
        "gsv": lambda: _named(gsv, _names(rules, "gsv")),
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


def scope_doubt(frozen: Frozen, question: Question) -> str:
    """Why a part of the scope that nobody knows could change an answer; an empty text where it could not."""
    scope, part = question.scope, frozen.part(question.model)
    for pin in part.pins:
        if not _covers(pin, scope) and _could_cover(pin, scope):
            return "a pin for " + _pin_scope(pin) + " may apply"
    if scope.show is None and question.stamp is None:
        shows = sorted(channel for channel in part.channels if channel.startswith("show/"))
        return f"channel {shows[0]} may apply" if shows else ""
    if scope.show is None and frozen.follow:
        return "show {}, whose nodes follow their channel, may be this one".format(min(frozen.follow))
    return ""


def plain_path(path: str) -> str:
    """The path without ``..``: Nuke's Cattery joins them in, and they would tie a script to one generation."""
    kept: List[str] = []
    for part in path.replace("\\", "/").split("/"):
        if part == ".." and kept:
            kept.pop()
        else:
            kept.append(part)
    return "/".join(kept)


def _names(rules: Mapping[str, Any], source: str) -> Sequence[str]:
    return [str(name) for name in rules.get(source, _DEFAULTS[source])]


def _named(read: _Reader, names: Sequence[str]) -> Scope:
    return Scope(*(read(name) or None for name in names))
