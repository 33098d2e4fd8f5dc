from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Targets

from changeover_registry.errors import InvalidInputError, TrustError
from changeover_registry.records.choice import Choice, Pointer
from changeover_registry.records.release import ReleaseRef
from changeover_registry.repository import choice, metadata
from changeover_registry.repository.reached import read_reached
from changeover_registry.signing import load_signer

Studio = Any


def stray(head: Choice) -> Choice:
    """A copy of a show's choice that also moves the site's channel; copies are not checked."""
    release = ReleaseRef(model="acme/person-roto", version="1.0.0", digest="0" * 64)
    return head.model_copy(update={"channels": (Pointer(channel="stable", release=release),)})


def test_a_show_that_moves_the_sites_channel_is_refused_before_anything_is_signed(studio: Studio) -> None:
    choice.enrol_scope(studio.folder, studio.keys, "shows/atlas", studio.now)
    first = studio.write("shows/atlas", "first")

    with pytest.raises(InvalidInputError, match="only channel show/atlas"):
        choice.write(studio.folder, studio.keys, "shows/atlas", lambda _: stray(first), studio.now)

    assert choice.history(studio.folder, "shows/atlas") == (first,)
    assert studio.write("shows/atlas", "second").number == 2


def test_a_role_that_a_stolen_key_of_a_show_signed_without_a_choice_is_never_reached(
    studio: Studio, tmp_path: Path
) -> None:
    """Whoever has one show's key and may write there must not stop the readers of all scopes."""
    choice.enrol_scope(studio.folder, studio.keys, "shows/atlas", studio.now)
    studio.write("shows/atlas", "first")
    anchor = studio.keys.anchor.read_bytes()
    reached, thief = read_reached(studio.folder, anchor), load_signer(studio.keys.promoter)
    empty = Targets(2, expires=metadata.expiry("shows.atlas", studio.now))
    file = metadata.role_file("shows.atlas", empty, reached.targets, [thief])
    file.path(studio.folder).write_bytes(file.data)

    with pytest.raises(TrustError, match="expected shows/atlas/choice-2.json, found no target"):
        studio.write("site", "second")

    assert len(choice.read(studio.folder, tmp_path / "state", anchor)) == 2
    file.path(studio.folder).unlink()
    assert studio.write("site", "second").number == 2
