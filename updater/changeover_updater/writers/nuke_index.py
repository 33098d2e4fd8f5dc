"""The index of one generation for Nuke: the same as ``generation.json``, a line for each model.

A session asks for a few models out of a thousand, and parsing all of them is what its start would wait for. The first
line of ``resolve.jsonl`` is the generation without what is of single models; it names the models and how many bytes
each one's line has. The lines follow in that order. ``generation.json`` stays the truth: the index is derived from it
alone, lies in the same folder, which is renamed into place whole, and a reader that cannot use it reads
``generation.json``.
"""

from collections.abc import Iterable
from itertools import chain

from changeover_registry import canonical
from changeover_registry.records.base import Value
from changeover_registry.records.station import Generation

__all__ = ["INDEX_NAME", "nuke_index"]

INDEX_NAME = "resolve.jsonl"
_SCHEMA = "changeover.resolve/1"
_PARTS = ("releases", "channels", "pins")


def nuke_index(generation: Generation) -> bytes:
    """The bytes of the index; the same generation has always the same."""
    models = sorted({entry.model for entry in chain(generation.releases, generation.channels, generation.pins)})
    whole = generation.model_dump(mode="json", exclude_none=True, exclude=set(_PARTS))
    parts: dict[str, dict[str, list[canonical.Json]]] = {model: {} for model in models}
    for name in _PARTS:
        entries: Iterable[Value] = getattr(generation, name)
        for entry in entries:
            body = entry.model_dump(mode="json", exclude_none=True)
            parts[body["model"]].setdefault(name, []).append(body)
    lines = [canonical.dumps(parts[model]) + b"\n" for model in models]
    first = canonical.dumps({"schema": _SCHEMA, **whole, "models": models, "lengths": [*map(len, lines)]})
    return b"".join((first, b"\n", *lines))
