"""Reports of stations, of which any may be a stranger's work."""

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.clock import format_time
from changeover_registry.records.station import StationStatus, Tried
from changeover_updater.site import Site
from changeover_updater.stations import LIMIT_BYTES, Unread, iter_statuses, read_statuses, station_names

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.create(tmp_path / "site")


def report(site: Site, name: str, **fields: Any) -> Path:
    folder = site.root / "stations" / name
    folder.mkdir()
    said = {"station": name, "host": name, "reported_at": format_time(NOW)} | fields
    (folder / "status.json").write_bytes(StationStatus(**said).to_bytes())
    return folder / "status.json"


def test_reports_are_read_by_name_and_a_station_without_one_is_left_out(site: Site) -> None:
    for name in ("ws3", "ws1", "ws2"):
        report(site, name)
    (site.root / "stations" / "ws0").mkdir()

    assert station_names(site) == ("ws0", "ws1", "ws2", "ws3")
    assert [status.station for status in read_statuses(site)] == ["ws1", "ws2", "ws3"]
    assert [status.station for status in read_statuses(site, ("ws2",))] == ["ws2"]


def test_site_without_stations_has_none(tmp_path: Path) -> None:
    assert station_names(Site(tmp_path)) == ()


def test_names_that_lead_elsewhere_are_no_stations(site: Site, tmp_path: Path) -> None:
    report(site, "ws1")
    (site.root / "stations" / "link").symlink_to(tmp_path)
    (site.root / "stations" / ".hidden").mkdir()
    (site.root / "stations" / "file").write_text("x", encoding="utf-8")

    assert station_names(site) == ("ws1",)
    assert [type(found) for found in iter_statuses(site, ("../ws1", "ws1"))] == [Unread, StationStatus]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def _grow(path: Path) -> None:
    path.write_bytes(b" " * (LIMIT_BYTES + 1))


def _link(path: Path) -> None:
    path.rename(path.with_name("real.json"))
    path.symlink_to("real.json")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _deep(path: Path) -> None:
    path.write_bytes(b'{"a":' * 20_000 + b"1" + b"}" * 20_000)


@pytest.mark.parametrize("spoil", [_cut, _grow, _link, _pipe, _folder, _endless, _deep])
def test_report_that_is_none_is_told_and_keeps_nobody_from_being_read(
    site: Site, spoil: Callable[[Path], None]
) -> None:
    spoil(report(site, "bad"))
    report(site, "good")
    found: list[StationStatus | Unread] = []

    # A pipe that nobody writes to would be waited for; the reading is given ten seconds.
    reading = threading.Thread(target=lambda: found.extend(iter_statuses(site, now=NOW)), daemon=True)
    reading.start()
    reading.join(10)

    assert [(type(one), one.station) for one in found] == [(Unread, "bad"), (StationStatus, "good")]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"station": "other"}, "names another station"),
        ({"reported_at": format_time(NOW + timedelta(hours=1))}, "from the future"),
        (
            {"tried": (Tried(key="a", outcome="failed", when=format_time(NOW + timedelta(seconds=1))),)},
            "what comes after it",
        ),
    ],
)
def test_report_that_cannot_be_so_counts_for_nothing(site: Site, fields: dict[str, Any], words: str) -> None:
    report(site, "ws1", **fields)

    (found,) = iter_statuses(site, now=NOW)

    assert isinstance(found, Unread)
    assert words in found.why


def test_clock_that_is_minutes_ahead_is_a_clock_like_others(site: Site) -> None:
    report(site, "ws1", reported_at=format_time(NOW + timedelta(minutes=10)))

    assert len(read_statuses(site, now=NOW)) == 1


def test_of_too_many_stations_the_same_ones_are_read_each_time(site: Site) -> None:
    for number in range(40):
        report(site, f"ws{number}")

    first = [status.station for status in read_statuses(site, limit=10)]

    assert len(first) == 10
    assert first == [status.station for status in read_statuses(site, limit=10)]
    report(site, "ws99")
    after = [status.station for status in read_statuses(site, limit=10)]
    assert len(set(after) & set(first)) >= 9
