"""The index of one generation for Nuke: the same as ``generation.json``, a line for each model.

A session asks for a few models out of a thousand, and parsing all of them is what its start would wait for. The first
line of ``resolve.jsonl`` is the generation without what is of single models; it names the models and how many bytes
each one's line has. The lines follow in that order. ``generation.json`` stays the truth: the index is derived from it
alone, lies in the same folder, which is renamed into place whole, and a reader that cannot use it reads
``generation.json``.
"""

from changeover_registry import canonical
from changeover_registry.records.station import Generation

__all__ = ["INDEX_NAME", "nuke_index"]

INDEX_NAME = "resolve.jsonl"
_SCHEMA = "changeover.resolve/1"
_PARTS = ("releases", "channels", "pins")


def nuke_index(generation: Generation) -> bytes:
    """The bytes of the index; the same generation has always the same."""
    whole = generation.model_dump(mode="json", exclude_none=True)
    parts: dict[str, dict[str, list[canonical.Json]]] = {}
    for name in _PARTS:
        for entry in whole.pop(name):
            parts.setdefault(entry["model"], {}).setdefault(name, []).append(entry)
    models = sorted(parts)
    lines = [canonical.dumps(parts[model]) + b"\n" for model in models]
    first = canonical.dumps({"schema": _SCHEMA, **whole, "models": models, "lengths": [*map(len, lines)]})
    return b"".join((first, b"\n", *lines))
