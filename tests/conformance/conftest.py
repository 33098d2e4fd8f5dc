"""A repository that owner or attacker may sign as they like, behind a real HTTP server, and our client command."""

import contextlib
import http.server
import importlib.util
import io
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

HERE = Path(__file__).parent
LATER = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
TOP = ("root", "timestamp", "snapshot", "targets")


@dataclass
class Repository:
    """TUF metadata made with python-tuf's own API; `files` is what the server answers with, by path."""

    files: dict[str, bytes] = field(default_factory=dict)
    endless: set[str] = field(default_factory=set)
    sent: dict[str, int] = field(default_factory=dict)
    """Bytes that went out, by path."""
    keys: dict[str, list[CryptoSigner]] = field(default_factory=dict)
    roles: dict[str, Any] = field(default_factory=dict)

    def start(self) -> "Repository":
        self.roles = {
            "root": Root(expires=LATER, consistent_snapshot=True),
            "timestamp": Timestamp(expires=LATER),
            "snapshot": Snapshot(expires=LATER),
            "targets": Targets(expires=LATER),
        }
        for role in TOP:
            self.rekey(role)
        self.publish("root", "targets", bump=False)
        return self

    @property
    def root(self) -> Root:
        signed: Root = self.roles["root"]
        return signed

    def rekey(self, role: str, count: int = 1, threshold: int = 1) -> None:
        """New keys for a top-level role; the root, once published, says so."""
        for key_id in list(self.root.roles[role].keyids):
            self.root.revoke_key(key_id, role)
        self.keys[role] = [CryptoSigner.generate_ed25519() for _ in range(count)]
        for key in self.keys[role]:
            self.root.add_key(key.public_key, role)
        self.root.roles[role].threshold = threshold

    def rekey_root(self) -> None:
        """The next root, of a new key and signed by the old one too."""
        old = self.keys["root"]
        self.rekey("root")
        new, self.keys["root"] = self.keys["root"], [*old, *self.keys["root"]]
        self.put("root")
        self.keys["root"] = new

    def delegate(self, role: str, *patterns: str, terminating: bool = True) -> Targets:
        """A role that the top-level targets let name targets of these patterns."""
        self.keys[role] = [CryptoSigner.generate_ed25519()]
        delegated = DelegatedRole(role, [], 1, terminating, list(patterns))
        targets: Targets = self.roles["targets"]
        if targets.delegations is None:
            targets.delegations = Delegations({}, {})
        assert targets.delegations.roles is not None
        targets.delegations.roles[role] = delegated
        targets.add_key(self.keys[role][0].public_key, role)
        self.roles[role] = Targets(expires=LATER)
        return self.roles[role]  # type: ignore[no-any-return]

    def add(self, path: str, data: bytes, role: str = "targets") -> None:
        """Have a role name a target, and the server hold it."""
        info = TargetFile.from_data(path, data, ["sha256"])
        self.roles[role].targets[path] = info
        folder, slash, name = path.rpartition("/")
        self.files[f"targets/{folder}{slash}{info.hashes['sha256']}.{name}"] = data

    def sign(self, role: str) -> bytes:
        metadata: Metadata[Any] = Metadata(self.roles[role])
        for key in self.keys[role]:
            metadata.sign(key, append=True)
        return metadata.to_bytes()

    def publish(self, *roles: str, bump: bool = True) -> None:
        """Sign the next version of roles, then a snapshot and a timestamp that name them by digest."""
        for role in roles:
            self.put(role, bump=bump)
        self.put("snapshot", bump=bump)
        self.put("timestamp", bump=bump)

    def put(self, role: str, *, bump: bool = True) -> None:
        signed = self.roles[role]
        signed.version += bump
        data = self.sign(role)
        name = "timestamp.json" if role == "timestamp" else f"{signed.version}.{role}.json"
        self.files[f"metadata/{name}"] = data
        about = MetaFile.from_data(signed.version, data, ["sha256"])
        if role == "snapshot":
            self.roles["timestamp"].snapshot_meta = about
        elif role not in {"root", "timestamp"}:
            self.roles["snapshot"].meta[f"{role}.json"] = about


@dataclass
class Command:
    """Our client behind its command line, and its two folders."""

    base: Path
    address: str
    run: Callable[[list[str]], int]
    said: str = ""

    @property
    def metadata(self) -> Path:
        return self.base / "metadata"

    @property
    def targets(self) -> Path:
        return self.base / "targets"

    def init(self, root: bytes) -> None:
        self.metadata.mkdir()
        self.targets.mkdir()
        (self.base / "root.json").write_bytes(root)
        assert self._run("init", str(self.base / "root.json")) == 0

    def refresh(self) -> int:
        return self._run("--metadata-url", f"{self.address}/metadata", "refresh")

    def download(self, *names: str) -> int:
        named = [part for name in names for part in ("--target-name", name)]
        there = ["--target-dir", str(self.targets), "--target-base-url", f"{self.address}/targets"]
        return self._run("--metadata-url", f"{self.address}/metadata", *named, *there, "download")

    def version(self, role: str) -> int:
        """The version that the client trusts."""
        return int(Metadata[Any].from_file(str(self.metadata / f"{role}.json")).signed.version)

    def held(self) -> list[bytes]:
        """The bytes of each file that it stored, wherever below its own folder."""
        return sorted(path.read_bytes() for path in self.targets.rglob("*") if path.is_file())

    def _run(self, *arguments: str) -> int:
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            code = self.run(["--metadata-dir", str(self.metadata), *arguments])
        self.said = said.getvalue()
        return code


@pytest.fixture
def repository() -> Repository:
    """A repository with root, targets, snapshot and timestamp in their first version."""
    return Repository().start()


@pytest.fixture
def address(repository: Repository) -> Iterator[str]:
    """Where the repository is served."""
    handler = type("Handler", (_Handler,), {"repository": repository})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def client(tmp_path: Path, repository: Repository, address: str) -> Command:
    """The client command in this process, which was given the first root."""
    command = Command(tmp_path, address, _module().main)
    command.init(repository.files["metadata/1.root.json"])
    return command


@pytest.fixture
def executable(tmp_path: Path, repository: Repository, address: str) -> Command:
    """The client command as the suite starts it: the executable, each time a process."""

    def run(arguments: list[str]) -> int:
        return subprocess.run([HERE / "tuf-client", *arguments], check=False).returncode

    command = Command(tmp_path, address, run)
    command.init(repository.files["metadata/1.root.json"])
    return command


def _module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tuf_client", HERE / "tuf_client.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Handler(http.server.BaseHTTPRequestHandler):
    repository: Repository

    def do_GET(self) -> None:
        path = unquote(self.path.lstrip("/"))
        data = self.repository.files.get(path)
        if path in self.repository.endless:
            self.send_response(200)
            self.end_headers()
            self._stream(path)
            return
        self.send_response(200 if data is not None else 404)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        self.wfile.write(data or b"")
        self.repository.sent[path] = self.repository.sent.get(path, 0) + len(data or b"")

    def _stream(self, path: str) -> None:
        """Zeros until the reader hangs up."""
        with contextlib.suppress(OSError):
            while self.repository.sent.get(path, 0) < 10**9:
                self.repository.sent[path] = self.repository.sent.get(path, 0) + self.wfile.write(bytes(65536))

    def log_message(self, *_: object) -> None:
        """Nothing."""
