"""The adapter's whole road on one MLflow, as a program: what another version of MLflow's client answers.

python -m changeover_servers.walk URI MODEL FOLDER     prints one JSON object
"""

import hashlib
import json
import sys
from pathlib import Path

from changeover_registry.errors import ChangeoverError
from changeover_registry.mlflow_adapter.registry import Held, Registry
from changeover_servers.releases import accepted, put_files, small_release

__all__ = ["EXPECTED", "walk"]

_CONTENT = bytes(range(256)) * 40
EXPECTED: dict[str, object] = {
    "new": [True, False, True],
    "refused": "registered version",
    "versions": [["1.0.0", 1], ["1.1.0", 2]],
    "same bytes": True,
    "missing": "registered files",
    "same run": True,
    "drawn": ["stable", []],
    "moved": ["1.0.0", "1.1.0"],
    "long": True,
}
"""What `walk` answers where everything works."""


def walk(uri: str, model: str, folder: Path) -> dict[str, object]:
    """Register, again, refuse, find, take out, judge, draw an alias, see one moved; each answer by its name."""
    registry = Registry(uri)
    first = small_release(model, "1.0.0", _CONTENT)
    files = put_files(folder / "release", _CONTENT)
    made = registry.register_release(first, files, {"bom.cdx.json": b"{}"})
    again = registry.register_release(first, files, {})
    other = small_release(model, "1.0.0", _CONTENT, changes="other")
    second = small_release(model, "1.1.0", _CONTENT, changes="word " * 799)
    known = registry.know_release(second)
    back = registry.fetch(made.registered, next(iter(files)), folder / "back")
    runs = {registry.log_verdict(accepted(first), first.digest(), {"report.html": b"<p>"}) for _ in range(2)}
    held = (Held("stable", second.ref()),)
    drawn = [name.partition(" ")[2] for name in registry.show_aliases(held) if name.startswith(f"{model} ")]
    calm = [one for one in registry.moved_aliases(held) if one.model == model]
    _move_by_hand(registry, model)
    (moved,) = (one for one in registry.moved_aliases(held) if one.model == model)
    record = registry.fetch(known.registered, "release.json", folder / "back").read_bytes()
    return {
        "new": [made.new, again.new, known.new],
        "refused": _rule(lambda: registry.know_release(other)),
        "versions": [[entry.version, entry.number] for entry in registry.versions(model)],
        "same bytes": hashlib.sha256(back.read_bytes()).digest() == hashlib.sha256(_CONTENT).digest(),
        "missing": _rule(lambda: registry.fetch(made.registered, "onnx-fp32/none", folder / "back")),
        "same run": len(runs) == 1,
        "drawn": [*drawn, calm],
        "moved": [moved.asked, moved.chosen],
        "long": record == second.to_bytes(),
    }


def _move_by_hand(registry: Registry, model: str) -> None:
    with registry._session() as client:
        client.set_registered_model_alias(model.replace("/", "."), "stable", "1")


def _rule(attempt: "object") -> str:
    try:
        attempt()  # type: ignore[operator]
    except ChangeoverError as error:
        return error.rule
    return "nothing"


if __name__ == "__main__":
    uri, model, folder = sys.argv[1:]
    print(json.dumps(walk(uri, model, Path(folder))))  # noqa: T201
