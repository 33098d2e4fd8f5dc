"""PostgreSQL: one cluster in a folder of its own, and a fresh database for whoever asks."""

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from changeover_servers.process import Server, free_ports, start

__all__ = ["Postgres", "start_postgres"]

_WHY = "PostgreSQL is not here: install the system package postgresql"


@dataclass(frozen=True)
class Postgres:
    """A cluster that trusts whoever connects from this host.

    Args:
        server: The process.
        port: On loopback.
        folder: Its data, its socket and its log.
    """

    server: Server
    port: int
    folder: Path
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def database(self) -> str:
        """Make a database; returns its SQLAlchemy address (psycopg 3, which MLflow's takes without a driver's name)."""
        name = f"test_{next(self._numbers)}"
        self.execute("postgres", f"CREATE DATABASE {name}")
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def execute(self, database: str, statement: str) -> list[tuple[object, ...]]:
        """Run one statement as the superuser; returns its rows."""
        import psycopg

        where = f"host=127.0.0.1 port={self.port} user=postgres dbname={database}"
        with psycopg.connect(where, autocommit=True) as connection:
            # A statement of a test's own; psycopg's type asks for a literal.
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


def start_postgres() -> Postgres:
    """A running cluster; skips the test where PostgreSQL is not installed."""
    binaries = _binaries()
    # Its server refuses to run as root, and the folder of the tests is root's alone.
    user = _somebody_else() if os.getuid() == 0 else ""
    folder = Path(tempfile.mkdtemp(prefix="changeover-postgres-"))
    if user:
        shutil.chown(folder, user)
    (port,) = free_ports(1)
    as_user: dict[str, Any] = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}
    initdb = [str(binaries / "initdb"), "-D", str(folder / "data"), "-A", "trust", "-U", "postgres", "-E", "UTF8"]
    made = subprocess.run(
        [*initdb, "--no-sync", "--locale=C"], capture_output=True, text=True, check=False, cwd="/", **as_user
    )
    assert made.returncode == 0, made.stdout + made.stderr
    options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "fsync": "off"}
    server = start(
        [
            *(str(binaries / "postgres"), "-D", str(folder / "data")),
            *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
        ],
        folder / "log",
        lambda: _is_ready(binaries, port),
        folder=Path("/"),
        user=user,
        polite="INT",
    )
    return Postgres(server, port, folder)


def _is_ready(binaries: Path, port: int) -> bool:
    asked = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    return subprocess.run(asked, check=False).returncode == 0


def _binaries() -> Path:
    """Where the server's programs are: on the path, else where Debian puts them, the newest first."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_number, reverse=True):
        if (folder / "postgres").is_file():
            return folder
    found = shutil.which("postgres")
    if found is None:
        pytest.skip(_WHY)
    return Path(found).resolve().parent


def _number(folder: Path) -> float:
    try:
        return float(folder.parent.name)
    except ValueError:
        return 0


def _somebody_else() -> str:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    pytest.skip("PostgreSQL does not run as root, and there is no user postgres or nobody")
