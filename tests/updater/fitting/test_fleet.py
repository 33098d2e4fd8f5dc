"""A fleet of which some facts files hold no facts."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.errors import InvalidInputError, UndecidedError
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.policy import Policy
from changeover_updater.fits import Answered
from changeover_updater.fleet import facts_of, fleet_object, fleet_of
from changeover_updater.subjects import Subject
from changeover_validators.fits import judge_points
from changeover_validators.probe import forged_host


def read(path: Path) -> HostFacts:
    """A shipped host by its name; other names are files that are wrong, too new or closed."""
    if path.name == "closed.json":
        raise PermissionError(13, "Permission denied", str(path))
    if path.name == "newer.json":
        raise UndecidedError("schema", where=path.name, expected="facts/1", actual="facts/2", remedy="update")
    return forged_host(path.name)


def test_file_without_facts_is_a_row_that_says_why_and_the_others_are_answered(recorded: Any, zoo: Any) -> None:
    net, release = zoo["unet"]

    def ask(facts: HostFacts) -> list[Answered]:
        found = judge_points(release, facts, Policy(), partial(recorded, net))
        return [Answered(Subject("unet", release, Path), facts, Policy(), found)]  # type: ignore[arg-type]

    files = [Path(name) for name in ("banana", "h100-80gib", "closed.json", "newer.json")]
    known, unread = facts_of(files, read)
    fleet = fleet_of([facts for _, facts in known], ("unet",), (4096, 2160), ask, unread)

    rows = {row["hosts"][0]: (row["host_class"] is None, row["cells"][0]) for row in fleet_object(fleet)["classes"]}
    assert list(rows) == ["h100-80gib", "banana", "closed.json", "newer.json"]
    assert (rows["h100-80gib"][0], rows["h100-80gib"][1]["answer"]) == (False, "fits")
    for name, words in (("banana", "banana"), ("closed.json", "Permission denied"), ("newer.json", "facts/2")):
        alone, cell = rows[name]
        assert (alone, cell["answer"], cell["code"]) == (True, "unknown", "facts-unreadable")
        assert words in cell["why"]
    assert [error.exit_code for _, error in unread] == [2, 2, 4]


def test_fleet_of_which_nothing_can_be_read_is_the_error_of_its_first_file() -> None:
    with pytest.raises(InvalidInputError) as caught:
        facts_of([Path("closed.json"), Path("newer.json")], read)

    assert "closed.json" in str(caught.value)
