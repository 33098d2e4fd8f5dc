"""Two sides of an air gap: a studio with bundles of what it has, and sites that have nothing but what is carried."""

import contextlib
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from changeover_registry import clock
from changeover_registry.bundle_file import Piece, open_bundle, write_container
from changeover_registry.records.bundle import BundleMember
from changeover_updater import initialise, vendors
from changeover_updater.bundle_import import Carried, Imported, Terms, import_bundle
from changeover_updater.cli.main import run
from changeover_updater.site import Site

World = Any


def snapshot(root: Path) -> dict[str, bytes]:
    """Every file below a folder, but locks, which say nothing."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.endswith("lock"))
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@dataclass
class There:
    """A site behind the air gap, with its own store and host.toml."""

    root: Path

    @property
    def site(self) -> Site:
        return Site(self.root / "site")

    def run(self, *arguments: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(["--config", str(self.root / "host.toml"), "--station", "vm1", *arguments])
        return code, out.getvalue(), err.getvalue()

    def ok(self, *arguments: str) -> str:
        code, out, err = self.run(*arguments)
        assert code == 0, f"{arguments}: exit {code}\n{out}\n{err}"
        return out

    def refused(self, *arguments: str) -> tuple[int, str]:
        """Run a command that must fail and leave every file of the site as it was."""
        before = snapshot(self.site.root)
        code, out, err = self.run(*arguments)
        assert code != 0, out
        assert snapshot(self.site.root) == before
        return code, err

    def carry(self, bundle: Path, now: datetime | None = None, **terms: Any) -> Imported:
        """Import without the command line around it."""
        carried = Carried(who="courier@gate", now=now or clock.now(), why="carried in a test")
        return import_bundle(self.site, bundle, carried, Terms(**terms), lambda *_: None)


def make_there(root: Path, choice_root: bytes | None = None) -> There:
    initialise.initialise(
        initialise.Request(
            site=root / "site",
            store=root / "store",
            station="vm1",
            keys=root / "keys",
            config=root / "host.toml",
            nuke_json=None,
            who="gate@vm2",
            now=clock.now(),
            choice_root=choice_root,
        ),
        notice=pytest.fail,
    )
    (root / "site" / "site.toml").write_text(
        'schema = "changeover.site/1"\nmlflow = "sqlite:////proc/none/mlflow.db"\n', encoding="utf-8"
    )
    return There(root)


@pytest.fixture(scope="session")
def make_site() -> Callable[..., There]:
    """Makes a site behind the air gap; it follows another site's choice where it is given that one's root."""
    return make_there


@pytest.fixture(scope="session")
def files_of() -> Callable[[Path], dict[str, bytes]]:
    """Every file below a folder."""
    return snapshot


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory, world_at: Callable[[Path], World]) -> World:
    """A studio with two releases, of which the first is served; bundles of it in ``bundles/``. Tests change nothing."""
    world = world_at(tmp_path_factory.mktemp("studio"))
    world.without_mlflow()
    folder = world.root / "bundles"
    folder.mkdir()
    world.served("1.0.0")
    world.ok("export", "tiny-roto@1.0.0", str(folder / "old.tar"))
    world.publish("1.1.0")
    world.ok("export", "tiny-roto@1.0.0", "tiny-roto@1.1.0", str(folder / "new.tar"))
    world.ok("export", "--choice", str(folder / "choice.tar"))
    world.ok("pin", "tiny-roto@1.0.0", "--show", "atlas", "--reason", "another choice")
    world.ok("export", "--choice", str(folder / "choice-new.tar"))
    return world


@pytest.fixture(scope="session")
def bundles(studio: World) -> Path:
    return Path(studio.root / "bundles")


@pytest.fixture(scope="session")
def vendor_root(studio: World) -> Path:
    """The root that the vendor gives in person."""
    return Path(studio.repository / "metadata" / "1.root.json")


@pytest.fixture
def there(tmp_path: Path, bundles: Path, vendor_root: Path) -> There:
    """A site behind the air gap that trusts the vendor by its root and a bundle."""
    there = make_there(tmp_path / "there")
    vendors.add_trust(
        there.site,
        "acme",
        str(bundles / "old.tar"),
        vendor_root.read_bytes(),
        allow_executable=False,
        who="gate@vm2",
        now=clock.now(),
    )
    return there


@pytest.fixture
def second(studio: World, tmp_path: Path, bundles: Path, vendor_root: Path) -> There:
    """A site that follows the studio's choice and trusts its vendor."""
    there = make_there(tmp_path / "second", (studio.site.choice / "metadata" / "1.root.json").read_bytes())
    root, location = vendor_root.read_bytes(), str(bundles / "choice.tar")
    vendors.add_trust(there.site, "acme", location, root, allow_executable=False, who="gate@vm2", now=clock.now())
    return there


@pytest.fixture
def follower(tmp_path: Path) -> Callable[[World, Path], There]:
    """Makes a site that follows a studio's choice and trusts its vendor by a bundle."""

    def make(studio: World, bundle: Path) -> There:
        there = make_there(tmp_path / "follower", (studio.site.choice / "metadata" / "1.root.json").read_bytes())
        root = (studio.repository / "metadata" / "1.root.json").read_bytes()
        who, now = "gate@vm2", clock.now()
        vendors.add_trust(there.site, "acme", str(bundle), root, allow_executable=False, who=who, now=now)
        return there

    return make


@pytest.fixture(scope="session")
def rewritten() -> Callable[..., Path]:
    """Writes a bundle again with a manifest that says just what is in it: what a liar with our source could carry."""

    def write(bundle: Path, target: Path, change: Callable[[dict[str, bytes]], object], **head: Any) -> Path:
        there = open_bundle(bundle)
        members = {path: b"".join(there.stream(path)) for path in there.members}
        change(members)
        pieces = [Piece(_member(path, data), partial(_whole, data)) for path, data in members.items()]
        manifest = there.manifest.model_copy(update={**head, "members": tuple(piece.member for piece in pieces)})
        with target.open("wb") as file:
            write_container(file, manifest, pieces, lambda *_: None)
        return target

    return write


def _member(path: str, data: bytes) -> BundleMember:
    return BundleMember.model_construct(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def _whole(data: bytes) -> tuple[bytes, ...]:
    return (data,)
