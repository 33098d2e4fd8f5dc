"""The samples of every released format, and a way to change one field of one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder that holds one file a format, for ever."""
    return SAMPLES


@pytest.fixture
def changed() -> Callable[..., dict[str, Any]]:
    """`changed("release-1", "variants.0.entry", "x")`: the sample with that field set; `...` removes it."""

    def change(sample: str, path: str, value: Any) -> dict[str, Any]:
        body: dict[str, Any] = json.loads((SAMPLES / f"{sample}.json").read_bytes())
        *parents, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
        place: Any = body
        for part in parents:
            place = place[part]
        if value is ...:
            del place[last]
        else:
            place[last] = value
        return body

    return change
