import json
import os
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[3]


def _recorded(kind: str) -> Path:
    data = Path(os.environ.get("CHANGEOVER_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    path = data / "nuke" / f"{kind}.json"
    if not path.is_file():
        pytest.skip(f"the recorded knob lists are not here ({path})")
    return path


@pytest.mark.parametrize("kind", ["Inference", "Read", "Write", "NoOp", "Group"])
def test_the_knobs_of_the_stand_in_are_those_of_a_real_nuke(standin: Any, kind: str) -> None:
    body = json.loads(_recorded(kind).read_text(encoding="utf-8"))
    real = body["arguments"] | body["internal_arguments"]

    for name, (knob, default) in standin.KNOBS[kind].items():
        assert real[name]["knob_type"] == knob, name
        assert real[name]["default"]["value"] == default, name


def test_the_stand_in_has_what_the_plug_in_calls_and_nothing_else_is_promised(standin: Any) -> None:
    import ast

    promised = ast.parse((REPOSITORY / "plugins" / "nuke" / "nuke.pyi").read_text(encoding="utf-8"))
    names = {node.name for node in promised.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    called = {
        node.attr
        for path in (REPOSITORY / "plugins" / "nuke").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "nuke"
    }

    assert called - {"NUKE_VERSION_STRING", "GUI"} <= names
    assert names - called <= {"Knob", "Menu"}
    assert all(hasattr(standin, name) for name in names)
