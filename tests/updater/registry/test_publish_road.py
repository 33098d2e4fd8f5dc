"""From a vendor's folder to a station, byte for byte: through MLflow, a bucket and a bundle; and taken back."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.records.release import Release
from changeover_registry.transport import s3
from changeover_servers import KINDS, MlflowServer, S3Store
from changeover_updater import vendor
from changeover_updater.cli.main import run
from changeover_updater.install import install_variants
from changeover_updater.site import Site
from changeover_updater.store import Store
from changeover_updater.vendor_home import VendorHome, make_home, open_home
from changeover_validators.runtimes.sandbox import available

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
pytest.importorskip("boto3", reason="the extra s3 is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.skipif(available().name is None, reason="nothing isolates a child on this machine"),
]

NOW = datetime.now(UTC).replace(microsecond=0)
ANY_BYTES = bytes(range(256)) * 70_000
"""No model at all, larger than several blocks and than the part of a multipart upload."""
HEAD = """\
schema = "changeover.release-toml/1"
model = "beta/mixed-roto"
version = "1.0.0"
summary = "One model in three forms."
changes = "first"
[licences]
code = "Apache-2.0"
weights = "CC-BY-4.0"
training_data = "CC0-1.0"
[[interface.inputs]]
name = "plate"
channels = ["R", "G", "B"]
colour = "scene-linear"
[[interface.outputs]]
name = "matte"
channels = ["A"]
colour = "raw"
"""
VARIANT = """\
[[variants]]
id = "{id}"
runtime = "{runtime}"
precision = "fp32"
loaders = ["{loader}"]
[variants.contract]
evaluation = "stateless"
colour = "scene-linear"
[[variants.contract.inputs]]
name = "image"
[variants.contract.output]
name = "matte"
"""
TORCH = '[variants.requires]\ntorch_line = "2.1.1"\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of ONNX with external data, TorchScript and a .cat."""
    folder = tmp_path_factory.mktemp("mixed")
    for name in ("onnx", "torchscript", "cat"):
        (folder / name).mkdir()
    write_external(folder / "onnx" / "model.onnx")
    module: Any = type("Red", (torch.jit.ScriptModule,), {})()
    module.define("def forward(self, x):\n    return torch.sigmoid((x[:, :1] - x[:, 1:2]) * 14.)\n")
    module.save(str(folder / "torchscript" / "model.pt"))
    (folder / "cat" / "Mixed.cat").write_bytes(ANY_BYTES)
    parts = [
        VARIANT.format(id="onnx", runtime="onnx", loader="python"),
        VARIANT.format(id="torchscript", runtime="torchscript", loader="mlserver") + TORCH,
        VARIANT.format(id="cat", runtime="nuke-cat", loader="nuke-inference") + TORCH,
    ]
    (folder / "release.toml").write_text(HEAD + "".join(parts), encoding="utf-8")
    vendor.smoke(folder, interpreter=sys.executable)
    return folder


def write_external(path: Path) -> None:
    """A model whose weights lie in a file beside it."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.full((1, 3, 1, 1), 1 / 3, np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "w"], ["c"]), helper.make_node("Sigmoid", ["c"], ["matte"])],
        "matte",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "H", "W"])],
        [helper.make_tensor_value_info("matte", TensorProto.FLOAT, [1, 1, "H", "W"])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)


@dataclass
class Published:
    """A vendor whose release went through MLflow's server into a bucket."""

    home: VendorHome
    release: Release
    location: str


@pytest.fixture(scope="module")
def published(
    tmp_path_factory: pytest.TempPathFactory, mlflow_server: Callable[..., MlflowServer], moto: S3Store, folder: Path
) -> Iterator[Published]:
    server = mlflow_server(**KINDS["moto"])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in moto.environment.items():
            patch.setenv(name, value)
        s3._client.cache_clear()
        location = f"s3://{moto.bucket()}/beta"
        home = make_home(tmp_path_factory.mktemp("beta") / "home", "beta", server.uri, NOW).home
        toml = home.folder / "vendor.toml"
        toml.write_text(toml.read_text(encoding="utf-8").replace("publish = []", f'publish = ["{location}"]'))
        release, _ = vendor.register(home, folder, NOW)
        assert run(["vendor", "publish", "mixed-roto@1.0.0", "--home", str(home.folder)]) == 0
        yield Published(open_home(home.folder), release, location)
        s3._client.cache_clear()


def install(site: Site, store: Store, release: Release) -> dict[str, bytes]:
    """Every file of every variant as the station's store has it after install, by variant and path."""
    install_variants(store, site.vendor("beta"), release, release.variants, lambda *_: None)
    return {
        f"{variant.id}/{file.path}": (store.variant_folder(release.ref(), variant.id) / file.path).read_bytes()
        for variant in release.variants
        for file in variant.files
    }


def test_a_station_has_the_vendors_bytes_out_of_a_bucket_and_out_of_a_bundle(
    published: Published, folder: Path, world_at: Callable[[Path], Any], tmp_path: Path
) -> None:
    near, far = world_at(tmp_path / "near"), world_at(tmp_path / "far")
    for world in (near, far):
        world.without_mlflow()
    root = ("--root", str(published.home.keys.anchor), "--allow-executable")
    own = {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for path in folder.glob("*/*")
        if path.parent.name in {"onnx", "torchscript", "cat"}
    }

    near.ok("trust", "add", "beta", published.location, *root)
    near.ok("sync", "beta")
    by_bucket = install(near.site, near.station.store, published.release)
    near.ok("export", "beta/mixed-roto@1.0.0", str(tmp_path / "mixed.tar"))
    far.ok("trust", "add", "beta", str(tmp_path / "mixed.tar"), *root)
    far.ok("import", str(tmp_path / "mixed.tar"))
    by_bundle = install(far.site, far.station.store, published.release)

    assert {"onnx/model.onnx", "onnx/weights.bin", "torchscript/model.pt", "cat/Mixed.cat"} < set(own)
    assert by_bucket == own
    assert by_bundle == own


def test_a_withdrawal_goes_all_the_way_to_stations_and_fleet(
    published: Published, make_world: Callable[..., Any], tmp_path: Path
) -> None:
    world = make_world()
    world.without_mlflow()
    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, current=first)
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "test")
    home = _home_of(world, tmp_path / "share")
    world.ok("trust", "remove", "acme")
    assert run(["vendor", "carry", "--home", str(home)]) == 0
    world.ok("trust", "add", "acme", str(tmp_path / "share"), "--root", str(world.keys.anchor))
    for version in ("1.0.0", "1.1.0"):
        command = ["vendor", "withdraw", f"tiny-roto@{version}", "--why", "tears on wide plates", "--home", str(home)]
        assert run(command) == 0

    world.ok("sync")
    update = world.run("update")

    assert update[0] == 3
    assert "withdrawn by the vendor: tears on wide plates" in update[1]
    assert [entry.key for entry in world.station.in_use().channels] == [str(first.ref())]
    assert "WITHDRAWN: tears on wide plates" in world.ok("status")
    told = world.ok("fleet")
    assert "withdrawn by the vendor and still in use" in told
    assert "tears on wide plates" in told
    (line,) = json.loads(world.ok("fleet", "--json"))["withdrawn"]
    assert line == {"release": str(first.ref()), "why": "tears on wide plates", "stations": ["vm1"], "keeps": []}
    assert world.run("promote", "tiny-roto@1.0.0", "--channel", "beta", "--reason", "x")[0] == 5
    assert world.run("pin", "tiny-roto@1.1.0", "--show", "atlas", "--reason", "x")[0] == 5


def _home_of(world: Any, place: Path) -> Path:
    """A vendor's home around the repository of a world, with one place."""
    home: Path = world.root / "vendor"
    keys = {name: str(getattr(world.keys, name)) for name in ("root", "targets", "release", "online")}
    lines = [
        'schema = "changeover.vendor-home/1"',
        'vendor = "acme"',
        'repository = "repository"',
        f"publish = {json.dumps([str(place)])}",
        "[keys]",
        *(f"{name} = {json.dumps(path)}" for name, path in keys.items()),
    ]
    (home / "vendor.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return home


def test_shots_that_were_delivered_with_a_withdrawn_release_get_it_by_an_override_alone(
    make_world: Callable[..., Any],
) -> None:
    """A machine that comes later renders a delivered shot again; no channel ever comes to the release."""
    from changeover_registry.repository import vendor as repository
    from changeover_updater import vendors

    world = make_world()
    world.without_mlflow()
    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, current=first)
    world.ok("pin", "tiny-roto@1.1.0", "--show", "atlas", "--sequence", "sq010", "--reason", "delivered with it")
    repository.withdraw(world.repository, world.keys, "tiny-roto", "1.1.0", "tears", world.now)
    vendors.sync_vendor(world.site.vendor("acme"))

    code, out, _ = world.run("update")
    assert code == 3
    assert "changeover override add acme/tiny-roto@1.1.0 --show atlas --check withdrawal" in out
    assert world.station.in_use().pins == ()

    until = ("--until", "30d", "--reason", "sq010 is delivered")
    world.ok("override", "add", "tiny-roto@1.1.0", "--check", "withdrawal", "--show", "atlas", *until)
    world.ok("update")

    assert [pin.key for pin in world.station.in_use().pins] == [str(second.ref())]
    assert "WITHDRAWN: tears" in world.ok("status")
    world.ok("pin", "tiny-roto@1.1.0", "--show", "atlas", "--sequence", "sq020", "--reason", "delivered with it too")
    for channel in ("stable", "show/atlas"):
        refused = world.run("promote", "tiny-roto@1.1.0", "--channel", channel, "--reason", "x")
        assert refused[0] == 5
        assert "promote another release" in refused[2]
    assert world.run("pin", "tiny-roto@1.1.0", "--show", "borealis", "--reason", "x")[0] == 5
    assert world.run("override", "add", "tiny-roto@1.1.0", "--check", "trust", *until)[0] == 5
