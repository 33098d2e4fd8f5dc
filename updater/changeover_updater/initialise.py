"""Make a site, a store, a station and the studio's keys on one machine; every part may be there already."""

import contextlib
import importlib.util
import json
import os
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from changeover_registry import _fs, canonical, signing
from changeover_registry.clock import format_time
from changeover_registry.errors import InvalidInputError
from changeover_updater.choose import Change, first_choice
from changeover_updater.settings import short_host
from changeover_updater.share import check_keys_apart, make_share, name_hosts, open_to_readers
from changeover_updater.site import Site
from changeover_updater.station import BY_HOST, Station, check_station_id
from changeover_updater.store import Store, check_root

__all__ = ["Request", "initialise", "system_nuke_json"]

_LOCK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Request:
    """What to make, and for whom.

    `nuke_json` is None where Nuke is told by ``CHANGEOVER_STORE`` alone. `host` is what Nuke will find its station by.
    """

    site: Path
    store: Path
    station: str
    keys: Path
    config: Path
    nuke_json: Path | None
    who: str
    now: datetime
    host: str = field(default_factory=short_host)
    choice_root: bytes | None = None
    """The root of another site's choice, which this site follows instead of making its own."""
    share: bool = False
    """Whether several hosts read the store, and only this account writes it; the station is a host class then."""
    hosts: tuple[str, ...] = ()
    """On a share, the hosts that have this station."""


def system_nuke_json() -> Path:
    """Where the plug-in looks for the store when its environment does not say."""
    if sys.platform == "win32":  # pragma: windows
        return Path(os.environ.get("PROGRAMDATA", "C:/ProgramData"), "changeover", "nuke.json")
    return Path("/etc/changeover/nuke.json")


def initialise(request: Request, notice: Callable[[str], None]) -> None:
    """Make everything that is not there yet; run again after a kill, it goes on.

    Raises:
        InvalidInputError: A root has characters that hosts misread, host.toml names other folders, or the station's
            name cannot be one.
        OSError: A folder cannot be written.
    """
    check_root(request.site, what="site")
    check_root(request.store, what="store")
    check_station_id(request.station)
    own = _check_config(request)
    if request.share:
        check_keys_apart(request.keys, request.site, request.store)
        # Other users read what is made here, whatever this account's umask is.
        os.umask(0o022)
    site = Site.create(request.site)
    station = Station(Store.create(request.store), request.station)
    if request.share:
        make_share(station.store)
    station.create()
    with _fs.lock(site.root / "trust" / ".lock", what=f"the site {site.root}", wait_seconds=_LOCK_SECONDS):
        _follow(site, request)
        _make_choice(site, request)
    _pin_choice_root(site, station)
    _write_config(request)
    if station.store.is_share():
        name_hosts(station.store, request.station, request.hosts)
        open_to_readers(site, station.store)
    else:
        _tell_host(station.store, request.host, own)
    if request.nuke_json is not None:
        _tell_nuke(request.nuke_json, request.store, notice)


def _make_choice(site: Site, request: Request) -> None:
    from changeover_registry.repository import choice

    if (site.choice / "metadata" / "timestamp.json").is_file() or (site.follows / "root.json").is_file():
        return
    keys = choice.new_studio_keys(request.keys)
    verdict = signing.verdict_key(signing.load_signer(keys.verdict), request.who)
    change = Change(who=request.who, when=format_time(request.now), why="the studio starts")
    first = first_choice(change, (verdict,), canonical.digest(site.policy_bytes()))
    choice.create(site.choice, keys, first, request.now)


def _follow(site: Site, request: Request) -> None:
    """Keep the root of the choice that this site follows; it makes none, and has no keys for one."""
    if request.choice_root is None:
        return
    pinned = site.follows / "root.json"
    own = (site.choice / "metadata" / "timestamp.json").is_file() and not pinned.is_file()
    if own or (pinned.is_file() and pinned.read_bytes() != request.choice_root):
        raise InvalidInputError(
            "root of the choice",
            where=str(pinned),
            expected="a new site, or one that follows this very root",
            actual="a site that makes its own choice" if own else "one that follows another root",
            remedy="name another folder for the site, or leave out --choice-root",
        )
    _fs.make_dirs(pinned.parent)
    _fs.write_atomic(pinned, request.choice_root)


def _pin_choice_root(site: Site, station: Station) -> None:
    """The station keeps the root that it was given; whoever rewrites the site later does not change it."""
    pinned = station.folder / "trust" / "choice" / "root.json"
    if not pinned.is_file():
        _fs.make_dirs(pinned.parent)
        followed, own = site.follows / "root.json", site.choice / "metadata" / "1.root.json"
        _fs.write_atomic(pinned, (followed if followed.is_file() else own).read_bytes())


def _check_config(request: Request) -> str:
    """The station that this host has: the one that host.toml names, if it is there, else the one to make."""
    if not request.config.is_file():
        return request.station
    try:
        body = tomllib.loads(request.config.read_bytes().decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _other_config(request, "a TOML file in UTF-8", str(error)) from error
    for name, folder in (("site", request.site), ("store", request.store)):
        if body.get(name) != str(folder):
            expected = f"{name} = {_text(folder)}, or no such file"
            raise _other_config(request, expected, "a host.toml that names another")
    return check_station_id(str(body.get("station", request.station)))


def _other_config(request: Request, expected: str, actual: str) -> InvalidInputError:
    return InvalidInputError(
        "host.toml",
        where=str(request.config),
        expected=expected,
        actual=actual,
        remedy="name another file with --config, or edit this one",
    )


def _text(value: object) -> str:
    """Text as TOML writes it in one line: as JSON, with what is not ASCII as it is, since TOML knows no surrogates."""
    return json.dumps(str(value), ensure_ascii=False)


def _tell_host(store: Store, host: str, station: str) -> None:
    """Leave word of which station Nuke finds on this host; without any, it is the one of the host's name."""
    told = store.root / "stations" / BY_HOST / host
    if station != host or told.exists():
        _fs.make_dirs(told.parent)
        _fs.write_atomic(told, f"{station}\n".encode())


def _write_config(request: Request) -> None:
    if request.config.is_file():
        return
    keys = {name: request.keys / "online" / f"{name}.pem" for name in ("site", "promoter", "verdict")}
    keys |= {name: request.keys / "offline" / f"{name}.pem" for name in ("root", "targets")}
    lines = [
        "# Where this machine finds things; flags and CHANGEOVER_SITE, CHANGEOVER_STORE, CHANGEOVER_STATION go before.",
        'schema = "changeover.host/1"',
        f"site = {_text(request.site)}",
        f"store = {_text(request.store)}",
        f"station = {_text(request.station)}",
        "# The GPU that Nuke's preferences are set to, where there are several; changeover facts shows each one's id:",
        '# nuke_gpu = "GPU-9b36c24f-b9bc-1dfa-b6c7-1ea6b42c5b75"',
        "",
        "# Interpreters in whose isolated child models run: environments with changeover[run] or changeover[torch].",
        "[runtimes]",
        *_runtimes(),
        "",
        "# Private keys that this machine has. Keep root and targets offline once the studio has begun.",
        "[keys]",
        *(f"{name} = {_text(path)}" for name, path in keys.items() if path.is_file()),
        "",
        "# One entry for each Nuke that is installed here:",
        "# [[nukes]]",
        '# version = "15.1v3"',
        "",
    ]
    _fs.make_dirs(request.config.parent)
    _fs.write_atomic(request.config, "\n".join(lines).encode())


def _runtimes() -> list[str]:
    """This interpreter serves as a runtime if it has one."""
    if importlib.util.find_spec("onnxruntime") is None:
        return ['# default = "/path/to/an/environment/bin/python"']
    return [f"default = {_text(sys.executable)}"]


def _tell_nuke(path: Path, store: Path, notice: Callable[[str], None]) -> None:
    # Not canonical JSON: a path keeps the bytes that it has, also where those are not in NFC.
    told = {"schema": "changeover.nuke/1", "store": str(store)}
    wanted = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode()
    with contextlib.suppress(OSError):
        if path.read_bytes() == wanted:
            return
        notice(f"{path} names another store and was left; this one is found through CHANGEOVER_STORE={store}")
        return
    try:
        _fs.make_dirs(path.parent)
        _fs.write_atomic(path, wanted)
    except OSError:
        notice(f"{path} cannot be written here; set CHANGEOVER_STORE={store} for Nuke")
