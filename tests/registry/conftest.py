"""A vendor and a studio with real keys and repositories, releases to publish, and every state a disk goes through."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.client import Client
from changeover_registry.clock import format_time
from changeover_registry.records.choice import Choice, Entry
from changeover_registry.records.release import (
    BLOCK_BYTES,
    Contract,
    FileEntry,
    Interface,
    Licences,
    Port,
    Release,
    Requires,
    TensorIn,
    TensorOut,
    Variant,
)
from changeover_registry.repository import choice, vendor
from changeover_registry.repository.vendor import VendorKeys, VendorView
from changeover_registry.transport import open_transport


@dataclass(frozen=True)
class Made:
    """A release that is ready to be published: its record and where the bytes of its files are."""

    record: Release
    files: dict[str, Path]

    @property
    def data(self) -> bytes:
        return self.record.to_bytes()


@dataclass
class Vendor:
    """A vendor with keys, a repository and the root that it gave to its customers."""

    base: Path
    name: str
    now: datetime

    def start(self) -> "Vendor":
        vendor.create(self.folder, self.name, vendor.new_vendor_keys(self.base / "keys"), self.now)
        return self

    def copy(self, base: Path) -> "Vendor":
        """The same vendor elsewhere; cheaper than another, since nothing is synced to the disk."""
        shutil.copytree(self.base, base)
        return Vendor(base, self.name, self.now)

    @property
    def keys(self) -> VendorKeys:
        return VendorKeys.in_folder(self.base / "keys")

    @property
    def root(self) -> bytes:
        return self.keys.anchor.read_bytes()

    @property
    def folder(self) -> Path:
        return self.base / "repository"

    def make(self, name: str = "person-roto", version: str = "1.0.0", content: bytes = b"weights") -> Made:
        source = self.base / "sources" / hashlib.sha256(content).hexdigest()
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_bytes(content)
        return Made(release(f"{self.name}/{name}", version, content), {source.name: source})

    def publish(self, made: Made, now: datetime | None = None) -> None:
        vendor.publish(self.folder, self.keys, made.data, made.files, now or self.now)

    def client(self, state: Path, **options: Any) -> Client:
        return Client(open_transport(str(self.folder)), state, self.root, **options)

    def view(self, state: Path) -> VendorView:
        return vendor.open_vendor(self.client(state), self.name)


@dataclass
class Studio:
    """A studio with keys and a choice whose first version is there."""

    base: Path
    now: datetime

    def start(self) -> "Studio":
        choice.create(
            self.folder, choice.new_studio_keys(self.base / "keys"), self.choice("site", "it begins"), self.now
        )
        return self

    @property
    def keys(self) -> choice.StudioKeys:
        return choice.StudioKeys.in_folder(self.base / "keys")

    @property
    def root(self) -> bytes:
        return self.keys.anchor.read_bytes()

    @property
    def folder(self) -> Path:
        return self.base / "choice"

    def choice(self, scope: str, what: str, who: str = "jane") -> Choice:
        entry = Entry(who=who, when=format_time(self.now), why="because", what=what)
        return Choice(scope=scope, number=1, entry=entry)

    def write(self, scope: str, what: str, who: str = "jane", folder: Path | None = None) -> Choice:
        new = self.choice(scope, what, who)
        return choice.write(folder or self.folder, self.keys, scope, lambda _: new, self.now).choice

    def read(self, state: Path, folder: Path | None = None) -> dict[str, Choice]:
        return {found.scope: found for found in choice.read(folder or self.folder, state, self.root)}


def release(model: str, version: str, content: bytes) -> Release:
    """The smallest release there is: one ONNX file."""
    blocks = [content[start : start + BLOCK_BYTES] for start in range(0, len(content), BLOCK_BYTES)]
    file = FileEntry(
        path="model.onnx",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        blocks=tuple(hashlib.sha256(block).hexdigest() for block in blocks),
    )
    contract = Contract(
        evaluation="stateless",
        inputs=(TensorIn(name="x", port="plate", channels=("red",)),),
        output=TensorOut(name="y", port="matte"),
        colour="scene-linear",
    )
    variant = Variant(
        id="onnx-fp32",
        runtime="onnx",
        precision="fp32",
        loaders=("python",),
        entry="model.onnx",
        files=(file,),
        contract=contract,
        requires=Requires(),
    )
    plate = Port(name="plate", channels=("red",), colour="scene-linear")
    matte = Port(name="matte", channels=("alpha",), colour="raw")
    return Release(
        model=model,
        version=version,
        summary="A matte.",
        changes="None.",
        licences=Licences(code="MIT", weights="MIT", training_data="none"),
        interface=Interface(inputs=(plate,), outputs=(matte,)),
        variants=(variant,),
    )


@pytest.fixture(scope="session")
def now() -> datetime:
    """The machine's own time: python-tuf compares with it."""
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def make_vendor(tmp_path: Path, now: datetime) -> Callable[..., Vendor]:
    def make(name: str = "acme", *, at: datetime = now, folder: str = "") -> Vendor:
        return Vendor(tmp_path / (folder or name), name, at).start()

    return make


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory, now: datetime) -> tuple[Vendor, Studio]:
    base = tmp_path_factory.mktemp("pristine")
    return Vendor(base / "acme", "acme", now).start(), Studio(base / "studio", now).start()


@pytest.fixture
def acme(pristine: tuple[Vendor, Studio], tmp_path: Path) -> Vendor:
    return pristine[0].copy(tmp_path / "acme")


@pytest.fixture
def studio(pristine: tuple[Vendor, Studio], tmp_path: Path) -> Studio:
    shutil.copytree(pristine[1].base, tmp_path / "studio")
    return Studio(tmp_path / "studio", pristine[1].now)


class DiskStates:
    """Copies a folder before each operation that changes it: what a kill at that moment leaves behind.

    Python announces every such operation to audit hooks; a hook cannot be removed, so there is one, switched on and
    off.
    """

    _EVENTS = frozenset({"os.rename", "os.link", "os.mkdir", "os.remove", "os.truncate", "os.rmdir"})

    def __init__(self) -> None:
        self._watched: Path | None = None
        self._into: Path | None = None
        self._copies: list[Path] = []
        sys.addaudithook(self._seen)

    @contextlib.contextmanager
    def watching(self, folder: Path, into: Path) -> Iterator[list[Path]]:
        into.mkdir()
        self._watched, self._into, self._copies = folder, into, []
        try:
            yield self._copies
            self._copy()
        finally:
            self._watched = None

    def _seen(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._watched is None or not self._changes(event, arguments):
            return
        if any(str(argument).startswith(f"{self._watched}/") for argument in arguments[:2]):
            self._copy()

    def _changes(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            return bool(arguments[2] & (os.O_WRONLY | os.O_RDWR)) and not str(arguments[0]).endswith("lock")
        return event in self._EVENTS

    def _copy(self) -> None:
        folder, self._watched = self._watched, None
        assert folder is not None
        assert self._into is not None
        copy = self._into / f"{len(self._copies):03d}"
        shutil.copytree(folder, copy)
        self._copies.append(copy)
        self._watched = folder


@pytest.fixture(scope="session")
def disk_states() -> DiskStates:
    return DiskStates()


_UNPRIVILEGED = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from changeover_registry import chain, signing
from changeover_registry.repository import choice, vendor
from changeover_registry.transport import http, memory
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Targets
now = datetime.now(UTC).replace(microsecond=0)
# Afterwards the interpreter's own modules may be out of reach: whatever loads late is loaded here.
warm = Metadata(Targets(expires=now))
warm.sign(CryptoSigner.generate_ed25519())
Metadata.from_bytes(warm.to_bytes())
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
list(Path("locked").rglob("*"))
try:
    Path("locked", "plain").write_bytes(b"")
except OSError as error:
    print("a plain write:", type(error).__name__)
else:
    sys.exit("a plain write worked: this test would prove nothing")
try:
    exec(sys.argv[1])
    print("done")
except OSError as error:
    print(type(error).__name__, error.filename)
"""


@pytest.fixture
def unprivileged() -> Callable[[Path, str], list[str]]:
    """Run a line of code in `folder`, as a user who may not write its subfolder ``locked``; what it printed."""

    def run(folder: Path, code: str) -> list[str]:
        # Whoever may not search the folder that it stands in may not do anything, and the test would prove nothing.
        folder.chmod(0o755)
        for path in [folder / "locked", *(folder / "locked").rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            command = [sys.executable, "-c", _UNPRIVILEGED, code]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
        finally:
            for path in [folder / "locked", *(folder / "locked").rglob("*")]:
                path.chmod(0o755)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run
