"""The same on a server: whoever owns its PostgreSQL and its bucket can have nothing signed, and `audit` names it."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from changeover_registry import clock
from changeover_registry.errors import TrustError
from changeover_updater import vendor
from changeover_updater.vendor_home import VendorHome, make_home

pytest.importorskip("mlflow", reason="the extra mlflow is not installed")

MODEL = "forge/tiny-roto"
"""A vendor of this file's own: the server is shared by all tests of the session."""
OURS_DOTTED = "forge.tiny-roto"
OURS = "name='forge.tiny-roto' AND version="
SOURCE = "SELECT source FROM model_versions WHERE "
DIGEST = "UPDATE model_version_tags SET value=:value WHERE key='changeover.digest' AND "
POINT = "UPDATE model_versions SET source=:source WHERE "
NUMBERS = {"1.0.0": 1, "1.1.0": 2}


@dataclass
class Rig:
    """A vendor's home whose MLflow is a server: 1.0.0 is published, 1.1.0 registered."""

    home: VendorHome
    server: Any

    def sql(self, statement: str, **values: object) -> list[Any]:
        """What the database's owner does."""
        from sqlalchemy import create_engine, text

        engine = create_engine(self.server.backend)
        try:
            with engine.begin() as connection:
                done = connection.execute(text(statement), values)
                return list(done) if done.returns_rows else [done.rowcount]
        finally:
            engine.dispose()

    def stored(self, version: str, name: str) -> tuple[str, str]:
        """Bucket and key of a file of a release."""
        ((source,),) = self.sql(f"{SOURCE}{OURS}{NUMBERS[version]}")
        bucket, _, prefix = str(self.server.artifacts).removeprefix("s3://").partition("/")
        holder = str(source).removeprefix("models:/")
        listed = self.server.store.client().list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
        (key,) = (one["Key"] for one in listed if f"/{holder}/" in one["Key"] and one["Key"].endswith(name))
        return bucket, key

    def read(self, version: str, name: str) -> bytes:
        bucket, key = self.stored(version, name)
        return bytes(self.server.store.client().get_object(Bucket=bucket, Key=key)["Body"].read())

    def write(self, version: str, name: str, data: bytes) -> None:
        bucket, key = self.stored(version, name)
        self.server.store.client().put_object(Bucket=bucket, Key=key, Body=data)

    def audit(self, world: Any) -> tuple[int, list[dict[str, str]]]:
        """The exit code and what differs of this vendor's; of the models that other tests left here nothing is said."""
        code, out, err = world.run("audit", "mlflow", "--home", str(self.home.folder), "--json")
        assert out, err
        found = json.loads(out)["parts"][0]["differences"]
        assert code == (5 if found else 0)
        mine = [one for one in found if MODEL in json.dumps(one) or OURS_DOTTED in json.dumps(one)]
        return (5 if mine else 0), mine


@pytest.fixture(scope="module")
def rig(mlflow_server: Any, module_world: Any, tmp_path_factory: pytest.TempPathFactory, release_folders: Path) -> Rig:
    server = mlflow_server(backend="postgres", workers=4, artifacts="swift")
    folder = tmp_path_factory.mktemp("home")
    home = make_home(folder / "forge", "forge", server.uri, clock.now()).home
    for version in ("1.0.0", "1.1.0"):
        shutil.copytree(release_folders / version, folder / version)
        toml = folder / version / "release.toml"
        toml.write_text(toml.read_text(encoding="utf-8").replace("acme/tiny-roto", MODEL), encoding="utf-8")
        vendor.register(home, folder / version, clock.now(), interpreter=sys.executable)
    vendor.publish(home, MODEL, "1.0.0", clock.now())
    made = Rig(home, server)
    assert made.audit(module_world) == (0, [])
    return made


def edited_object(rig: Rig) -> tuple[Callable[[], object], str, str]:
    data = rig.read("1.1.0", "model.onnx")
    rig.write("1.1.0", "model.onnx", b"evil")
    return lambda: rig.write("1.1.0", "model.onnx", data), "onnx-fp32/model.onnx", sha(b"evil")


def edited_tag(rig: Rig) -> tuple[Callable[[], object], str, str]:
    old = sha(rig.read("1.1.0", "release.json"))
    assert rig.sql(f"{DIGEST}{OURS}2", value="f" * 64) == [1]
    return lambda: rig.sql(f"{DIGEST}{OURS}2", value=old), "changeover.digest", "f" * 64


def edited_source(rig: Rig) -> tuple[Callable[[], object], str, str]:
    """The version points at the files of another release."""
    ((old,),), ((other,),) = rig.sql(f"{SOURCE}{OURS}2"), rig.sql(f"{SOURCE}{OURS}1")
    assert rig.sql(f"{POINT}{OURS}2", source=other) == [1]
    return (
        lambda: rig.sql(f"{POINT}{OURS}2", source=old) and None,
        "release.json",
        sha(rig.read("1.0.0", "release.json")),
    )


def edited_together(rig: Rig) -> tuple[Callable[[], object], str, str]:
    """Record and tag, as if they belonged together."""
    old = rig.read("1.1.0", "release.json")
    data = old.replace(b"A tiny net", b"A good net")
    rig.write("1.1.0", "release.json", data)
    rig.sql(f"{DIGEST}{OURS}2", value=sha(data))

    def undo() -> None:
        rig.write("1.1.0", "release.json", old)
        rig.sql(f"{DIGEST}{OURS}2", value=sha(old))

    return undo, "release.json", sha(data)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def undone() -> Iterator[list[Callable[[], object]]]:
    """What has to be done for the server to be as it was."""
    found: list[Callable[[], object]] = []
    yield found
    for undo in found:
        undo()


@pytest.mark.parametrize(
    "forge", [edited_object, edited_tag, edited_source, edited_together], ids=lambda forge: forge.__name__
)
def test_what_was_forged_on_the_server_is_never_signed(
    rig: Rig, forge: Any, undone: list[Callable[[], object]], module_world: Any
) -> None:
    before = {path: path.read_bytes() for path in rig.home.repository.rglob("*") if path.is_file()}

    undo, place, actual = forge(rig)
    undone.append(undo)
    with pytest.raises(TrustError):
        vendor.publish(rig.home, MODEL, "1.1.0", clock.now())
    code, found = rig.audit(module_world)

    assert {path: path.read_bytes() for path in rig.home.repository.rglob("*") if path.is_file()} == before
    assert code == 5
    assert [one for one in found if place in one["place"] and actual in one["actual"]], found


def test_object_of_a_published_release_that_was_changed_is_named_with_both_digests(
    rig: Rig, undone: list[Callable[[], object]], module_world: Any
) -> None:
    data = rig.read("1.0.0", "README.md")
    rig.write("1.0.0", "README.md", b"use me for anything")
    undone.append(lambda: rig.write("1.0.0", "README.md", data))

    code, (found,) = rig.audit(module_world)

    assert code == 5
    assert found["place"].endswith(f"{MODEL}@1.0.0, version 1: README.md")
    assert (found["expected"], found["actual"]) == (f"sha256 {sha(data)}", f"sha256 {sha(b'use me for anything')}")
