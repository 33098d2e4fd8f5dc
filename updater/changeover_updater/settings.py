"""Where things are and who is asking: flag > environment > host.toml > store > default, resolved once into a value.

Every value remembers where it came from. Left out: what is *in* site and store, and the policy.
"""

import getpass
import os
import platform
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.base import Record, Value

__all__ = ["HostConfig", "KeyPaths", "Settings", "config_path", "load_settings", "short_host"]

ENV_CONFIG = "CHANGEOVER_CONFIG"
ENV_SITE = "CHANGEOVER_SITE"
ENV_STORE = "CHANGEOVER_STORE"
ENV_STATION = "CHANGEOVER_STATION"


class KeyPaths(Value):
    """Where this host finds private keys; what it lacks, it cannot sign."""

    root: str | None = None
    targets: str | None = None
    site: str | None = None
    promoter: str | None = None
    back: str | None = None
    verdict: str | None = None


class NukeConfig(Value):
    """One Nuke that is installed here, as ``[[nukes]]`` in host.toml says it.

    `licensed` says that ``nuke -t`` at `path` has a licence here, so that a check may run a ``.cat`` in it. Beside its
    own folder it then sees those that it `reads`, such as a wrapper's, and no home, share or temporary file.
    """

    version: str
    path: str | None = None
    licensed: bool = False
    reads: tuple[str, ...] = ()


class HostConfig(Record):
    """``host.toml``. `nuke_gpu` is the UUID of the GPU that Nuke's preferences are set to."""

    NAME: ClassVar[str] = "host"

    site: str | None = None
    store: str | None = None
    station: str | None = None
    who: str | None = None
    runtimes: dict[str, str] = Field(default_factory=dict)
    keys: KeyPaths = KeyPaths()
    nukes: tuple[NukeConfig, ...] = ()
    nuke_gpu: Annotated[str, Field(pattern=r"^(GPU|MIG)-[0-9a-zA-Z/-]+$")] | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """All that a command knows of its surroundings. `origins` says where each value came from."""

    config: Path
    site: Path | None
    store: Path | None
    station: str
    who: str
    host: str
    runtimes: tuple[tuple[str, str], ...]
    keys: KeyPaths
    nukes: tuple[str, ...]
    licensed_nukes: tuple[tuple[str, tuple[str, ...]], ...]
    nuke_gpu: str | None
    origins: tuple[tuple[str, str], ...]

    def need_site(self) -> Path:
        """The site's folder.

        Raises:
            InvalidInputError: None is named, or it is not there.
        """
        return _need(self.site, "site", ENV_SITE)

    def need_store(self) -> Path:
        """The store's folder.

        Raises:
            InvalidInputError: None is named, or it is not there.
        """
        return _need(self.store, "store", ENV_STORE)


def short_host() -> str:
    """The host's short name in lower case."""
    return platform.node().split(".")[0].lower() or "localhost"


def config_path(environment: Mapping[str, str], flag: Path | None = None) -> Path:
    """Where host.toml is: the flag, ``CHANGEOVER_CONFIG``, the user's configuration, or the machine's."""
    if flag is not None:
        return flag
    if named := environment.get(ENV_CONFIG):
        return Path(named)
    if sys.platform == "win32":  # pragma: windows
        return Path(environment.get("ProgramData", "C:/ProgramData"), "changeover", "host.toml")
    machine = Path("/etc/changeover/host.toml")
    home = environment.get("XDG_CONFIG_HOME") or str(Path(environment.get("HOME", "/"), ".config"))
    user = Path(home, "changeover", "host.toml")
    return machine if machine.exists() and not user.exists() else user


def load_settings(
    environment: Mapping[str, str],
    *,
    config: Path | None = None,
    site: Path | None = None,
    store: Path | None = None,
    station: str | None = None,
) -> Settings:
    """Resolve all settings once.

    Raises:
        InvalidInputError: host.toml is not valid.
    """
    path = config_path(environment, config)
    host = _read(path)
    name = short_host()
    named_store = _first(("flag", store), (ENV_STORE, environment.get(ENV_STORE)), (str(path), host.store))
    chosen: dict[str, tuple[str, object]] = {
        "site": _first(("flag", site), (ENV_SITE, environment.get(ENV_SITE)), (str(path), host.site)),
        "store": named_store,
        "station": _first(
            ("flag", station),
            (ENV_STATION, environment.get(ENV_STATION)),
            (str(path), host.station),
            ("store", _station_by_host(_path(named_store[1]), name)),
            ("host", name),
        ),
        "who": _first((str(path), host.who), ("login", f"{_login(environment)}@{name}")),
        "nuke_gpu": _first((str(path), host.nuke_gpu)),
    }
    return Settings(
        config=path,
        site=_path(chosen["site"][1]),
        store=_path(chosen["store"][1]),
        station=str(chosen["station"][1]),
        who=str(chosen["who"][1]),
        host=name,
        runtimes=tuple(sorted(host.runtimes.items())),
        keys=host.keys,
        nukes=tuple(nuke.version for nuke in host.nukes),
        licensed_nukes=tuple((n.version, (n.path, *n.reads)) for n in host.nukes if n.licensed and n.path),
        nuke_gpu=host.nuke_gpu,
        origins=tuple((key, origin) for key, (origin, _) in chosen.items()),
    )


def _read(path: Path) -> HostConfig:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return HostConfig()
    try:
        body = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(
            "TOML", where=str(path), expected="a TOML file in UTF-8", actual=str(error), remedy="correct that line"
        ) from error
    return HostConfig.from_object(body, where=str(path))


def _station_by_host(store: Path | None, host: str) -> str:
    """The station that the store keeps for this host, found as the plug-in finds it; empty where it keeps none."""
    if store is None:
        return ""
    try:
        with (store / "stations" / "by-host" / host).open("rb") as file:
            return file.read(200).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _first(*candidates: tuple[str, object]) -> tuple[str, object]:
    return next(((origin, value) for origin, value in candidates if value), ("nowhere", None))


def _path(value: object) -> Path | None:
    return None if value is None else Path(os.path.abspath(str(value)))  # noqa: PTH100 - links keep their names


def _login(environment: Mapping[str, str]) -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return environment.get("USER", "unknown")


def _need(path: Path | None, what: str, variable: str) -> Path:
    if path is None or not path.is_dir():
        raise InvalidInputError(
            what,
            where=str(path or f"--{what}"),
            expected=f"the folder of the {what}",
            actual="none named" if path is None else "no such folder",
            remedy=(
                f"give --{what} DIR, set {variable}, or make one with: changeover init"
                if path is None
                else f"mount it, or correct --{what}, {variable} or host.toml; a new one is made with: changeover init"
            ),
        )
    return path
