"""A vendor's home: one folder with its name, its keys, its signed repository and its MLflow.

``vendor.toml`` is written last, so a home is whole or not there, and `init` can be killed and run again. The offline
keys may be moved to another disk once `init` is done; ``vendor.toml`` names where they are. Left out: releases, which
`vendor` registers and publishes.
"""

import json
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from changeover_registry import canonical
from changeover_registry._fs import lock, write_atomic
from changeover_registry.errors import InvalidInputError, RefusedError
from changeover_registry.mlflow_adapter.registry import Registry, local_uri
from changeover_registry.names import Version, check_model, check_name
from changeover_registry.records.base import Name, Record, Text, Value
from changeover_registry.repository.vendor import VendorKeys, create, new_vendor_keys, open_vendor

__all__ = ["ENV_HOME", "Made", "VendorHome", "find_home", "make_home", "open_home", "which_release"]

ENV_HOME = "CHANGEOVER_VENDOR_HOME"
_FILE = "vendor.toml"
_DATABASE = "mlflow.db"
_ARTIFACTS = "mlartifacts"
_LOCK_SECONDS = 60.0
_OWN = {_FILE, _DATABASE, _ARTIFACTS, "keys", "repository", "registered", "lock"}


class _Keys(Value):
    """``[keys]``: paths, relative to the home or absolute."""

    root: Text
    targets: Text
    release: Text
    online: Text


class _HomeFile(Record):
    """``vendor.toml``."""

    NAME: ClassVar[str] = "vendor-home"

    vendor: Name
    repository: Text
    mlflow: str = ""
    publish: tuple[Text, ...] = ()
    keys: _Keys


@dataclass(frozen=True, slots=True)
class VendorHome:
    """Where one vendor keeps what it needs. `mlflow` is empty for the SQLite file in the home itself.

    `publish` are the places that studios read, to which the repository is carried: ``s3://…`` or folders.
    """

    folder: Path
    vendor: str
    repository: Path
    keys: VendorKeys
    mlflow: str = ""
    publish: tuple[str, ...] = ()

    def registry(self) -> Registry:
        """The vendor's MLflow."""
        return Registry(self.mlflow or local_uri(self.folder / _DATABASE), self.folder / _ARTIFACTS)

    @property
    def lock(self) -> Path:
        """Held by whoever registers or publishes."""
        return self.folder / "lock"

    def own_record(self, model: str, version: str) -> Path:
        """The record that was registered from this home, kept apart from MLflow, which is not trusted."""
        return self.folder / "registered" / model.partition("/")[2] / f"{version}.json"


@dataclass(frozen=True, slots=True)
class Made:
    """A home and the root metadata that its studios must get by another way than the repository itself."""

    home: VendorHome
    root: Path
    root_digest: str
    new: bool


def make_home(
    folder: Path, vendor: str, mlflow: str, now: datetime, *, repository: Path | None = None, ask_mlflow: bool = True
) -> Made:
    """Make a vendor's home; the same again changes nothing.

    Args:
        folder: The home, empty or not there.
        vendor: The vendor's name; every model of it is ``vendor/…``.
        mlflow: The address of an MLflow; empty for a SQLite file in the home.
        now: The moment of signing.
        repository: Where the repository is to be; None for a folder of the home.
        ask_mlflow: Whether MLflow is asked now whether it answers; else the first registration does.

    Raises:
        InvalidInputError: `vendor` is no name.
        RefusedError: `folder` is another vendor's home, or holds something else.
        UnreachableError: The MLflow does not answer.
        LostRaceError: Somebody else has been making this home for a minute.
    """
    check_name(vendor, where="--name")
    folder = folder.absolute()
    if (folder / _FILE).exists():
        return Made(_same_home(open_home(folder), vendor, mlflow), *_root(open_home(folder)), new=False)
    _check_empty(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / "lock", what=f"the home of {vendor}", wait_seconds=_LOCK_SECONDS):
        if (folder / _FILE).exists():
            return make_home(folder, vendor, mlflow, now)
        place = (repository or folder / "repository").absolute()
        home = VendorHome(folder, vendor, place, new_vendor_keys(folder / "keys"), mlflow)
        if (home.repository / "metadata" / "timestamp.json").exists():
            _check_own_repository(home)
        else:
            create(home.repository, vendor, home.keys, now)
        if ask_mlflow:
            home.registry().versions(f"{vendor}/none")
        write_atomic(folder / _FILE, _toml(home))
        return Made(home, *_root(home), new=True)


def open_home(folder: Path) -> VendorHome:
    """Read a vendor's home.

    Raises:
        InvalidInputError: There is no ``vendor.toml``, or it is not valid.
    """
    path = folder.absolute() / _FILE
    try:
        body = tomllib.loads(path.read_bytes().decode("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _no_home(str(path), "no such file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInputError(
            "TOML", where=str(path), expected="a TOML file in UTF-8", actual=str(error), remedy="correct that line"
        ) from error
    read = _HomeFile.from_object(body, where=str(path))
    keys = VendorKeys(**{name: path.parent / place for name, place in read.keys.model_dump().items()})
    return VendorHome(path.parent, read.vendor, path.parent / read.repository, keys, read.mlflow, read.publish)


def find_home(flag: Path | None, environment: Mapping[str, str], here: Path) -> Path:
    """The home that a command is about: the flag, ``CHANGEOVER_VENDOR_HOME``, or the current folder.

    Raises:
        InvalidInputError: None is named, and the current folder is none.
    """
    if flag is not None:
        return flag
    if named := environment.get(ENV_HOME):
        return Path(named)
    if (here / _FILE).exists():
        return here
    raise _no_home("--home", f"no flag, no {ENV_HOME}, and no {_FILE} in {here}")


def which_release(text: str, vendor: str) -> tuple[str, str]:
    """Model and version of ``[vendor/]name@version``.

    Raises:
        InvalidInputError: It has another form, or names another vendor's model.
    """
    name, at, version = text.partition("@")
    if not at:
        raise InvalidInputError(
            "release",
            where="MODEL@VERSION",
            expected="a model, @ and a version, such as person-roto@1.0.0",
            actual=repr(text),
            remedy="name the version too",
        )
    model = check_model(name if "/" in name else f"{vendor}/{name}", where="MODEL@VERSION")
    if model.partition("/")[0] != vendor:
        raise InvalidInputError(
            "release",
            where="MODEL@VERSION",
            expected=f"a model of {vendor}, whose home this is",
            actual=model,
            remedy="name one of its models, or another home with --home",
        )
    return model, str(Version.parse(version, where="MODEL@VERSION"))


def _toml(home: VendorHome) -> bytes:
    """``vendor.toml``; a JSON string is a TOML string."""

    def relative(path: Path) -> str:
        return json.dumps((path.relative_to(home.folder) if path.is_relative_to(home.folder) else path).as_posix())

    lines = [
        "# This vendor's home; paths are relative to this file.",
        "# The keys root and targets belong on another disk: move them there and name the place below.",
        f"schema = {json.dumps(_HomeFile.schema_id())}",
        f"vendor = {json.dumps(home.vendor)}",
        f"repository = {relative(home.repository)}",
        "# The address of an MLflow server; empty means mlflow.db beside this file.",
        f"mlflow = {json.dumps(home.mlflow)}",
        '# Where studios read: each place gets what is published, such as "s3://bucket/acme" or a mounted folder.',
        f"publish = {json.dumps(list(home.publish))}",
        "",
        "[keys]",
        *(f"{name} = {relative(getattr(home.keys, name))}" for name in ("root", "targets", "release", "online")),
        "",
    ]
    return "\n".join(lines).encode()


def _root(home: VendorHome) -> tuple[Path, str]:
    return home.keys.anchor, canonical.digest(home.keys.anchor.read_bytes())


def _same_home(home: VendorHome, vendor: str, mlflow: str) -> VendorHome:
    if (home.vendor, mlflow) not in {(vendor, home.mlflow), (vendor, "")}:
        raise RefusedError(
            "vendor's home",
            where=str(home.folder),
            expected=f"{home.vendor} with MLflow {home.mlflow or 'in the home itself'}, as it was made",
            actual=f"{vendor} with MLflow {mlflow or 'in the home itself'}",
            remedy="name another folder, or edit vendor.toml",
        )
    return home


def _check_empty(folder: Path) -> None:
    there = folder.iterdir() if folder.is_dir() else ()
    # What a killed command left under a temporary name is this home's own, whatever it was going to be.
    found = {path.name for path in there if _DATABASE not in path.name and not _is_temporary(path.name)}
    if not found <= _OWN:
        raise RefusedError(
            "vendor's home",
            where=str(folder),
            expected="an empty folder, or none",
            actual=f"a folder that holds {', '.join(sorted(found - _OWN)[:5])}",
            remedy="name another folder; nothing was changed",
        )


def _is_temporary(name: str) -> bool:
    return any(name.startswith(f".{own}.") and name.endswith(".tmp") for own in _OWN)


def _check_own_repository(home: VendorHome) -> None:
    """A repository that a killed `make_home` left is this vendor's own, by its keys and its card."""
    from changeover_registry.client import Client
    from changeover_registry.transport import open_transport

    with tempfile.TemporaryDirectory(prefix="changeover-") as state:
        client = Client(open_transport(str(home.repository)), Path(state), home.keys.anchor.read_bytes())
        open_vendor(client, home.vendor)


def _no_home(where: str, actual: str) -> InvalidInputError:
    return InvalidInputError(
        "vendor's home",
        where=where,
        expected="the folder that `changeover vendor init` made",
        actual=actual,
        remedy=f"give --home DIR, set {ENV_HOME}, or make one with: changeover vendor init DIR --name NAME",
    )
