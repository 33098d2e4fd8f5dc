"""Reading a Nuke script as text: which nodes it has, their full names and their knobs. Nothing in it is ever run.

A script is a list of Tcl commands. Those that matter are ``Class {knob value knob value ...}``, ``Group {...}`` up to
its ``end_group``, and ``clone Class {...}``; what others do to the stack of inputs does not change which nodes there
are. A node of another class (``LiveGroup``, ``VariableGroup``) is a group too if what follows is indented deeper, as
Nuke does with what is inside, or is an ``end_group`` that can be no other's. Words are read as Tcl reads a list: in
braces they stand as they are, in quotes and bare a backslash escapes. A command in square brackets is text here. Bytes
that are not UTF-8 are read as Latin-1: all that is looked for is ASCII.

The reader keeps no stack of its own for braces, so depth costs nothing, and it stops at `LIMIT_BYTES`. Left out: what
is inside a gizmo that the script only names, what expressions would give, and Graph Scope Variables.
"""

import hashlib
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from types import MappingProxyType

from changeover_registry.errors import InvalidInputError

__all__ = ["LIMIT_BYTES", "NukeScript", "ScriptNode", "parse_script", "read_script"]

LIMIT_BYTES = 256 * 1024 * 1024
"""What no script is larger than: roto splines of a long shot take tens of MiB."""

_GROUPS = frozenset({"Group", "Gizmo"})
"""The classes after which always nodes follow, up to ``end_group``."""

_DEPTH = 100

_CLASS = re.compile(r"[A-Za-z_][\w.:-]*")
_BLANK = re.compile(r"(?:[ \t\r\f\v]|\\\r?\n)*")
_LEADING = re.compile(r"\s*")
_BLANKS = re.compile(r"(?:\s|\\\n)*")
_COMMENT = re.compile(r"(?:[^\\\n]|\\.)*", re.DOTALL)
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_QUOTED = re.compile(r'(?:[^\\"]|\\.)*"', re.DOTALL)
_LIST_WORD = re.compile(r"(?:[^\s\\]|\\.)+", re.DOTALL)
_COMMAND_WORD = re.compile(r"(?:[^\s\\;\[]|\\.)+", re.DOTALL)
_BRACKETS = re.compile(r"\\.|[\[\]]", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{1,4})|([0-7]{1,3})|\r?\n[ \t]*|(.))", re.DOTALL)
_NAMED = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_VERSION = re.compile(r"(\d+)\.(\d+)")
_NO_KNOBS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ScriptNode:
    """One node: its full name (``Group1.Inference1``), its class, its knobs as text, and the line where it begins."""

    name: str
    kind: str
    knobs: Mapping[str, str]
    line: int


@dataclass(frozen=True, slots=True)
class NukeScript:
    """A script: the nodes that were asked for, the root's knobs, the Nuke line that saved it, its bytes' sha256.

    `gsv` says whether Graph Scope Variables are set in it, which are not read.
    """

    path: str
    sha256: str
    nuke_line: str | None
    root: Mapping[str, str]
    nodes: tuple[ScriptNode, ...]
    gsv: bool


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    start: int
    braced: bool


_NOTHING: list[_Word] = []


def read_script(path: Path, kinds: frozenset[str]) -> NukeScript:
    """Read a script's nodes of some classes.

    Raises:
        InvalidInputError: There is no such file, or it is no Nuke script that can be read whole.
        OSError: It cannot be read.
    """
    if not path.is_file() or path.stat().st_size > LIMIT_BYTES:
        raise InvalidInputError(
            "Nuke script",
            where=str(path),
            expected=f"a file of at most {LIMIT_BYTES} bytes",
            actual="no such file" if not path.is_file() else f"{path.stat().st_size} bytes",
            remedy="correct the path, or save the script again in Nuke",
        )
    return parse_script(path.read_bytes(), str(path), kinds)


def parse_script(data: bytes, path: str, kinds: frozenset[str]) -> NukeScript:
    """Find a script's nodes of some classes in its bytes.

    Raises:
        InvalidInputError: It is no Nuke script, or a brace, a quote or a group is left open; it names the line.
    """
    reading = _Reading(_Reader(_text(data, path), path), kinds)
    for words, following in pairwise(chain(reading.reader.commands(), [_NOTHING])):
        reading.command(words, following)
    reading.end()
    _check_names(reading.nodes, path)
    digest = hashlib.sha256(data).hexdigest()
    return NukeScript(path, digest, reading.nuke_line, reading.root, tuple(reading.nodes), reading.gsv)


def _text(data: bytes, path: str) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
    if "\0" in text:
        raise InvalidInputError(
            "Nuke script",
            where=path,
            expected="text, as Nuke saves a .nk",
            actual="a binary file",
            remedy="name the script; an autosave or a project file of another program is none",
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _node_of(words: list[_Word]) -> tuple[str | None, _Word | None]:
    """The class and the knobs of a command that makes a node; a further clone (``clone $C1 {...}``) makes none."""
    if words[0].text == "clone":
        words = [word for word in words[1:] if "|" not in word.text or word.braced]
    named = len(words) == 2 and not words[0].braced and words[1].braced
    return (words[0].text, words[1]) if named and _CLASS.fullmatch(words[0].text) else (None, None)


class _Reading:
    """What was found so far: the script's commands are given to it one after the other."""

    def __init__(self, reader: "_Reader", kinds: frozenset[str]) -> None:
        self.reader, self._kinds = reader, kinds
        self.root: Mapping[str, str] = _NO_KNOBS
        self.nuke_line: str | None = None
        self.nodes: list[ScriptNode] = []
        self.gsv = False
        self._groups: list[tuple[str, _Word]] = []
        self._any = False

    def command(self, words: list[_Word], following: list[_Word]) -> None:
        """Take in one command; the one after it tells whether a node of any class is a group."""
        first, (kind, body) = words[0], _node_of(words)
        if first.text == "end_group":
            self._close(first)
        elif first.text == "version" and len(words) > 1 and (found := _VERSION.match(words[1].text)):
            self.nuke_line = f"{found[1]}.{found[2]}"
        elif kind is not None and body is not None:
            self._any = True
            opens = kind in _GROUPS or (kind not in {"Root", *self._kinds} and self._is_inside(following, first))
            if kind in self._kinds or opens or kind == "Root":
                self._node(kind, self.reader.knobs(body), first, opens=opens)

    def end(self) -> None:
        """Check that nothing is left open, and that there was a node at all."""
        if self._groups:
            name, word = self._groups[-1]
            raise self.reader.error(word.start, "an end_group for every group", f"group {name!r} left open")
        if not self._any:
            raise self.reader.error(0, "nodes, as Nuke saves them", "none")

    def _is_inside(self, following: list[_Word], word: _Word) -> bool:
        """Whether the command after a node belongs to it."""
        if not following:
            return False
        mine, theirs = self.reader.indent(word), self.reader.indent(following[0])
        if theirs == mine and following[0].text == "end_group":
            return not self._groups or self.reader.indent(self._groups[-1][1]) < mine
        return theirs > mine

    def _node(self, kind: str, knobs: Mapping[str, str], word: _Word, *, opens: bool) -> None:
        self.gsv = self.gsv or bool(knobs.get("gsv"))
        if kind == "Root":
            self.root = knobs
        if kind in self._kinds:
            self.nodes.append(ScriptNode(self._full_name(knobs, word), kind, knobs, self.reader.line(word.start)))
        if opens:
            if len(self._groups) == _DEPTH:
                raise self.reader.error(word.start, f"groups at most {_DEPTH} deep", "one more")
            self._groups.append((knobs.get("name", ""), word))

    def _close(self, word: _Word) -> None:
        if not self._groups:
            raise self.reader.error(word.start, "an end_group of a group", "one that closes no group")
        self._groups.pop()

    def _full_name(self, knobs: Mapping[str, str], word: _Word) -> str:
        parts = [*(name for name, _ in self._groups), knobs.get("name", "")]
        if not all(parts):
            missing = ".".join(part or "?" for part in parts)
            raise self.reader.error(word.start, "a name on the node and on each group around it", missing)
        return ".".join(parts)


def _check_names(nodes: list[ScriptNode], path: str) -> None:
    first: dict[str, int] = {}
    for node in nodes:
        if node.name in first:
            raise InvalidInputError(
                "Nuke script",
                where=f"{path}:{node.line}",
                expected="each node with a name of its own",
                actual=f"{node.name} again, which is at line {first[node.name]} too",
                remedy="open the script in Nuke and save it again",
            )
        first[node.name] = node.line


class _Reader:
    """The words of a text, by position; every error names the line.

    Args:
        text: The script, with line feeds alone at the ends of lines.
        path: For errors.
    """

    def __init__(self, text: str, path: str) -> None:
        self._text, self._path = text, path
        self._ends = [match.start() for match in re.finditer("\n", text)]

    def commands(self) -> Iterator[list[_Word]]:
        """Each command of the text, as its words; comments and empty ones are left out."""
        text, at = self._text, 0
        while at < len(text):
            at = _end(_BLANK, text, at)
            if text.startswith("#", at):
                at = _end(_COMMENT, text, at) + 1
                continue
            words: list[_Word] = []
            while at < len(text) and text[at] not in "\n;":
                word, at = self._word(at, len(text), in_list=False)
                words.append(word)
                at = _end(_BLANK, text, at)
            at += 1
            if words:
                yield words

    def knobs(self, body: _Word) -> Mapping[str, str]:
        """The knobs that a node's braces hold: names and values in turn; what is said twice counts as said last."""
        start, end = body.start + 1, body.start + 1 + len(body.text)
        words: list[str] = []
        at = _end(_BLANKS, self._text, start)
        while at < end:
            word, at = self._word(at, end, in_list=True)
            words.append(word.text if word.braced else _unescaped(word.text))
            at = _end(_BLANKS, self._text, at)
        if len(words) % 2:
            raise self.error(body.start, "a value for every knob", f"{words[-1][:40]!r} without one")
        return MappingProxyType(dict(zip(words[::2], words[1::2], strict=True)))

    def indent(self, word: _Word) -> int:
        """How far a word is from the start of its line; -1 where something else stands before it."""
        number = self.line(word.start)
        start = self._ends[number - 2] + 1 if number > 1 else 0
        return word.start - start if _end(_LEADING, self._text, start, word.start) == word.start else -1

    def line(self, at: int) -> int:
        """The number of the line at a position."""
        return bisect_left(self._ends, at) + 1

    def error(self, at: int, expected: str, actual: str) -> InvalidInputError:
        """What is wrong at a position."""
        return InvalidInputError(
            "Nuke script",
            where=f"{self._path}:{self.line(at)}",
            expected=expected,
            actual=actual,
            remedy="open the script in Nuke and save it again",
        )

    def _word(self, at: int, end: int, *, in_list: bool) -> tuple[_Word, int]:
        if self._text[at] == "{":
            stop = self._balanced(at, end, _BRACES, "{")
            return _Word(self._text[at + 1 : stop - 1], at, braced=True), stop
        if self._text[at] == '"':
            match = _QUOTED.match(self._text, at + 1, end)
            if match is None:
                raise self.error(at, 'a " at the end of what a " begins', "none")
            return _Word(match.group()[:-1], at, braced=False), match.end()
        stop = _end(_LIST_WORD, self._text, at, end) if in_list else self._bare(at, end)
        if stop == at:
            raise self.error(at, "a word", repr(self._text[at : at + 20]))
        return _Word(self._text[at:stop], at, braced=False), stop

    def _bare(self, at: int, end: int) -> int:
        """The end of a bare word of a command, in which square brackets hold a command with spaces of its own."""
        while True:
            stop = _end(_COMMAND_WORD, self._text, at, end)
            if stop < end and self._text[stop] == "[":
                stop = self._balanced(stop, end, _BRACKETS, "[")
            if stop == at:
                return at
            at = stop
            if stop >= end or self._text[stop] in " \t\n;":
                return stop

    def _balanced(self, at: int, end: int, pattern: re.Pattern[str], opening: str) -> int:
        """The position behind what closes the brace or bracket at `at`."""
        depth = 0
        for match in pattern.finditer(self._text, at, end):
            found = match.group()
            if len(found) == 1:
                depth += 1 if found == opening else -1
                if depth == 0:
                    return match.end()
        raise self.error(at, f"what closes a {opening}", "the end of the text")


def _end(pattern: re.Pattern[str], text: str, at: int, end: int | None = None) -> int:
    match = pattern.match(text, at, len(text) if end is None else end)
    return at if match is None else match.end()


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(_meant, text) if "\\" in text else text


def _meant(match: re.Match[str]) -> str:
    two, four, octal, plain = match.groups()
    if two or four:
        return chr(int(two or four, 16))
    if octal:
        return chr(int(octal, 8))
    return " " if plain is None else _NAMED.get(plain, plain)
