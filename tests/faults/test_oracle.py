"""The rigs' own eyes: each thing that must not stand on a disk is put there, and must be seen."""

import json
import socket
from pathlib import Path

import pytest

from changeover_faults import oracle
from changeover_faults.report import Report, table
from changeover_faults.studio import MODELS, OLD, Studio
from changeover_faults.sweep import left_over


def release_file(studio: Studio) -> Path:
    (path,) = (studio.store / "releases" / MODELS[0]).glob(f"{OLD}-*/*/*.cat")
    path.chmod(0o644)
    return path


def seen(studio: Studio) -> str:
    return " ".join(oracle.look(studio).wrong)


def test_a_whole_studio_has_nothing_wrong(studio: Studio) -> None:
    found = oracle.look(studio)

    assert (found.version, found.generation, found.wrong) == (OLD, 1, ())
    assert oracle.litter(studio) == ()
    assert list(left_over(studio)) == []


def test_a_file_that_is_empty_or_has_one_other_byte_is_seen(studio: Studio) -> None:
    path = release_file(studio)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1

    path.write_bytes(bytes(data))
    assert "not those of" in seen(studio)
    path.write_bytes(b"")
    assert "0 bytes" in seen(studio)
    path.unlink()
    assert "reader" in seen(studio)


@pytest.mark.parametrize("pointer", [b"", b'{"ext":{},"generation":9,"schema":"changeover.current/1"}'])
def test_a_pointer_that_is_empty_or_leads_nowhere_is_seen(studio: Studio, pointer: bytes) -> None:
    (studio.station().folder / "current").write_bytes(pointer)

    assert "reader" in seen(studio)


def test_a_pointer_that_the_record_does_not_tell_of_is_seen(studio: Studio) -> None:
    studio.ok("update")
    (studio.station().folder / "current").write_bytes(b'{"ext":{},"generation":1,"schema":"changeover.current/1"}')

    assert "events say 2" in seen(studio)


def test_a_cut_record_is_seen(studio: Studio) -> None:
    events = sorted((studio.station().folder / "events").iterdir())
    events[0].unlink()

    assert "record" in seen(studio)


def test_models_of_two_versions_in_one_generation_are_seen(studio: Studio) -> None:
    studio.ok("update")
    path = studio.station().folder / "generations" / "2" / "generation.json"
    body = json.loads(path.read_bytes())
    (old,) = [r["key"] for r in body["releases"] if r["key"].startswith(f"{MODELS[0]}@{OLD}")]
    for channel in body["channels"]:
        if channel["model"] == MODELS[0]:
            channel["key"] = old
    path.chmod(0o644)
    path.write_text(json.dumps(body))
    for derived in path.parent.glob("resolve.jsonl"):
        derived.unlink()

    assert "different versions" in seen(studio)


@pytest.mark.parametrize(
    "name", [f"staging/{socket.gethostname()}~999999999~ab/variant", "stations/vm1/.current.0123456789ab.tmp"]
)
def test_what_a_killed_command_leaves_is_seen_and_collected(studio: Studio, name: str) -> None:
    path = studio.store / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")

    assert oracle.litter(studio) != ()
    assert list(left_over(studio)) == []
    assert oracle.litter(studio) == ()


def test_the_table_names_what_was_violated_and_what_was_skipped() -> None:
    text = table([Report("kill", 3, violations=["update: a reader sees None"]), Report("power", skipped="no mount")])

    assert "VIOLATION update: a reader sees None" in text
    assert "skipped: no mount" in text
