"""What a refresh of a large vendor's metadata costs: 100 models of 20 releases of 25 files, 50,000 files published.

``python -m changeover_updater.bench_refresh`` makes such a repository (signed, served by a real HTTP server on this
machine), follows one model of it as ``trust add --model`` does, and prints bytes, requests and seconds of the first
sync, of one with nothing new, of one after another model's release and of one after the followed model's own, and the
seconds that a station takes to verify the mirror again. The files themselves are named and not there: no sync asks for
a file. Figures are printed and judged by people; the bytes are asserted by a test.
"""

import hashlib
import http.server
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Targets

from changeover_registry import canonical, clock
from changeover_registry.client import Client
from changeover_registry.records.release import (
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
from changeover_registry.records.repository import Index, IndexEntry, VendorCard
from changeover_registry.repository import metadata, vendor
from changeover_registry.repository.metadata import Change
from changeover_registry.repository.objects import object_path
from changeover_registry.repository.reached import read_reached
from changeover_registry.repository.vendor import VendorKeys
from changeover_registry.signing import load_signer

__all__ = ["Served", "large_vendor", "publish_one", "serving"]

FILE_BYTES = 4 * 1024 * 1024
"""One block, the size of every file that the releases here name."""


@dataclass
class Served:
    """A folder behind HTTP, and what was asked of it since the last `take`."""

    location: str
    requests: list[tuple[str, int]] = field(default_factory=list)

    def take(self) -> tuple[int, int]:
        """How many requests there were and how many bytes were sent in answer; begins anew."""
        found, self.requests[:] = list(self.requests), []
        return len(found), sum(size for _, size in found)


def large_vendor(folder: Path, *, models: int, releases: int, files: int, now: datetime) -> VendorKeys:
    """A vendor's repository with that many models, releases a model and files a release, signed as `publish` signs.

    It is written in one change, since 2,000 publications one by one take an hour to sign and sync to the disk.
    """
    keys = vendor.new_vendor_keys(folder / "keys")
    repository = folder / "repository"
    vendor.create(repository, "acme", keys, now)
    names = tuple(f"model-{number:03d}" for number in range(models))
    reached = read_reached(repository, keys.anchor.read_bytes())
    signer, targets, data, roles = load_signer(keys.release), reached.targets, {}, []
    for name in names:
        entries = tuple(_published(repository, name, number, files) for number in range(releases))
        index = Index(vendor="acme", name=name, releases=entries).to_bytes()
        data[f"{name}/index.json"] = index
        targets = metadata.with_delegation(targets, name, f"{name}/*", [signer.public_key], 1, now)
        role = Targets(1, expires=metadata.expiry(name, now))
        role.targets = {f"{name}/index.json": metadata.target_info(f"{name}/index.json", index)}
        roles.append((name, role))
    card = VendorCard(vendor="acme", models=names).to_bytes()
    data["vendor.json"] = card
    targets.version = reached.targets.version + 1
    targets.targets["vendor.json"] = metadata.target_info("vendor.json", card)
    signed = [metadata.role_file("targets", targets, reached.root, [load_signer(keys.targets)])]
    signed += [metadata.role_file(name, role, targets, [signer]) for name, role in roles]
    metadata.write(repository, reached, Change(data, tuple(signed)), load_signer(keys.online), now)
    return keys


def publish_one(folder: Path, keys: VendorKeys, name: str, number: int, now: datetime) -> None:
    """Publish one more release of a model, of one real file, through the vendor's own function."""
    content = f"{name} {number}".encode().ljust(64, b".")
    source = folder / "source"
    source.write_bytes(content)
    digest = canonical.digest(content)
    file = FileEntry(path="model.onnx", size=len(content), sha256=digest, blocks=(digest,))
    release = _release(name, number, (file,)).to_bytes()
    vendor.publish(folder / "repository", keys, release, {digest: source}, now)


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """Serve a folder over HTTP for the length of a block, counting what is sent."""
    handler = type("Handler", (_Handler,), {"folder": folder, "sent": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield Served(f"http://127.0.0.1:{server.server_address[1]}", handler.sent)  # type: ignore[attr-defined]
        server.shutdown()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Whole files, with keep-alive as web servers have it."""

    protocol_version = "HTTP/1.1"
    folder: Path
    sent: list[tuple[str, int]]

    def do_GET(self) -> None:
        path = self.folder / self.path.lstrip("/")
        data = path.read_bytes() if path.is_file() else b""
        self.sent.append((self.path, len(data)))
        self.send_response(200 if path.is_file() else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing: the figures are what is looked at."""


def _published(repository: Path, name: str, number: int, files: int) -> IndexEntry:
    """One release's record in its place, and what the index says of it."""
    data = _release(name, number, tuple(_file(f"{name} {number} {index}", index) for index in range(files))).to_bytes()
    entry = IndexEntry(version=f"1.{number}.0", record=canonical.digest(data), length=len(data))
    path = repository / object_path(entry.record)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return entry


def _file(seed: str, index: int) -> FileEntry:
    digest = hashlib.sha256(seed.encode()).hexdigest()
    path = "model.onnx" if index == 0 else f"part-{index:03d}.bin"
    return FileEntry(path=path, size=FILE_BYTES, sha256=digest, blocks=(digest,))


def _release(name: str, number: int, files: tuple[FileEntry, ...]) -> Release:
    rgb = ("R", "G", "B")
    contract = Contract(
        evaluation="stateless",
        inputs=(TensorIn(name="image", port="plate", channels=rgb),),
        output=TensorOut(name="matte", port="matte"),
        colour="srgb",
    )
    variant = Variant(
        id="onnx-fp32",
        runtime="onnx",
        precision="fp32",
        loaders=("python",),
        entry="model.onnx",
        files=files,
        contract=contract,
        requires=Requires(opset=17, ir_version=8),
    )
    return Release(
        model=f"acme/{name}",
        version=f"1.{number}.0",
        summary="A release of many files.",
        changes=f"release {number}",
        licences=Licences(code="Apache-2.0", weights="CC-BY-4.0", training_data="CC0-1.0"),
        interface=Interface(
            inputs=(Port(name="plate", channels=rgb, colour="scene-linear"),),
            outputs=(Port(name="matte", channels=("A",), colour="raw"),),
        ),
        variants=(variant,),
    )


def _main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        base, now = Path(folder), clock.now()
        keys = large_vendor(base, models=100, releases=20, files=25, now=now)
        with serving(base / "repository") as served:
            for name, figure in _measured(base, keys, served, now):
                sys.stdout.write(f"{name:<44} {figure}\n")
    return 0


def _measured(base: Path, keys: VendorKeys, served: Served, now: datetime) -> Iterator[tuple[str, str]]:
    """Each figure with what it is of; the order is the story of a studio that follows one model."""
    from changeover_registry.transport import open_transport
    from changeover_updater.site import Site
    from changeover_updater.vendors import add_trust, sync_vendor

    site, root = Site.create(base / "site"), keys.anchor.read_bytes()
    folder = site.root / "trust" / "acme"

    def trust() -> None:
        add_trust(site, "acme", served.location, root, allow_executable=False, who="td", now=now, models=("model-005",))

    def again() -> None:
        sync_vendor(site.vendor("acme"))

    yield "trust add --model model-005", _timed(trust, served)
    yield "first sync, with 20 release records", _timed(again, served)
    yield "sync, nothing new", _timed(again, served)
    publish_one(base, keys, "model-006", 100, now)
    yield "sync, another model has a release", _timed(again, served)
    publish_one(base, keys, "model-005", 100, now)
    yield "sync, the followed model has a release", _timed(again, served)
    client = Client(open_transport(str(folder / "mirror")), base / "station", root)
    yield "a station verifies the mirror, first time", _timed(lambda: _verify(client), served)
    yield "a station verifies the mirror again", _timed(lambda: _verify(client), served)


def _verify(client: Client) -> None:
    client.refresh()
    vendor.open_vendor(client, "acme", ("model-005",))


def _timed(action: Callable[[], None], served: Served) -> str:
    served.take()
    start = time.monotonic()
    action()
    seconds = time.monotonic() - start
    requests, sent = served.take()
    return f"{sent / 1000:8.1f} kB  {requests:3d} requests  {seconds:6.3f} s"


if __name__ == "__main__":
    sys.exit(_main())
