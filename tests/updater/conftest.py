"""A small studio with a vendor, built through the product's own functions in about a second, for every test anew."""

import contextlib
import io
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import OpenEXR
import pytest
from onnx import TensorProto, helper, numpy_helper

from changeover_registry import clock, signing
from changeover_registry.clock import format_time
from changeover_registry.records.facts import HostFacts, NukeInstall, RuntimeFacts
from changeover_registry.records.findings import NotApplicable, Passed
from changeover_registry.records.release import Release
from changeover_registry.records.verdict import CurvePoint, OperatingPoint, PointReport, Verdict
from changeover_registry.repository import vendor
from changeover_updater import initialise, vendors
from changeover_updater.cli.main import run
from changeover_updater.release_folder import read_release
from changeover_updater.site import Site
from changeover_updater.station import Station
from changeover_updater.store import Store
from changeover_updater.vendor import smoke
from changeover_validators.classes import golden_class_of, host_class
from changeover_validators.probe import probe_key

RELEASE_TOML = """\
schema = "changeover.release-toml/1"
model = "acme/tiny-roto"
version = "{version}"
summary = "A tiny net for tests."
changes = "gain {gain}"
[licences]
code = "Apache-2.0"
weights = "{licence}"
training_data = "CC0-1.0"
[[interface.inputs]]
name = "plate"
channels = ["R", "G", "B"]
colour = "scene-linear"
[[interface.outputs]]
name = "matte"
channels = ["A"]
colour = "raw"
[[variants]]
id = "onnx-fp32"
runtime = "onnx"
precision = "fp32"
loaders = ["python", "mlserver"]
[variants.contract]
evaluation = "stateless"
colour = "srgb"
multiple = 8
tiles = ["none", "1024+64"]
[[variants.contract.inputs]]
name = "image"
[variants.contract.output]
name = "matte"
"""

CAT_TOML = """\
schema = "changeover.release-toml/1"
model = "acme/edge-roto"
version = "1.0.0"
summary = "Opaque bytes that stand for a .cat."
changes = "first"
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


def write_model(path: Path, gain: float, offset: float) -> None:
    """sigmoid(gain * (red - (green + blue) / 2 - offset)): a matte of what is red."""
    weights = np.array([[[[1.0]], [[-0.5]], [[-0.5]]]], np.float32) * gain
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "H", "W"])
    matte = helper.make_tensor_value_info("matte", TensorProto.FLOAT, [1, 1, "H", "W"])
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "w", "b"], ["x"]), helper.make_node("Sigmoid", ["x"], ["matte"])],
        "red",
        [image],
        [matte],
        [
            numpy_helper.from_array(weights, "w"),
            numpy_helper.from_array(np.array([-gain * offset], np.float32), "b"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


@pytest.fixture(scope="session")
def release_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Release folders with real smoke files: 1.0.0, 1.1.0 (sharper), 1.2.0 (sees nothing), and an opaque .cat."""
    root = tmp_path_factory.mktemp("releases")
    for number, gain, offset in (("1.0.0", 14.0, 0.3), ("1.1.0", 40.0, 0.3), ("1.2.0", 40.0, 0.95)):
        folder = root / number
        write_model(folder / "onnx-fp32" / "model.onnx", gain, offset)
        text = RELEASE_TOML.format(version=number, gain=gain, licence="CC-BY-4.0")
        (folder / "release.toml").write_text(text, encoding="utf-8")
        smoke(folder, interpreter=sys.executable)
    cat = root / "cat"
    (cat / "nuke-cat-torch2.1").mkdir(parents=True)
    (cat / "nuke-cat-torch2.1" / "EdgeRoto.cat").write_bytes(bytes(range(256)) * 64)
    (cat / "release.toml").write_text(CAT_TOML, encoding="utf-8")
    return root


@dataclass
class World:
    """A vendor's repository, a studio's site, a store with one station, and the command line on them."""

    root: Path
    folders: Path
    now: datetime
    facts: HostFacts
    keys: vendor.VendorKeys
    extra: list[str] = field(default_factory=list)

    @property
    def site(self) -> Site:
        return Site(self.root / "site")

    @property
    def station(self) -> Station:
        return Station(Store(self.root / "store"), "vm1")

    @property
    def repository(self) -> Path:
        return self.root / "vendor" / "repository"

    @property
    def config(self) -> Path:
        return self.root / "host.toml"

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run one command line; returns exit code, stdout and stderr."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(["--config", str(self.config), *self.extra, *arguments])
        return code, out.getvalue(), err.getvalue()

    def ok(self, *arguments: str) -> str:
        """Run a command line that must succeed; returns stdout."""
        code, out, err = self.run(*arguments)
        assert code == 0, f"{arguments}: exit {code}\n{out}\n{err}"
        return out

    def without_mlflow(self) -> None:
        """Have the studio's MLflow be one that nobody can reach, which costs a notice and no time."""
        (self.site.root / "site.toml").write_text(
            'schema = "changeover.site/1"\nmlflow = "sqlite:////proc/none/mlflow.db"\n', encoding="utf-8"
        )

    def has_nukes(self, *nukes: NukeInstall) -> None:
        """Have this host be one with these Nukes."""
        write_config(self, nukes="".join(f'[[nukes]]\nversion = "{nuke.version}"\n' for nuke in nukes))
        self.facts = self.facts.model_copy(update={"nukes": nukes})
        remember_facts(self)

    def publish(self, name: str) -> Release:
        """Publish one of the release folders and sync it."""
        folder = self.folders / name
        release = read_release(folder)
        files = {f.sha256: folder / variant.id / f.path for variant in release.variants for f in variant.files}
        vendor.publish(self.repository, self.keys, release.to_bytes(), files, self.now)
        vendors.sync_vendor(self.site.vendor("acme"))
        return release

    def accept(self, release: Release, current: Release | None = None, **changes: object) -> str:
        """Sign and file an accept verdict for every operating point of this host's class."""
        findings = (Passed(check="hardware"), Passed(check="vram"))
        verdict = Verdict(
            candidate=release.ref(),
            current=current.ref() if current else None,
            decision="accept",
            reason="every check passed",
            made_at=format_time(self.now),
            made_by="td@vm1",
            host="vm1",
            host_class=host_class(self.facts),
            facts=self.facts.digest(),
            policy=self.policy_digest(),
            sandbox="bubblewrap",
            findings=findings,
            points=tuple(self.point(release, tile) for tile in release.variants[0].contract.tiles),
        ).model_copy(update=changes)
        signer = signing.load_signer(self.root / "keys" / "online" / "verdict.pem")
        return self.site.file_verdict(signing.sign_envelope(verdict.to_bytes(), "verdict", signer))

    def point(self, release: Release, tile: object) -> PointReport:
        variant = release.variants[0]
        point = OperatingPoint.model_validate(
            {"variant": variant.id, "precision": variant.precision, "tile": tile, "provider": "cpu"}
        )
        assert isinstance(self.facts.runtimes, tuple)
        return PointReport(
            point=point,
            golden_class=golden_class_of(self.facts, self.facts.runtimes[0], "cpu", variant.precision),
            memory=(CurvePoint(width=4096, height=2160, bytes=2**27),),
            findings=(
                NotApplicable(check="speed", subject=str(point), rule="no-baseline"),
                Passed(check="golden", subject=str(point)),
                Passed(check="smoke", subject=variant.id),
            ),
        )

    def policy_digest(self) -> str:
        from changeover_registry import canonical

        return canonical.digest(self.site.policy_bytes())

    def served(self, name: str, current: Release | None = None) -> Release:
        """Publish, accept, promote to stable and change over to a release."""
        release = self.publish(name)
        self.accept(release, current)
        self.ok("promote", f"{release.model}@{release.version}", "--reason", "test")
        self.ok("update")
        return release


def write_config(world: World, *, runtimes: str = "", nukes: str = "") -> None:
    """host.toml of a world, with the interpreter of the tests as its runtime unless told otherwise."""
    text = world.config.read_text(encoding="utf-8")
    head, _, tail = text.partition("[runtimes]")
    keys = "[keys]" + tail.partition("[keys]")[2].partition("# One entry")[0]
    named = runtimes or f'default = "{sys.executable}"'
    world.config.write_text(f"{head}[runtimes]\n{named}\n\n{keys}\n{nukes}", encoding="utf-8")


def build_world(
    root: Path,
    folders: Path,
    *,
    start: datetime | None = None,
    executable: bool = False,
    nuke: str | None = None,
) -> World:
    """A vendor and a studio below `root`; `start` is when both signed their first metadata."""
    now = start or clock.now()
    keys = vendor.new_vendor_keys(root / "vendor" / "keys")
    root_json = vendor.create(root / "vendor" / "repository", "acme", keys, now)
    runtime = RuntimeFacts(
        name="onnxruntime", version=version("onnxruntime-gpu"), interpreter=sys.executable, providers=("cpu",)
    )
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
        nukes=(NukeInstall(version=nuke, torch_line="2.1.1"),) if nuke else (),
    )
    world = World(root, folders, now, facts, keys)
    world.extra = ["--station", "vm1"]
    initialise.initialise(
        initialise.Request(
            site=root / "site",
            store=root / "store",
            station="vm1",
            keys=root / "keys",
            config=world.config,
            nuke_json=None,
            who="td@vm1",
            now=now,
        ),
        notice=pytest.fail,
    )
    policy = world.site.root / "policy.toml"
    text = policy.read_text(encoding="utf-8").replace("serve_on_cpu = false", "serve_on_cpu = true")
    # Plates of this size take no time, and the two models differ by less than any machine's noise.
    policy.write_text(text.replace("\nratio = 1.5", "\nratio = 1.5\nplates = [[256, 144]]"), encoding="utf-8")
    write_config(world, nukes=f'[[nukes]]\nversion = "{nuke}"\n' if nuke else "")
    vendors.add_trust(
        world.site, "acme", str(world.repository), root_json, allow_executable=executable, who="td@vm1", now=now
    )
    remember_facts(world)
    world.ok("promote", "--policy", "--reason", "no GPU here")
    return world


@pytest.fixture
def make_world(tmp_path: Path, release_folders: Path) -> Callable[..., World]:
    """Makes a world in the test's own folder; see `build_world` for what may be said of it."""
    return partial(build_world, tmp_path, release_folders)


@pytest.fixture(scope="session")
def world_at(release_folders: Path) -> Callable[[Path], World]:
    """Makes a world in a folder that the test names, such as a file system of its own."""
    return lambda root: build_world(root, release_folders)


@pytest.fixture(scope="module")
def module_world_at(release_folders: Path) -> Callable[..., World]:
    """As `world_at`, for a world that all tests of a module share; see `build_world` for what may be said of it."""
    return lambda root, **more: build_world(root, release_folders, **more)


@pytest.fixture(scope="module")
def module_world(tmp_path_factory: pytest.TempPathFactory, release_folders: Path) -> World:
    """A world that all tests of a module share: for a story told once, or for tests that change nothing."""
    return build_world(tmp_path_factory.mktemp("studio"), release_folders)


def remember_facts(world: World) -> None:
    """Spare the commands the probing: the station knows its facts."""
    from changeover_updater.settings import load_settings

    settings = load_settings({}, config=world.config)
    world.station.remember_facts(probe_key(dict(settings.runtimes), settings.nukes), world.facts)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """A studio with a trusted vendor and nothing published yet."""
    return make_world()


@pytest.fixture
def long_ago() -> datetime:
    """A moment so far back that everything signed then has expired."""
    return datetime.now(UTC).replace(microsecond=0) - timedelta(days=800)


@pytest.fixture
def golden_set(world: World) -> World:
    """The world with the golden set ``hero``."""
    return add_golden_set(world)


@pytest.fixture(scope="module")
def module_golden_set(module_world: World) -> World:
    """The shared world with the golden set ``hero``."""
    return add_golden_set(module_world)


def add_golden_set(world: World) -> World:
    """Add the set ``hero`` of six shots of three frames: a red disc that moves over grey noise."""
    add_shots_of(world, "hero", (2,) * 6)
    return world


@pytest.fixture(scope="session")
def add_shots() -> Callable[..., None]:
    """Adds a golden set of one shot a level."""
    return add_shots_of


def add_shots_of(world: World, name: str, levels: Sequence[int]) -> None:
    """Shots of three frames: a red disc that moves over grey noise."""
    rng = np.random.default_rng(0)
    world.ok("golden", "set", "create", name)
    for shot, level in enumerate(levels):
        folder = world.root / "shots" / f"sh{shot}"
        folder.mkdir(parents=True, exist_ok=True)
        for frame in range(3):
            write_frame(folder, 1001 + frame, shot, frame, rng)
        world.ok(
            *("golden", "add", name, f"sh{shot}", "--plate", str(folder / "plate.####.exr")),
            *("--matte", str(folder / "matte.####.exr"), "--channel", "A", "--colour", "scene-linear"),
            *("--level", str(level), "--approved-by", "Jane Doe"),
        )


def write_frame(folder: Path, number: int, shot: int, frame: int, rng: np.random.Generator) -> None:
    y, x = np.mgrid[0:96, 0:128].astype(np.float32)
    matte = np.clip((20 + 2 * shot - np.hypot(x - 40 - 5 * frame - shot, y - 48)) / 2 + 0.5, 0, 1).astype(np.float32)
    behind = rng.uniform(0.1, 0.3, (96, 128, 3)).astype(np.float32)
    plate = matte[..., None] * np.array([0.8, 0.1, 0.1], np.float32) + (1 - matte[..., None]) * behind
    header = {"compression": OpenEXR.ZIP_COMPRESSION}
    OpenEXR.File(header, {"RGB": plate.astype(np.float16)}).write(str(folder / f"plate.{number}.exr"))
    OpenEXR.File(header, {"A": matte.astype(np.float16)}).write(str(folder / f"matte.{number}.exr"))


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder that is removed at the end even if a test made parts of it read-only."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)
