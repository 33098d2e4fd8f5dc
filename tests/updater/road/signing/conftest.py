"""A studio where two promoters must sign for the site: the world's own and Bob, who has no other key of the studio.

It is made once a module; each test gets it anew at the same place, since what is installed names where it stands.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from changeover_updater.signed import studio_keys


@dataclass
class Signers:
    """The studio `world`, its second promoter, and what is there to choose from."""

    world: Any
    bob: Any
    first: Any
    second: Any

    @property
    def folder(self) -> Path:
        return Path(self.world.site.choice)

    @property
    def keys(self) -> Any:
        return studio_keys(self.call())

    def call(self, person: Any = None) -> Any:
        from changeover_registry.clock import now
        from changeover_updater.cli._context import Invocation
        from changeover_updater.settings import load_settings

        return Invocation(load_settings({}, config=(person or self.world).config, station="vm1"), now())

    def current(self) -> tuple[int, bytes]:
        """What `current` says, and the release that the channel answers with."""
        pointer = (self.world.station.folder / "current").read_bytes()
        return self.world.station.in_use().number, pointer

    def served(self) -> str:
        return str(self.world.station.in_use().channels[0].key)

    def promote(self, version: str, reason: str = "test") -> None:
        """Promote with both signatures."""
        self.world.ok("promote", f"tiny-roto@{version}", "--reason", reason)
        self.bob.ok("approve", self.waiting())

    def history(self) -> tuple[Any, ...]:
        """Every choice of the site."""
        from changeover_registry.repository import choice

        return choice.history(self.folder, "site")

    def waiting(self) -> str:
        (path,) = (self.folder / "pending").glob("*/*.json")
        return f"{path.parent.name}/{path.stem}"


def person_of(world: Any, name: str, keys: str) -> Any:
    """Somebody else with the same site and station, and other keys."""

    class Person(type(world)):  # type: ignore[misc]
        @property
        def config(self) -> Path:
            return Path(self.root, f"{name}s", "host.toml")

    somebody = Person(world.root, world.folders, world.now, world.facts, world.keys, world.extra)
    head = world.config.read_text(encoding="utf-8").partition("[keys]")[0]
    text = head.replace('schema = "changeover.host/1"', f'schema = "changeover.host/1"\nwho = "{name}@vm2"')
    somebody.config.parent.mkdir(exist_ok=True)
    somebody.config.write_text(f"{text}[keys]\n{keys}", encoding="utf-8")
    return somebody


@pytest.fixture(scope="session")
def person() -> Callable[..., Any]:
    """Makes somebody else: (world, name, lines of [keys])."""
    return person_of


@pytest.fixture(scope="module")
def two_promoters(module_world: Any) -> tuple[Signers, Path]:
    world = module_world
    world.without_mlflow()
    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, current=first)
    world.ok("keys", "new", "bob", "--out", str(world.root / "bobs"))
    bob = person_of(world, "bob", f'promoter = "{world.root / "bobs" / "bob.pem"}"\n')
    enrol = ("keys", "enrol", str(world.root / "bobs" / "bob.pub"), "--scope", "site", "--role", "promoter")
    more = ("--owner", "bob", "--threshold", "2", "--reason", "two of us")
    world.ok(*enrol, *more, "--with", str(world.root / "bobs" / "bob.pem"))
    world.ok("update")
    kept = world.root.with_name(f"{world.root.name}-kept")
    shutil.copytree(world.root, kept, symlinks=True)
    return Signers(world, bob, first, second), kept


@pytest.fixture
def signers(two_promoters: tuple[Signers, Path]) -> Signers:
    """The studio as it was made: threshold 2 for the site, 1.0.0 on stable and in use, 1.1.0 accepted."""
    studio, kept = two_promoters
    _remove(studio.world.root)
    shutil.copytree(kept, studio.world.root, symlinks=True)
    return Signers(studio.world, studio.bob, studio.first, studio.second)


def _remove(folder: Path) -> None:
    from changeover_registry import _fs

    _fs.remove_tree(folder)
