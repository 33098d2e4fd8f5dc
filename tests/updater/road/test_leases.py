import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from changeover_updater.leases import LEASE_DAYS, SessionLease, read_leases, sweep_leases
from changeover_updater.settings import short_host

NOW = datetime.now(UTC).replace(microsecond=0)
PLUGIN = Path(__file__).parents[3] / "plugins" / "nuke"


def write(folder: Path, name: str = "a.json", *, age: timedelta = timedelta(0), **changes: object) -> Path:
    body = {
        "schema": "changeover.lease/1",
        "host": "ws-014",
        "pid": 4711,
        "started_at": "2026-11-22T18:00:00Z",
        "generation": 3,
    }
    path = folder / name
    path.write_text(json.dumps(body | changes), encoding="utf-8")
    return aged(path, age)


def aged(path: Path, age: timedelta) -> Path:
    moment = (NOW - age).timestamp()
    os.utime(path, (moment, moment), follow_symlinks=False)
    return path


def only(folder: Path) -> SessionLease:
    (lease,) = read_leases(folder, NOW)
    return lease


def test_a_lease_keeps_its_generation_for_two_weeks_after_its_last_touch(tmp_path: Path) -> None:
    write(tmp_path, age=timedelta(days=LEASE_DAYS) - timedelta(hours=1))
    assert only(tmp_path).keeps(3, NOW)
    assert not only(tmp_path).keeps(2, NOW)

    write(tmp_path, age=timedelta(days=LEASE_DAYS, seconds=1))
    assert not only(tmp_path).lives(NOW)


def test_a_touch_in_the_future_counts_from_when_it_was_made(tmp_path: Path) -> None:
    write(tmp_path, age=-timedelta(days=9999))
    in_two_weeks = NOW + timedelta(days=LEASE_DAYS, hours=1)

    assert only(tmp_path).lives(NOW)
    assert not only(tmp_path).lives(in_two_weeks)
    assert sweep_leases(tmp_path, read_leases(tmp_path, in_two_weeks), in_two_weeks) == 1


def test_what_the_plug_in_writes_is_a_lease(tmp_path: Path) -> None:
    (tmp_path / "leases").mkdir()
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import changeover_nuke_store as s; s._write_lease(sys.argv[2], 7)"
    )
    subprocess.run([sys.executable, "-I", "-S", "-c", code, str(PLUGIN), str(tmp_path)], check=True)

    lease = only(tmp_path / "leases")

    assert (lease.host, lease.generation, lease.lives(NOW)) == (short_host(), 7, True)


def test_a_session_that_was_killed_on_this_host_keeps_nothing_after_two_hours(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as session:
        write(tmp_path, host=short_host(), pid=session.pid, age=timedelta(minutes=1))
        assert only(tmp_path).lives(NOW)
        session.kill()

    assert only(tmp_path).lives(NOW)
    aged(tmp_path / "a.json", timedelta(hours=3))
    assert not only(tmp_path).lives(NOW)


def test_a_session_that_lives_keeps_its_generation_however_long_it_slept(tmp_path: Path) -> None:
    session = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        os.utime(write(tmp_path, host=short_host(), pid=session.pid))
        later = datetime.now(UTC) + timedelta(days=3)
        (lease,) = read_leases(tmp_path, later)
        assert lease.lives(later)
    finally:
        session.communicate(b"\n")


def test_a_number_that_was_given_to_another_process_since_keeps_nothing(tmp_path: Path) -> None:
    """The process of that number began after the lease was touched for the last time."""
    session = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        write(tmp_path, host=short_host(), pid=session.pid, age=timedelta(hours=3))
        assert only(tmp_path).ended
    finally:
        session.communicate(b"\n")


def test_a_process_of_another_host_is_not_looked_for_here(tmp_path: Path) -> None:
    write(tmp_path, host="elsewhere", pid=4194304, age=timedelta(days=13))

    assert only(tmp_path).lives(NOW)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"schema":"changeover.lease/9"}', b"\xff", b"[" * 4000, b"1"])
def test_a_file_that_cannot_be_read_keeps_every_generation(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.json").write_bytes(data)
    aged(tmp_path / "x.json", timedelta(days=13))

    lease = only(tmp_path)

    assert lease.keeps(1, NOW)
    assert lease.keeps(99, NOW)
    assert "cannot be read" in str(lease)
    assert not lease.lives(NOW + timedelta(days=2))


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"host": "x"}', encoding="utf-8")
    folder = tmp_path / "leases"
    folder.mkdir()
    (folder / "link.json").symlink_to(secret)
    os.mkfifo(folder / "pipe.json")
    (folder / "folder.json").mkdir()
    began = time.monotonic()

    leases = read_leases(folder, NOW)

    assert [lease.generation for lease in leases] == [None] * 3
    assert time.monotonic() - began < 5


def test_only_what_lives_no_more_is_swept(tmp_path: Path) -> None:
    write(tmp_path, "live.json", age=timedelta(days=13))
    write(tmp_path, "dead.json", age=timedelta(days=15))
    write(tmp_path, "touched.json", age=timedelta(days=15))
    leases = read_leases(tmp_path, NOW)
    aged(tmp_path / "touched.json", timedelta(0))

    assert sweep_leases(tmp_path, leases, NOW) == 1

    assert sorted(path.name for path in tmp_path.iterdir()) == ["live.json", "touched.json"]


def test_a_folder_that_is_not_there_holds_no_lease(tmp_path: Path) -> None:
    assert read_leases(tmp_path / "leases", NOW) == ()
