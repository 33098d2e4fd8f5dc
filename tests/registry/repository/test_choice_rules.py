from typing import Any

import pytest

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.choice import Choice, Pointer
from changeover_registry.records.release import ReleaseRef
from changeover_registry.repository import choice

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
