"""A release's whole road, by the commands alone, on each kind of MLflow and of object store."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.mlflow_adapter.registry import Registry
from changeover_registry.transport import s3
from changeover_servers import KINDS, MlflowServer, S3Store

pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
pytest.importorskip("boto3", reason="the extra s3 is not installed")

ROADS = {
    "sqlite": ("sqlite", "sqlite"),
    "postgres-swift": ("postgres-swift", "moto"),
    "moto": ("moto", "postgres-swift"),
}
"""Whose MLflow is which: the vendor's, then the studio's; what is published lies in the store behind the vendor's."""


@dataclass(frozen=True)
class Road:
    """A vendor's home, a studio that is about to trust it, and where the two meet."""

    world: Any
    home: Path
    root: Path
    folder: Path
    vendor: str
    place: str
    vendor_server: MlflowServer | None
    studio_uri: str

    @property
    def release(self) -> str:
        return f"{self.vendor}/roto@1.0.0"


@pytest.fixture(params=list(ROADS))
def road(
    request: pytest.FixtureRequest,
    make_world: Callable[..., Any],
    add_shots: Callable[..., None],
    release_folders: Path,
    mlflow_server: Callable[..., MlflowServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Road]:
    ours, theirs = (mlflow_server(**KINDS[kind]) if kind in KINDS else None for kind in ROADS[request.param])
    # The servers are shared with other tests, so the names must be ours alone.
    vendor = f"lab-{request.param}"
    folder = shutil.copytree(release_folders / "1.0.0", tmp_path / "release")
    text = (folder / "release.toml").read_text(encoding="utf-8").replace("acme/tiny-roto", f"{vendor}/roto")
    (folder / "release.toml").write_text(text, encoding="utf-8")
    world = make_world()
    add_shots(world, "hero", (2,) * 6)
    home = tmp_path / "lab"
    address = ("--mlflow-uri", ours.uri) if ours else ()
    made = json.loads(world.ok("vendor", "init", str(home), "--name", vendor, *address, "--json"))
    place = place_of(ours.store if ours else None, tmp_path, monkeypatch)
    settings = (home / "vendor.toml").read_text(encoding="utf-8")
    (home / "vendor.toml").write_text(settings.replace("publish = []", f'publish = ["{place}"]'), encoding="utf-8")
    if theirs:
        site = f'schema = "changeover.site/1"\nmlflow = "{theirs.uri}"\n'
        (world.site.root / "site.toml").write_text(site, encoding="utf-8")
    yield Road(world, home, Path(made["root"]), folder, vendor, place, ours, world.site.mlflow_uri())
    s3._client.cache_clear()


def place_of(store: S3Store | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the vendor publishes: a bucket of this store, which this process can reach from now on, or a folder."""
    if store is None:
        (folder / "place").mkdir()
        return str(folder / "place")
    for variable, value in store.environment.items():
        monkeypatch.setenv(variable, value)
    s3._client.cache_clear()
    return f"s3://{store.bucket()}/lab"


def test_release_goes_the_whole_road(road: Road) -> None:
    world, home = road.world, ("--home", str(road.home))

    # The vendor registers, twice without harm, and publishes.
    assert json.loads(world.ok("vendor", "register", str(road.folder), *home, "--json"))["new"]
    assert not json.loads(world.ok("vendor", "register", str(road.folder), *home, "--json"))["new"]
    world.ok("vendor", "publish", "roto@1.0.0", *home)
    world.ok("vendor", "places", *home)

    # The studio trusts it, takes the release, judges it on its own shots, and chooses it.
    world.ok("trust", "add", road.vendor, road.place, "--root", str(road.root))
    world.ok("sync")
    verdict = json.loads(world.ok("check", road.release, "--set", "hero", "--json"))
    world.ok("promote", road.release, "--reason", "better edges")
    world.ok("update")

    served = list((world.root / "store" / "releases" / road.vendor / "roto").rglob("model.onnx"))
    assert [path.read_bytes() for path in served] == [(road.folder / "onnx-fp32" / "model.onnx").read_bytes()]
    studio = Registry(road.studio_uri)
    (known,) = studio.versions(f"{road.vendor}/roto")
    assert verdict["candidate"]["digest"] == known.digest
    with studio._session() as client:
        alias = client.get_model_version_by_alias(f"{road.vendor}.roto", "stable")
        experiment = client.get_experiment_by_name(f"changeover.{road.vendor}.roto")
        assert experiment is not None
        runs = client.search_runs(
            [experiment.experiment_id],
            f"tags.`changeover.envelope` = '{verdict['verdict']}'",
        )
    assert int(alias.version) == known.number
    assert [run.data.tags["changeover.decision"] for run in runs] == ["accept"]
    scored = [name for name in runs[0].data.metrics if "/jaccard.davis2017/" in name]
    assert len(scored) == 6, sorted(runs[0].data.metrics)

    # Everything is as it was signed, on both sides, until somebody alters a file behind MLflow's back.
    assert altered(road) == []
    assert altered(road, *home) == []
    alter(road)
    (one,) = altered(road, *home)
    assert one["place"].endswith("model.onnx")
    assert sha256(served[0].read_bytes()).hexdigest() in one["expected"]
    assert one["expected"] != one["actual"]


def altered(road: Road, *arguments: str) -> list[dict[str, str]]:
    """What `audit` finds of this vendor's; other tests' models on the shared servers are none of ours."""
    code, out, err = road.world.run("audit", *arguments, "--json")
    parts = json.loads(out)["parts"]
    assert [part["trouble"] for part in parts] == [None] * len(parts), err
    found = [one for part in parts for one in part["differences"]]
    assert code == (5 if found else 0)
    return [one for one in found if road.vendor in one["place"]]


def alter(road: Road) -> None:
    """Flip a byte of the model where the vendor's MLflow keeps it."""
    if road.vendor_server is None:
        (path,) = (road.home / "mlartifacts").rglob("model.onnx")
        data = bytearray(path.read_bytes())
        data[100] ^= 1
        path.write_bytes(bytes(data))
        return
    store = road.vendor_server.store
    assert store is not None
    bucket, _, prefix = str(road.vendor_server.artifacts).removeprefix("s3://").partition("/")
    (known,) = Registry(road.vendor_server.uri).versions(f"{road.vendor}/roto")
    listed = store.client().list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
    (key,) = (one["Key"] for one in listed if known.holder in one["Key"] and one["Key"].endswith("model.onnx"))
    data = bytearray(store.client().get_object(Bucket=bucket, Key=key)["Body"].read())
    data[100] ^= 1
    store.client().put_object(Bucket=bucket, Key=key, Body=bytes(data))
