import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from changeover_registry import chain
from changeover_registry.errors import LostRaceError, TrustError
from changeover_registry.records.station import Event

Make = Callable[[int, str | None], Event]


def event(why: str) -> Make:
    def make(sequence: int, previous: str | None) -> Event:
        return Event(
            sequence=sequence,
            previous=previous,
            transaction="t",
            phase="done",
            what="update",
            who="jane",
            when="2026-11-22T13:45:00Z",
            why=why,
        )

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for why in ("one", "two", "three"):
        chain.append(tmp_path / "events", event(why))
    return tmp_path / "events"


def test_events_are_numbered_linked_and_read_in_order(folder: Path) -> None:
    events = chain.read(folder)
    assert [item.why for item in events] == ["one", "two", "three"]
    assert [item.previous for item in events] == [None, events[0].digest(), events[1].digest()]
    assert sorted(path.name for path in folder.iterdir()) == ["00000001.json", "00000002.json", "00000003.json"]
    chain.verify(events, (3, events[2].digest()))


def test_no_folder_means_no_events(tmp_path: Path) -> None:
    assert chain.read(tmp_path / "none") == ()
    chain.verify((), None)
    chain.verify((), (0, ""))


def test_a_longer_chain_than_the_noted_head_holds(folder: Path) -> None:
    events = chain.read(folder)
    chain.verify(events, (2, events[1].digest()))


def test_a_cut_tail_is_seen_against_the_noted_head(folder: Path) -> None:
    events = chain.read(folder)
    (folder / "00000003.json").unlink()
    chain.verify(chain.read(folder), None)
    with pytest.raises(TrustError, match="event 3: expected 3 events, found 2"):
        chain.verify(chain.read(folder), (3, events[2].digest()))


def test_a_missing_event_is_named(folder: Path) -> None:
    (folder / "00000002.json").unlink()
    with pytest.raises(TrustError, match="event 2"):
        chain.verify(chain.read(folder), None)


def test_an_event_written_anew_breaks_the_next_link(folder: Path) -> None:
    first = chain.read(folder)[0]
    (folder / "00000001.json").write_bytes(first.model_copy(update={"why": "another"}).to_bytes())
    with pytest.raises(TrustError, match="event 1 changed"):
        chain.verify(chain.read(folder), None)


def test_a_last_event_written_anew_is_seen_against_the_noted_head(folder: Path) -> None:
    events = chain.read(folder)
    (folder / "00000003.json").write_bytes(events[2].model_copy(update={"why": "another"}).to_bytes())
    with pytest.raises(TrustError, match="event 3"):
        chain.verify(chain.read(folder), (3, events[2].digest()))


def test_one_byte_changed_is_refused_naming_the_file(folder: Path) -> None:
    path = folder / "00000002.json"
    path.write_bytes(path.read_bytes().replace(b'"schema"', b'"Schema"'))
    with pytest.raises(TrustError, match=r"00000002\.json"):
        chain.read(folder)


def test_an_event_under_another_number_is_refused(folder: Path) -> None:
    (folder / "00000003.json").write_bytes((folder / "00000002.json").read_bytes())
    with pytest.raises(TrustError, match=r"sequence = 3 in 00000003\.json"):
        chain.read(folder)


def test_what_is_no_event_file_is_passed_over(folder: Path) -> None:
    (folder / ".00000004.json.tmp").write_bytes(b"half")
    assert len(chain.read(folder)) == 3


def test_writers_at_once_each_get_their_own_number(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    start = threading.Barrier(4)

    def work() -> None:
        start.wait()
        for _ in range(5):
            chain.append(folder, event("at once"))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(chain.read(folder)) == 20
    chain.verify(chain.read(folder), None)


def test_a_writer_who_is_always_second_gives_up_and_writes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "events"

    def beaten(sequence: int, previous: str | None) -> Event:
        chain.append(folder, event("faster"))
        return event("slower")(sequence, previous)

    with pytest.raises(LostRaceError, match="another writer"):
        chain.append(folder, beaten)
    assert {item.why for item in chain.read(folder)} == {"faster"}


def test_an_event_that_cannot_be_made_writes_nothing(tmp_path: Path) -> None:
    def fails(_: int, __: str | None) -> Event:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        chain.append(tmp_path / "events", fails)
    assert chain.read(tmp_path / "events") == ()


def test_a_read_only_folder_is_an_error_of_the_disk(
    tmp_path: Path, unprivileged: Callable[[Path, str], list[str]]
) -> None:
    chain.append(tmp_path / "locked", event("one"))
    code = "chain.append(Path('locked'), lambda n, p: chain.read(Path('locked'))[0].model_copy(update={'sequence': 2}))"
    plain, ours = unprivileged(tmp_path, code)
    assert plain == "a plain write: PermissionError"
    assert ours.startswith("PermissionError locked/.00000002.json")
    assert len(chain.read(tmp_path / "locked")) == 1
