"""A mirror that is copied by plain means, in any order, and stopped anywhere."""

import contextlib
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.client import Client
from changeover_registry.errors import TrustError, UnreachableError
from changeover_registry.repository import vendor
from changeover_registry.transport import open_transport


def copied_halfway(old: Path, new: Path, to: Path, chance: random.Random) -> None:
    """`old` with some of what `new` has, in an order of chance; of the last file only a beginning."""
    shutil.copytree(old, to)
    news = [path for path in sorted(new.rglob("*")) if path.is_file() and _differs(path, old / path.relative_to(new))]
    chance.shuffle(news)
    done = chance.randrange(len(news) + 1)
    for number, path in enumerate(news[:done]):
        target = to / path.relative_to(new)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        data = path.read_bytes()
        target.write_bytes(data[: chance.randrange(len(data) + 1)] if number == done - 1 else data)


def _differs(path: Path, other: Path) -> bool:
    return not other.is_file() or other.read_bytes() != path.read_bytes()


def releases_of(view: Any) -> list[str]:
    return [entry.version for entry in view.indexes["person-roto"].releases]


@pytest.mark.parametrize("seed", range(24))
def test_a_reader_of_a_half_copied_mirror_sees_old_or_new_or_an_error_that_passes(
    acme: Any, tmp_path: Path, seed: int
) -> None:
    acme.publish(acme.make())
    old = shutil.copytree(acme.folder, tmp_path / "old")
    known = tmp_path / "known"
    assert releases_of(acme.view(known)) == ["1.0.0"]
    acme.publish(acme.make(version="2.0.0", content=b"new"))
    mirror = tmp_path / "mirror"
    copied_halfway(old, acme.folder, mirror, random.Random(seed))

    # A file that is missing, cut or of the other state is an error; it is never taken for a third state.
    seen: list[str] = []
    with contextlib.suppress(TrustError, UnreachableError):
        seen = releases_of(vendor.open_vendor(Client(open_transport(str(mirror)), known, acme.root), "acme"))
    assert seen in ([], ["1.0.0"], ["1.0.0", "2.0.0"])

    shutil.copytree(acme.folder, mirror, dirs_exist_ok=True, copy_function=_overwrite)
    view = vendor.open_vendor(Client(open_transport(str(mirror)), known, acme.root), "acme")
    assert releases_of(view) == ["1.0.0", "2.0.0"]


def _overwrite(source: str, target: str) -> None:
    Path(target).unlink(missing_ok=True)
    shutil.copy2(source, target)
