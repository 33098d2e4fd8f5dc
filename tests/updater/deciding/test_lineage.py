from typing import Any

import pytest

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.release import Provenance, Release
from changeover_updater.lineage import check_parent, parent_of


def child(build: Any, parent: str | None) -> Release:
    release: Release = build.release("2.0.0", model="studio/hair", provenance=Provenance(parent_release=parent))
    return release


def test_release_that_names_no_parent_has_none(build: Any) -> None:
    assert parent_of(child(build, None), where="x") is None
    assert check_parent(child(build, None), (), where="x") is None


def test_own_parent_that_was_published_is_in_order(build: Any) -> None:
    assert check_parent(child(build, "studio/hair@0.1.0"), [("studio/hair", "0.1.0")], where="x") is None


def test_own_parent_that_was_not_published_is_refused_with_what_was(build: Any) -> None:
    with pytest.raises(InvalidInputError, match="0.1.0, 0.2.0") as error:
        check_parent(
            child(build, "studio/hair@0.3.0"),
            [("studio/hair", "0.2.0"), ("studio/hair", "0.1.0")],
            where="release.toml",
        )
    assert "release.toml: provenance.parent_release" in str(error.value)


def test_parent_of_another_vendor_is_said_not_to_have_been_looked_up(build: Any) -> None:
    text = check_parent(child(build, "acme/hair@1.0.0"), (), where="x")

    assert text is not None
    assert "acme/hair@1.0.0" in text


@pytest.mark.parametrize("text", ["hair@1.0.0", "studio/hair", "studio/hair@one", "studio/hair@2.0.0", "a/b/c@1.0.0"])
def test_parent_of_another_form_and_the_release_itself_are_refused(build: Any, text: str) -> None:
    with pytest.raises(InvalidInputError):
        check_parent(child(build, text), (), where="x")
