"""Until when what is signed can be trusted, and what is said of it 30, 7 and 1 days before that is over.

The dates are read from the repositories in the site without verifying them, and where those are not at hand from what
this station verified last: here is a warning alone, and the verifying reader has the last word. What expires stops
updates and nothing else; what is installed stays in use. A timestamp lives for 30 days and is renewed on the way, so
that it is told from 7 days on. Left out: who may renew, which the repositories know.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from changeover_registry.clock import format_time, parse_time
from changeover_registry.errors import ChangeoverError
from changeover_updater.station import Station

__all__ = ["CHOICE", "Expires", "Stage", "expiring", "named_versions", "read_expiries", "stage"]

CHOICE = "the studio's choice"
Stage = Literal["expired", "1 day", "7 days", "30 days"]

_TOP = ("root", "timestamp", "snapshot", "targets")


@dataclass(frozen=True, slots=True)
class Expires:
    """One role of one repository, and when it ends. `owner` is a vendor's name, or `CHOICE`.

    `own` is whether that vendor is the studio itself, whose repository lies in the site.
    """

    owner: str
    role: str
    at: datetime
    own: bool = False

    def said(self, now: datetime) -> str:
        """One sentence on how much time is left."""
        left = self.at - now
        name = f"{self.role} metadata of {self.owner}"
        if left <= timedelta():
            return f"{name} expired at {format_time(self.at)}: updates are refused, what is installed stays in use"
        days = -(-left // timedelta(days=1))
        when = "within a day" if days <= 1 else f"in {days} days"
        return f"{name} expires {when}, at {format_time(self.at)}; from then on updates are refused"

    def as_object(self, near: Stage) -> dict[str, str]:
        """For ``--json``; `near` is how near the end is."""
        return {"owner": self.owner, "role": self.role, "expires": format_time(self.at), "stage": near}

    def remedy(self) -> str:
        """Who renews it, by which command."""
        if self.own:
            return f"run changeover sync on the host that has the keys of {self.owner}, the studio's own vendor"
        if self.owner != CHOICE:
            return f"ask {self.owner} to run changeover vendor renew, then run changeover sync"
        keys = {"root": "root", "targets": "targets", "snapshot": "site", "timestamp": "site"}
        if key := keys.get(self.role):
            return f"run changeover sync where the studio's {key} key is"
        scope = self.role.removesuffix(".back").replace(".", "/")
        return f"have a promoter of {scope} promote anything: that signs the scope again"


def stage(expires: Expires, now: datetime) -> Stage | None:
    """How near the end is; None where nothing needs to be said yet."""
    left = expires.at - now
    if left <= timedelta():
        return "expired"
    if left <= timedelta(days=1):
        return "1 day"
    if left <= timedelta(days=7):
        return "7 days"
    return "30 days" if left <= timedelta(days=30) and expires.role != "timestamp" else None


def expiring(found: Iterable[Expires], now: datetime) -> tuple[tuple[Expires, Stage], ...]:
    """Those of which something is to be said, the next to expire first."""
    staged = ((expires, stage(expires, now)) for expires in sorted(found, key=lambda e: (e.at, e.owner, e.role)))
    return tuple((expires, near) for expires, near in staged if near is not None)


def read_expiries(station: Station, site: Path | None) -> tuple[Expires, ...]:
    """Every role of the choice and of the vendors that this station knows of, as far as it can be read."""
    trust = station.folder / "trust"
    found = [*_of(CHOICE, site / "choice" if site else None, trust / "choice" / "state")]
    for state in sorted(path for path in (trust / "vendors").glob("*") if path.is_dir()):
        vendor = state.name
        if site is None or (site / "trust" / vendor).is_dir() or not (site / "trust").is_dir():
            own = site is not None and (site / "local" / vendor).is_dir()
            of_vendor = _of(vendor, site / "trust" / vendor / "mirror" if site else None, state)
            found += [replace(expires, own=own) for expires in of_vendor]
    return tuple(found)


def named_versions(metadata: Path) -> dict[str, int]:
    """The version of each role that the newest snapshot of a folder of metadata names, unverified."""
    about = _signed(metadata / "timestamp.json").get("meta", {}).get("snapshot.json", {})
    meta = _signed(metadata / f"{about.get('version')}.snapshot.json").get("meta", {})
    return {name.removesuffix(".json"): one["version"] for name, one in meta.items() if isinstance(one["version"], int)}


def _of(owner: str, repository: Path | None, state: Path) -> Iterator[Expires]:
    metadata = repository / "metadata" if repository else None
    if metadata is not None and (roles := _published(metadata)):
        yield from (Expires(owner, role, at) for role, at in roles.items())
    else:
        yield from (Expires(owner, role, at) for role, at in _verified(state).items())


def _published(metadata: Path) -> dict[str, datetime]:
    """The newest state that a repository offers, unverified; nothing where a part of the way there is missing."""
    timestamp = _signed(metadata / "timestamp.json")
    version = timestamp.get("meta", {}).get("snapshot.json", {}).get("version")
    snapshot = _signed(metadata / f"{version}.snapshot.json")
    found = {"timestamp": _expires(timestamp), "snapshot": _expires(snapshot), "root": _newest_root(metadata)}
    for name, about in snapshot.get("meta", {}).items():
        found[name.removesuffix(".json")] = _expires(_signed(metadata / f"{about.get('version')}.{name}"))
    known = {role: at for role, at in found.items() if at is not None}
    # Half of the story could keep the end of it to itself.
    return known if set(_TOP) <= known.keys() else {}


def _verified(state: Path) -> dict[str, datetime]:
    """What this station verified last, of the roles that its snapshot names."""
    named = {*_TOP, *(name.removesuffix(".json") for name in _signed(state / "snapshot.json").get("meta", {}))}
    found = {path.stem: _expires(_signed(path)) for path in state.glob("*.json") if path.stem in named}
    found["root"] = _newest_root(state / "root_history")
    return {role: at for role, at in found.items() if at is not None}


def _newest_root(folder: Path) -> datetime | None:
    roots = [path for path in folder.glob("*.root.json") if path.name.partition(".")[0].isdecimal()]
    newest = max(roots, key=lambda path: int(path.name.partition(".")[0]), default=None)
    return None if newest is None else _expires(_signed(newest))


def _signed(path: Path) -> dict[str, Any]:
    """The part of a metadata file that is signed; empty where it is no such file."""
    try:
        signed = json.loads(path.read_bytes())["signed"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return signed if isinstance(signed, dict) else {}


def _expires(signed: dict[str, Any]) -> datetime | None:
    try:
        return parse_time(str(signed.get("expires")))
    except ChangeoverError:
        return None
