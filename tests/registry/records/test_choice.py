import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.choice import Choice

Changed = Callable[..., dict[str, Any]]
OTHER = {"model": "acme/person-roto", "version": "1.0.0", "digest": "0" * 64}


@pytest.fixture
def show_choice(samples: Path) -> dict[str, Any]:
    """A choice of show atlas, holding what a show may hold."""
    body: dict[str, Any] = json.loads((samples / "choice-1.json").read_bytes())
    body |= {"scope": "shows/atlas", "channels": [{"channel": "show/atlas", "release": OTHER}], "verdict_keys": []}
    del body["policy"]
    return body


def test_a_channel_is_found_by_name_and_model(samples: Path) -> None:
    choice = Choice.from_bytes((samples / "choice-1.json").read_bytes(), where="sample")

    pointer = choice.pointer("beta", "acme/person-roto")

    assert pointer is not None
    assert pointer.release.version == "4.2.0rc1"
    assert choice.pointer("beta", "acme/sky-roto") is None
    assert choice.pointer("show/atlas", "acme/person-roto") is None


def test_a_channel_with_two_releases_of_a_model_is_refused(changed: Changed) -> None:
    body = changed("choice-1", "channels.1.channel", "stable")

    with pytest.raises(InvalidInputError, match="expected each channel once for a model"):
        Choice.from_object(body, where="choice-7.json")


@pytest.mark.parametrize("channel", ["live", "show/", "show/Atlas", "show/a/b", "stable "])
def test_a_channel_of_another_name_is_refused(changed: Changed, channel: str) -> None:
    with pytest.raises(InvalidInputError, match=r"channels\.0\.channel"):
        Choice.from_object(changed("choice-1", "channels.0.channel", channel), where="choice-7.json")


def test_nothing_passes_over_trust(changed: Changed) -> None:
    with pytest.raises(InvalidInputError, match="other than trust"):
        Choice.from_object(changed("choice-1", "overrides.0.checks", ["vram", "trust"]), where="choice-7.json")


@pytest.mark.parametrize("until", ["tomorrow", "2026-12-32T00:00:00Z", ...])
def test_an_override_without_an_end_is_refused(changed: Changed, until: object) -> None:
    with pytest.raises(InvalidInputError, match=r"overrides\.0\.until"):
        Choice.from_object(changed("choice-1", "overrides.0.until", until), where="choice-7.json")


def test_a_show_may_move_its_own_channel_and_pins(show_choice: dict[str, Any]) -> None:
    assert Choice.from_object(show_choice, where="choice-7.json").scope == "shows/atlas"


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("channels", [{"channel": "stable", "release": OTHER}]),
        ("channels", [{"channel": "show/borealis", "release": OTHER}]),
        ("pins", [{"release": OTHER, "reason": "all of it"}]),
        ("pins", [{"release": OTHER, "reason": "theirs", "show": "borealis"}]),
        ("policy", "0" * 64),
        (
            "verdict_keys",
            [{"key_id": "0" * 64, "key_type": "ed25519", "scheme": "ed25519", "public": "0" * 64, "owner": "me"}],
        ),
    ],
)
def test_a_show_that_speaks_for_the_site_or_another_show_is_refused(
    show_choice: dict[str, Any], part: str, value: object
) -> None:
    with pytest.raises(InvalidInputError, match="in scope shows/atlas"):
        Choice.from_object(show_choice | {part: value}, where="choice-7.json")
