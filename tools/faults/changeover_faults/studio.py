"""A small studio to break: a vendor's signed repository, a site, a store and a station, made by the product's commands.

Two models with two releases each, opaque files of a little more than one block, so that no model has to be run: the
signed overrides that a ``.cat`` needs pass over smoke, and everything else of install, changeover, rollback and gc is
the real thing. What a reader must find is kept in `Expected`, taken from the bytes that were made here and not from
any record of the product.
"""

import contextlib
import hashlib
import io
import random
import shutil
import sys
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path

from changeover_registry import clock
from changeover_registry.records.facts import HostFacts, NukeInstall, RuntimeFacts
from changeover_registry.records.release import Release
from changeover_registry.repository import vendor
from changeover_updater import initialise, vendors
from changeover_updater.cli.main import run
from changeover_updater.install import install_variants
from changeover_updater.release_folder import read_release
from changeover_updater.settings import load_settings
from changeover_updater.site import Site
from changeover_updater.station import Station
from changeover_updater.store import Store
from changeover_validators.probe import probe_key

__all__ = [
    "FILE_BYTES",
    "LOADER",
    "MODELS",
    "NEW",
    "NUKE_LINE",
    "OLD",
    "PARTS",
    "STATION",
    "Studio",
    "add_station",
    "build",
    "promote",
]

MODELS = ("acme/edge-roto", "acme/hair-roto")
OLD, NEW, SPARE = "1.0.0", "1.1.0", "1.2.0"
PARTS = ("store", "site")
"""What commands of a station write; the vendor's repository and the keys stay as they are."""

STATION, LOADER, NUKE_LINE = "vm1", "nuke-inference", "15.1"
_NUKE = NukeInstall(version="15.1v3", torch_line="2.1.1")
FILE_BYTES = 4 * 1024 * 1024 + 300 * 1024
"""One block of four MiB and a part of a second one."""

_TOML = """\
schema = "changeover.release-toml/1"
model = "{model}"
version = "{version}"
summary = "Opaque bytes that stand for a .cat."
changes = "{version}"
[licences]
code = "Apache-2.0"
weights = "CC-BY-4.0"
training_data = "CC0-1.0"
[[interface.inputs]]
name = "plate"
channels = ["rgba.red", "rgba.green", "rgba.blue"]
colour = "scene-linear"
[[interface.outputs]]
name = "matte"
channels = ["rgba.alpha"]
colour = "raw"
[[variants]]
id = "nuke-cat-torch2.1"
runtime = "nuke-cat"
precision = "fp32"
loaders = ["nuke-inference"]
[variants.contract]
evaluation = "stateless"
colour = "scene-linear"
[[variants.contract.inputs]]
name = "image"
[variants.contract.output]
name = "matte"
[variants.requires]
torch_line = "2.1.1"
"""


@dataclass(frozen=True, slots=True)
class Studio:
    """Where everything of one studio lies; all of it below `root`."""

    root: Path

    @property
    def config(self) -> Path:
        """``host.toml``."""
        return self.root / "host.toml"

    @property
    def site(self) -> Path:
        """The site."""
        return self.root / "site"

    @property
    def store(self) -> Path:
        """The store."""
        return self.root / "store"

    @property
    def repository(self) -> Path:
        """The vendor's repository."""
        return self.root / "vendor" / "repository"

    @property
    def early(self) -> Path:
        """Site and store as they were when nothing but `OLD` was known, for a studio that gets the rest in a bundle."""
        return self.root / "early"

    @property
    def bundle(self) -> Path:
        """A bundle with `NEW` of both models."""
        return self.root / "new.bundle"

    def station(self, name: str = STATION) -> Station:
        """A station of the store."""
        return Station(Store(self.store), name)

    def arguments(self, *command: str, station: str = STATION) -> list[str]:
        """The command line that runs `command` on this studio."""
        return ["--config", str(self.config), "--station", station, *command]

    def ok(self, *command: str, station: str = STATION) -> str:
        """Run a command that must succeed, in this process; returns what it said."""
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            code = run(self.arguments(*command, station=station))
        if code != 0:
            message = f"{command}: exit {code}\n{out.getvalue()}"
            raise AssertionError(message)
        return out.getvalue()

    def change_over(self) -> None:
        """Run an update that must change over to another generation."""
        before = self.station().current()
        said = self.ok("update")
        if self.station().current() == before:
            message = f"update changed nothing; generation {before} is in use\n{said}"
            raise AssertionError(message)


@cache
def content(model: str, version: str) -> bytes:
    """The bytes of a release's one file, the same in every run."""
    return random.Random(f"{model} {version}").randbytes(FILE_BYTES)


@cache
def expected_digest(model: str, version: str) -> str:
    """The sha256 of a release's one file."""
    return hashlib.sha256(content(model, version)).hexdigest()


def build(root: Path) -> Studio:
    """A studio that knows both versions of both models, has chosen `OLD`, and whose station serves nothing yet."""
    studio = _begin(Studio(root))
    publish(studio, OLD)
    promote(studio, OLD)
    for name in PARTS:
        shutil.copytree(root / name, studio.early / name)
    publish(studio, NEW)
    publish(studio, SPARE)
    studio.ok("export", *(f"{model}@{NEW}" for model in MODELS), str(studio.bundle))
    return studio


def promote(studio: Studio, version: str) -> None:
    """Choose a version of each model."""
    for model in MODELS:
        studio.ok("promote", f"{model}@{version}", "--reason", f"{version} is next")


def renew(studio: Studio, days: int) -> None:
    """The vendor signs again that this is the newest, so many days from now."""
    keys = vendor.VendorKeys.in_folder(studio.root / "vendor" / "keys")
    vendor.renew(studio.repository, keys, clock.now() + timedelta(days=days))


def install(studio: Studio, version: str) -> None:
    """Put a version of the first model into the store, as an update does that goes no further."""
    vendor_folder = Site(studio.site).vendor("acme")
    path = next(p for p in studio.site.rglob("records/*.json") if _is(p.read_bytes(), MODELS[0], version))
    release = Release.from_bytes(path.read_bytes(), where=str(path))
    install_variants(Store(studio.store), vendor_folder, release, release.variants, lambda *_: None)


def _is(record: bytes, model: str, version: str) -> bool:
    release = Release.from_bytes(record, where="a record")
    return (release.model, str(release.version)) == (model, version)


def add_station(studio: Studio, name: str) -> None:
    """One more station in the same store, with the facts of the first."""
    station = studio.station(name)
    station.create()
    shutil.copytree(studio.station().folder / "trust", station.folder / "trust", dirs_exist_ok=True)
    _remember_facts(studio, name)


def _begin(studio: Studio) -> Studio:
    root, now = studio.root, clock.now()
    keys = vendor.new_vendor_keys(root / "vendor" / "keys")
    root_json = vendor.create(studio.repository, "acme", keys, now)
    initialise.initialise(
        initialise.Request(
            site=studio.site,
            store=studio.store,
            station=STATION,
            keys=root / "keys",
            config=studio.config,
            nuke_json=None,
            who="td@vm1",
            now=now,
        ),
        notice=_unexpected,
    )
    _configure(studio)
    vendors.add_trust(
        Site(studio.site), "acme", str(studio.repository), root_json, allow_executable=True, who="td@vm1", now=now
    )
    _remember_facts(studio, STATION)
    studio.ok("promote", "--policy", "--reason", "no GPU here")
    return studio


def publish(studio: Studio, version: str) -> None:
    """Make, sign and publish one version of each model, sync and permit it."""
    keys = vendor.VendorKeys.in_folder(studio.root / "vendor" / "keys")
    for model in MODELS:
        folder = studio.root / "made" / model / version
        (folder / "nuke-cat-torch2.1").mkdir(parents=True)
        (folder / "nuke-cat-torch2.1" / "Roto.cat").write_bytes(content(model, version))
        (folder / "release.toml").write_text(_TOML.format(model=model, version=version), encoding="utf-8")
        release = read_release(folder)
        files = {f.sha256: folder / v.id / f.path for v in release.variants for f in v.files}
        vendor.publish(studio.repository, keys, release.to_bytes(), files, clock.now())
        shutil.rmtree(folder)
    vendors.sync_vendor(Site(studio.site).vendor("acme"))
    permit(studio, version)


def permit(studio: Studio, version: str) -> None:
    """Sign that a version may pass without what an opaque file cannot be asked."""
    checks = [word for check in ("hardware", "vram", "speed", "golden", "smoke") for word in ("--check", check)]
    for model in MODELS:
        release_name = f"{model}@{version}"
        studio.ok("override", "add", release_name, *checks, "--reason", "opaque bytes", "--until", "300d")


def _configure(studio: Studio) -> None:
    text = studio.config.read_text(encoding="utf-8")
    studio.config.write_text(f'{text}\n[[nukes]]\nversion = "{_NUKE.version}"\n', encoding="utf-8")
    policy = studio.site / "policy.toml"
    policy.write_text(policy.read_text(encoding="utf-8").replace("serve_on_cpu = false", "serve_on_cpu = true"))
    # Nobody can reach this MLflow, which costs a notice and no time.
    site_toml = 'schema = "changeover.site/1"\nmlflow = "sqlite:////proc/none/mlflow.db"\n'
    (studio.site / "site.toml").write_text(site_toml, encoding="utf-8")


def _remember_facts(studio: Studio, name: str) -> None:
    """Spare every command the probing: the station knows its facts."""
    runtime = RuntimeFacts(name="onnxruntime", version="1.23.2", interpreter=sys.executable, providers=("cpu",))
    facts = HostFacts(
        host="vm1",
        os="linux",
        kernel="6.1",
        glibc="2.36",
        cpu_level="x86_64_v3",
        cores=2,
        ram_mib=16384,
        gpus=(),
        runtimes=(runtime,),
        nukes=(_NUKE,),
    )
    settings = load_settings({}, config=studio.config)
    studio.station(name).remember_facts(probe_key(dict(settings.runtimes), settings.nukes), facts)


def _unexpected(notice: str) -> None:
    raise AssertionError(notice)
