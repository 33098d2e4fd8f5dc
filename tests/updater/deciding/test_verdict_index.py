"""The listing of verdicts by release: it spares reading, and hides nothing that is there."""

import base64
import json
from pathlib import Path

import pytest

from changeover_registry import canonical
from changeover_updater.verdict_index import INDEX, speaking_of

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
LIMIT = 4096


def file(folder: Path, candidate: str, current: str | None = None, note: int = 0) -> Path:
    """A verdict's envelope, as far as this looks at one, under its digest."""
    verdict = {
        "candidate": {"digest": candidate},
        "note": note,
        **({"current": {"digest": current}} if current else {}),
    }
    payload = base64.b64encode(json.dumps(verdict).encode()).decode()
    data = json.dumps({"payload": payload}).encode()
    path = folder / f"{canonical.digest(data)}.json"
    path.write_bytes(data)
    return path


def found(folder: Path, release: str) -> set[Path]:
    return set(speaking_of(folder, {release, "f" * 64}, LIMIT))


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """More verdicts than may stand outside the listing, of which one is on A and one compares with it."""
    for number in range(70):
        file(tmp_path, C, note=number)
    return tmp_path


def test_verdicts_on_a_release_and_against_it_are_found_before_and_after_they_are_listed(many: Path) -> None:
    wanted = {file(many, A), file(many, B, current=A)}

    assert found(many, A) == wanted
    assert (many / INDEX).is_file()
    assert found(many, A) == wanted
    assert len(found(many, C)) == 70


def test_few_new_files_are_read_each_time_and_the_listing_is_left_alone(many: Path) -> None:
    found(many, A)
    listed = (many / INDEX).read_bytes()
    new = file(many, A)

    assert found(many, A) == {new}
    assert (many / INDEX).read_bytes() == listed


def test_what_is_removed_is_not_found_and_what_is_changed_is_read_and_refused_elsewhere(many: Path) -> None:
    gone, changed = file(many, A, note=1), file(many, A, note=2)
    found(many, A)
    gone.unlink()
    changed.write_bytes(b"garbage")

    assert found(many, A) == {changed}


@pytest.mark.parametrize("damage", [b"", b"x" * 300, b"changeover.verdict-index/2\n", b"\xff\xfe", None])
def test_a_listing_that_is_damaged_or_no_file_costs_time_alone(many: Path, damage: bytes | None) -> None:
    wanted = {file(many, A)}
    found(many, A)
    (many / INDEX).unlink()
    if damage is None:
        (many / INDEX).mkdir()
    else:
        (many / INDEX).write_bytes(damage)

    assert found(many, A) == wanted


def test_what_is_no_verdict_is_opened_each_time_by_whoever_can_judge_it(many: Path) -> None:
    odd = {
        "not under its digest": many / f"{A}.json",
        "no envelope": many / f"{canonical.digest(b'{}')}.json",
        "too large": many / f"{B}.json",
    }
    for name, path in odd.items():
        path.write_bytes(b"x" * (LIMIT + 1) if name == "too large" else b"{}")
    (many / f"{C}.json").mkdir()

    for _ in range(2):
        assert found(many, A) == {*odd.values(), many / f"{C}.json"}
    assert found(many / "none", A) == set()
