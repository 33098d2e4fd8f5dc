"""What every command starts from: the settings, one reading of the clock, and the site, store and station they name."""

import logging
import os
import sys
import unicodedata
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from changeover_registry import clock, pins
from changeover_registry.errors import InvalidInputError
from changeover_updater.settings import Settings, load_settings

if TYPE_CHECKING:
    from changeover_registry.records.facts import HostFacts
    from changeover_updater.site import Site
    from changeover_updater.station import Station
    from changeover_updater.store import Store

__all__ = ["Invocation", "JsonFlag", "Reason", "host_facts", "invocation", "read_facts", "said"]

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


def said(text: str) -> str:
    """What a person gave as a reason.

    Raises:
        InvalidInputError: It is empty, or has control characters, which no record holds.
    """
    return check_said(text, "--reason", "say why; it is recorded for ever")


def said_of(param: typer.CallbackParam, text: str) -> str:
    """What a person gave for another option that is recorded for ever; errors as `said`, by the option's own name."""
    return check_said(text, param.opts[0], "correct it; it is recorded for ever")


def check_said(text: str, where: str, remedy: str) -> str:
    """Words that a record can hold.

    Raises:
        InvalidInputError: It is empty, or has control characters, which no record holds.
    """
    if not text.strip() or any(c != "\n" and unicodedata.category(c) in {"Cc", "Cs"} for c in text):
        raise InvalidInputError(
            where.strip("-"),
            where=where,
            expected="some words, without control characters",
            actual=ascii(text),
            remedy=remedy,
        )
    return text


Reason = Annotated[str, typer.Option("--reason", help="Why; it is recorded for ever.", callback=said)]


@dataclass(frozen=True, slots=True)
class Invocation:
    """One command: its settings and its moment."""

    settings: Settings
    now: datetime
    verbose: bool = False

    def site(self) -> "Site":
        """The site."""
        from changeover_updater.site import Site

        return Site.open(self.settings.need_site())

    def store(self) -> "Store":
        """The store."""
        from changeover_updater.store import Store

        store = Store.open(self.settings.need_store())
        if store.is_share():
            # Other users read what this account writes, whatever its umask is.
            os.umask(0o022)
        return store

    def station(self) -> "Station":
        """The station."""
        from changeover_updater.station import Station

        return Station(self.store(), self.settings.station).need()

    def key(self, name: str) -> Path:
        """The path of one of this host's private keys.

        Raises:
            InvalidInputError: host.toml names none.
        """
        path = getattr(self.settings.keys, name)
        if path is None or not Path(path).is_file():
            raise InvalidInputError(
                "key",
                where=f"{self.settings.config}: keys.{name}",
                expected=f"the path of the {name} key",
                actual=path or "none named",
                remedy="run this where the key is, or name it in host.toml",
            )
        return Path(path)


def invocation(context: typer.Context) -> Invocation:
    """The invocation that the root command made."""
    found = context.find_object(Invocation)
    if found is None:
        message = "the root command did not run"
        raise RuntimeError(message)
    return found


def start(
    context: typer.Context,
    *,
    config: Path | None,
    site: Path | None,
    store: Path | None,
    station: str | None,
    verbose: bool,
) -> None:
    """Make the invocation of this command."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    # What it tries again it warns of line by line; the one error at the end says that the address does not answer.
    logging.getLogger("urllib3").setLevel(logging.NOTSET if verbose else logging.ERROR)
    # A token's PIN is asked for where somebody can answer, and never before something is signed with it.
    pins.ask_with(_ask_secret if sys.stdin is not None and sys.stdin.isatty() else None)
    settings = load_settings(os.environ, config=config, site=site, store=store, station=station)
    context.obj = Invocation(settings=settings, now=clock.now(), verbose=verbose)


def _ask_secret(name: str) -> str:
    """A secret that somebody types unseen."""
    import getpass

    return getpass.getpass(f"{name} of the token: ")


def read_facts(path: Path) -> "HostFacts":
    """Host facts from a file, or from a forged host that ships with Changeover, by its name.

    Raises:
        InvalidInputError: It is neither.
    """
    from changeover_registry.records.facts import HostFacts
    from changeover_validators.probe import forged_host, forged_hosts

    if path.is_file():
        return HostFacts.from_object(_json(path), where=str(path))
    if str(path) in forged_hosts():
        return forged_host(str(path))
    raise InvalidInputError(
        "host facts",
        where=str(path),
        expected=f"a file made by changeover facts --json, or one of {', '.join(forged_hosts())}",
        actual="no such file",
        remedy="correct the path",
    )


def _json(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds; the record refuses what is no object
    import json

    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(
            "host facts",
            where=str(path),
            expected="JSON, as changeover facts --json prints it",
            actual=str(error),
            remedy="make the file again on that host",
        ) from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, in which a key that is there twice says two things."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        message = f"the key {twice!r} twice in one object"
        raise ValueError(message)
    return found


def host_facts(call: Invocation, station: "Station | None") -> "HostFacts":
    """This host's facts: remembered by the station while nothing changed, else probed."""
    from changeover_validators.probe import probe, probe_key

    runtimes, chosen = dict(call.settings.runtimes), call.settings.nuke_gpu
    nukes, licensed = call.settings.nukes, dict(call.settings.licensed_nukes)
    named = (place for places in licensed.values() for place in places)
    key = probe_key(runtimes, (*nukes, *named, *([chosen] if chosen else ())))
    remembered = station.facts() if station else None
    if remembered and remembered[0] == key:
        return remembered[1]
    facts = probe(runtimes, nukes, licensed, nuke_gpu=chosen)
    if station:
        try:
            station.remember_facts(key, facts)
        except OSError:
            logging.getLogger(__name__).info("the station's facts cannot be kept here")
    return facts
