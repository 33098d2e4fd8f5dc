"""MLflow's own database file is there whole or not at all."""

import threading
from pathlib import Path

import pytest

from changeover_registry.mlflow_adapter._database import ensure_database


class KilledError(Exception):
    """Stands for a kill: whatever was written until then stays."""


def write_whole(path: Path) -> None:
    path.write_bytes(b"all tables")


def write_half(path: Path) -> None:
    path.write_bytes(b"some tab")
    path.with_name(f"{path.name}-journal").write_bytes(b"half a transaction")
    raise KilledError


def test_making_that_was_killed_leaves_no_database_and_the_next_one_makes_it(tmp_path: Path) -> None:
    path = tmp_path / "site" / "mlflow.db"
    with pytest.raises(KilledError):
        ensure_database(path, write_half)
    assert not path.exists()

    ensure_database(path, write_whole)

    assert path.read_bytes() == b"all tables"
    assert [found.name for found in sorted(path.parent.iterdir())] == [".mlflow.db.lock", "mlflow.db"]


def test_database_that_is_there_is_left(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"years of runs")

    ensure_database(path, write_whole)

    assert path.read_bytes() == b"years of runs"
    assert [found.name for found in tmp_path.iterdir()] == ["mlflow.db"]


def test_of_several_at_once_one_makes_it(tmp_path: Path) -> None:
    made: list[Path] = []
    begun = threading.Barrier(4)

    def make(path: Path) -> None:
        made.append(path)
        write_whole(path)

    def work() -> None:
        begun.wait()
        ensure_database(tmp_path / "mlflow.db", make)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 1
    assert (tmp_path / "mlflow.db").read_bytes() == b"all tables"
