"""What a verdict says of its set: shots that are there twice, shots that went and came, shots without a bar."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from changeover_registry.records.golden import GoldenSet, GoldenShot, ShotRef
from changeover_validators.golden.set_warnings import changes_since, repeated_shots, without_bar
from changeover_validators.golden.shots import NewShot

AddOne = Callable[..., GoldenShot]


def golden_set(**versions: int) -> GoldenSet:
    refs = (ShotRef(shot=name, version=version, digest="a" * 64) for name, version in versions.items())
    return GoldenSet(name="hair", version=1, shots=tuple(refs))


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"a": 1, "b": 1}, {"a": 1, "b": 1}, ""),
        ({"a": 1, "b": 1}, {"b": 1, "a": 1}, ""),
        ({"a": 1, "b": 1}, {"a": 1}, "no longer scored: b"),
        ({"a": 1}, {"a": 2}, "replaced: a"),
        ({"a": 1}, {"a": 1, "b": 1}, "added: b"),
        ({"a": 1, "b": 1}, {"a": 3, "c": 1}, "no longer scored: b; replaced: a; added: c"),
        ({}, dict.fromkeys("abcdefg", 1), "added: a, b, c, d, e and 2 more"),
    ],
)
def test_what_changed_between_two_versions_of_a_set(before: dict[str, int], now: dict[str, int], said: str) -> None:
    assert changes_since(golden_set(**before), golden_set(**now)) == said


def test_a_shot_under_two_names_counts_twice_and_is_told(site: Path, new: NewShot, add: AddOne) -> None:
    whole = add(site, new)
    cut = add(site, replace(new, shot="ab020", plate=f"{new.plate} 1002-1003", matte=f"{new.matte} 1002-1003"))
    assert list(repeated_shots((whole,))) == []
    assert list(repeated_shots((whole, cut))) == ["shot-2: 2 of its 2 plates are also in shot-1; both count"]
    assert list(repeated_shots((cut, whole))) == ["shot-1: 2 of its 4 plates are also in shot-2; both count"]


def test_plates_that_are_fed_and_not_scored_may_be_those_of_another_shot(site: Path, new: NewShot, add: AddOne) -> None:
    first = add(site, replace(new, plate=f"{new.plate} 1001-1002", matte=f"{new.matte} 1001-1002"))
    second = add(site, replace(new, shot="ab020", pre_roll=2, matte=f"{new.matte} 1003-1004"))
    assert list(repeated_shots((first, second))) == []


def test_shots_without_an_approved_score_are_named(site: Path, new: NewShot, add: AddOne) -> None:
    shots = (add(site, new), add(site, replace(new, shot="ab020")))
    assert without_bar(shots, {"ab010", "ab020"}) == ""
    assert without_bar(shots, {"ab010"}) == (
        "shot-2: no score approved before to compare with, so the ratchet says nothing"
    )
