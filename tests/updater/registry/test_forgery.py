"""Whoever owns MLflow's database and files can neither install nor promote anything, and `audit` names what they did.

Each forgery is done as its administrator would: SQL on the database, edits of the stored files. What has to stay as it
was is the studio's choice, the station's pointer and the bytes in the store; a vendor signs nothing that was forged.
"""

import contextlib
import hashlib
import json
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from changeover_registry import canonical
from changeover_registry.errors import ChangeoverError
from changeover_registry.records.release import Release
from changeover_registry.records.verdict import Verdict
from changeover_updater import records, vendor
from changeover_updater.studio import FiledVerdict
from changeover_updater.vendor_home import VendorHome, make_home

mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")

NAME = "acme.tiny-roto"
EVIL = "f" * 64


@dataclass
class Mlflow:
    """One MLflow as its administrator has it: its database and the folder of its files."""

    database: Path
    artifacts: Path
    kept: Path

    def keep(self) -> None:
        """Remember how all of it is."""
        self.kept.mkdir()
        self._copy(self.database, self.kept / "mlflow.db")
        shutil.copytree(self.artifacts, self.kept / "artifacts")

    def restore(self) -> None:
        """Have it as it was; a connection that is open sees a change like any other."""
        self._copy(self.kept / "mlflow.db", self.database)
        shutil.rmtree(self.artifacts)
        shutil.copytree(self.kept / "artifacts", self.artifacts)

    def sql(self, statement: str, *values: object) -> int:
        """Run one statement; returns how many rows it changed."""
        with contextlib.closing(sqlite3.connect(self.database)) as connection, connection:
            return connection.execute(statement, values).rowcount

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(statement, values).fetchall()

    def number(self, version: str) -> int:
        """The number of the model version of a release."""
        ((found,),) = self.rows(
            "SELECT version FROM model_version_tags WHERE key='changeover.version' AND value=?", version
        )
        return int(found)

    def tag(self, version: str, key: str, value: str) -> None:
        changed = self.sql(
            "UPDATE model_version_tags SET value=? WHERE name=? AND version=? AND key=?",
            *(value, NAME, self.number(version), key),
        )
        assert changed == 1

    def holder(self, version: str) -> str:
        ((source,),) = self.rows("SELECT source FROM model_versions WHERE version=?", self.number(version))
        return str(source).removeprefix("models:/")

    def files(self, version: str) -> Path:
        """The folder of a release's LoggedModel."""
        ((place,),) = self.rows("SELECT artifact_location FROM logged_models WHERE model_id=?", self.holder(version))
        return Path(str(place).removeprefix("file://"))

    @property
    def client(self) -> Any:
        uri = f"sqlite:///{self.database}"
        return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)

    def make_version(self, tags: dict[str, str], holder: str, name: str = NAME) -> int:
        """Make a model version, which looks its source up under MLflow's process-wide address."""
        mlflow.set_tracking_uri(f"sqlite:///{self.database}")
        try:
            made = self.client.create_model_version(name, f"models:/{holder}", tags=tags, model_id=holder)
        finally:
            mlflow.set_tracking_uri(None)
        return int(made.version)

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        with contextlib.closing(sqlite3.connect(source)) as old, contextlib.closing(sqlite3.connect(target)) as new:
            old.backup(new)


@dataclass
class Studio:
    """A studio on 1.0.0, which was told of 1.1.0 and rejected it; its MLflow knows releases and verdicts."""

    world: Any
    mlflow: Mlflow
    first: Release
    second: Release
    verdicts: tuple[str, str]

    def state(self) -> dict[str, str]:
        """All that decides what runs here, by path."""
        folders = (self.world.site.choice, self.world.root / "store" / "releases", self.world.station.folder)
        paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
        kept = [path for path in paths if "timestamp" not in path.name and "events" not in path.parts]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}

    def audit(self) -> tuple[int, list[dict[str, str]]]:
        code, out, err = self.world.run("audit", "mlflow", "--json")
        assert out, err
        (part,) = json.loads(out)["parts"]
        return code, part["differences"]


@pytest.fixture(scope="module")
def shared(module_world: Any, tmp_path_factory: pytest.TempPathFactory) -> Studio:
    world = module_world
    first, second = world.served("1.0.0"), world.publish("1.1.0")
    world.ok("sync")
    accepted = (world.accept(first), first, "accept")
    refused = (world.accept(second, decision="reject", reason="worse on shot 3"), second, "reject")
    for digest, release, decision in (accepted, refused):
        verdict = filed(world, digest)
        assert (verdict.candidate, verdict.decision) == (release.ref(), decision)
        records.log_verdict(world.site, verdict, digest, pytest.fail)
    root = world.site.root / "mlflow"
    kept = Mlflow(root / "mlflow.db", root / "artifacts", tmp_path_factory.mktemp("kept") / "mlflow")
    kept.keep()
    made = Studio(world, kept, first, second, (accepted[0], refused[0]))
    assert made.audit() == (0, [])
    return made


def filed(world: Any, digest: str) -> Verdict:
    from changeover_updater.studio import find_verdict, read_studio, read_verdicts

    found: FiledVerdict = find_verdict(read_verdicts(world.site, read_studio(world.site, world.station)), digest)
    return found.verdict


@pytest.fixture
def studio(shared: Studio) -> Iterator[Studio]:
    """The shared studio; its MLflow is as it was before once the test has ended."""
    yield shared
    shared.mlflow.restore()


# The forgeries. Each returns a part of the place that `audit` must name, and of what it must have found there.


def edited_record(studio: Studio) -> tuple[str, str]:
    path = studio.mlflow.files("1.0.0") / "release.json"
    data = path.read_bytes().replace(b'"matte"', b'"mattes"')
    path.write_bytes(data)
    return "release.json", f"sha256 {canonical.digest(data)}"


def removed_record(studio: Studio) -> tuple[str, str]:
    (studio.mlflow.files("1.0.0") / "release.json").unlink()
    return "release.json", "no such file"


def other_digest(studio: Studio) -> tuple[str, str]:
    studio.mlflow.tag("1.0.0", "changeover.digest", EVIL)
    return "tag changeover.digest", EVIL


def other_licence(studio: Studio) -> tuple[str, str]:
    studio.mlflow.tag("1.0.0", "changeover.licence.weights", "MIT")
    return "tag changeover.licence.weights", "MIT"


def other_version(studio: Studio) -> tuple[str, str]:
    studio.mlflow.tag("1.0.0", "changeover.version", "9.9.9")
    return f"{NAME} version 1", "version 9.9.9"


def source_of_another_release(studio: Studio) -> tuple[str, str]:
    source = f"models:/{studio.mlflow.holder('1.1.0')}"
    number = studio.mlflow.number("1.0.0")
    assert studio.mlflow.sql("UPDATE model_versions SET source=? WHERE version=?", source, number) == 1
    return "release.json", f"sha256 {studio.second.digest()}"


def source_elsewhere(studio: Studio) -> tuple[str, str]:
    number = studio.mlflow.number("1.0.0")
    assert studio.mlflow.sql("UPDATE model_versions SET source=? WHERE version=?", "s3://evil/model", number) == 1
    return "source", "s3://evil/model"


def files_elsewhere(studio: Studio) -> tuple[str, str]:
    other, holder = studio.mlflow.kept.parent / "evil", studio.mlflow.holder("1.0.0")
    other.mkdir(exist_ok=True)
    (other / "release.json").write_bytes(b"{}")
    changed = studio.mlflow.sql("UPDATE logged_models SET artifact_location=? WHERE model_id=?", other.as_uri(), holder)
    assert changed == 1
    return "release.json", f"sha256 {canonical.digest(b'{}')}"


def lost_holder(studio: Studio) -> tuple[str, str]:
    holder = studio.mlflow.holder("1.0.0")
    assert studio.mlflow.sql("UPDATE logged_models SET lifecycle_stage='deleted' WHERE model_id=?", holder) == 1
    return holder, "not found"


def deleted_version(studio: Studio) -> tuple[str, str]:
    studio.mlflow.client.delete_model_version(NAME, str(studio.mlflow.number("1.0.0")))
    return "acme/tiny-roto@1.0.0", "no version"


def deleted_model(studio: Studio) -> tuple[str, str]:
    studio.mlflow.client.delete_registered_model(NAME)
    return "acme/tiny-roto@1.1.0", "no version"


def model_made_again(studio: Studio) -> tuple[str, str]:
    """The same names and tags, with the content of another release behind them."""
    holder, tags = studio.mlflow.holder("1.1.0"), dict(studio.mlflow.client.get_model_version(NAME, "1").tags)
    studio.mlflow.client.delete_registered_model(NAME)
    studio.mlflow.client.create_registered_model(NAME, tags={"changeover.model": "acme/tiny-roto"})
    studio.mlflow.make_version(tags, holder)
    return "release.json", f"sha256 {studio.second.digest()}"


def second_claim(studio: Studio) -> tuple[str, str]:
    """A further version that says it is 1.0.0."""
    tags = {"changeover.model": "acme/tiny-roto", "changeover.version": "1.0.0", "changeover.digest": EVIL}
    return f"{NAME} version {studio.mlflow.make_version(tags, studio.mlflow.holder('1.1.0'))}", EVIL


def release_of_nobody(studio: Studio) -> tuple[str, str]:
    tags = {"changeover.model": "acme/tiny-roto", "changeover.version": "9.9.9", "changeover.digest": EVIL}
    number = studio.mlflow.make_version(tags, studio.mlflow.holder("1.1.0"))
    studio.mlflow.client.set_registered_model_alias(NAME, "stable", str(number))
    return f"{NAME} version {number}", "version 9.9.9"


def model_of_nobody(studio: Studio) -> tuple[str, str]:
    tags = {"changeover.model": "acme/evil-roto", "changeover.version": "1.0.0", "changeover.digest": EVIL}
    studio.mlflow.client.create_registered_model("acme.evil-roto", tags={"changeover.model": "acme/evil-roto"})
    studio.mlflow.make_version(tags, studio.mlflow.holder("1.1.0"), "acme.evil-roto")
    return "acme.evil-roto version 1", EVIL


def accepted_by_tag(studio: Studio) -> tuple[str, str]:
    """The run of a verdict that rejects says that it accepts."""
    run = run_of(studio, studio.verdicts[1])
    assert studio.mlflow.sql("UPDATE tags SET value='accept' WHERE run_uuid=? AND key='changeover.decision'", run) == 1
    return f"run {run}: tag changeover.decision", "accept"


def other_envelope(studio: Studio) -> tuple[str, str]:
    """The artifact of a verdict that rejects is the signed one of a verdict that accepts."""
    run = run_of(studio, studio.verdicts[1])
    (path,) = studio.mlflow.artifacts.rglob(f"{run}/artifacts/verdict.dsse.json")
    data = (studio.world.site.verdicts / f"{studio.verdicts[0]}.json").read_bytes()
    path.write_bytes(data)
    return f"run {run}: verdict.dsse.json", f"sha256 {studio.verdicts[0]}"


def run_of(studio: Studio, verdict: str) -> str:
    ((run,),) = studio.mlflow.rows("SELECT run_uuid FROM tags WHERE key='changeover.envelope' AND value=?", verdict)
    return str(run)


FORGERIES = [
    *(edited_record, removed_record, other_digest, other_licence, other_version),
    *(source_of_another_release, source_elsewhere, files_elsewhere, lost_holder),
    *(deleted_version, deleted_model, model_made_again, second_claim, release_of_nobody, model_of_nobody),
    *(accepted_by_tag, other_envelope),
]


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_what_mlflows_administrator_forges_moves_nothing_and_audit_names_it(
    studio: Studio, forge: Callable[[Studio], tuple[str, str]]
) -> None:
    before = studio.state()

    place, actual = forge(studio)
    code, found = studio.audit()
    studio.world.ok("sync")
    studio.world.ok("update")
    refused = [studio.world.run("promote", f"tiny-roto@{v}", "--reason", "go")[0] for v in ("1.1.0", "9.9.9")]

    assert code == 5
    named = [one for one in found if place in one["place"] and actual in one["actual"]]
    assert named, found
    assert refused[0] in {3, 4}
    assert refused[1] == 2
    assert studio.state() == before


def test_alias_moved_by_hand_is_followed_by_nobody(studio: Studio) -> None:
    client, before = studio.mlflow.client, studio.state()

    for alias in ("stable", "show-atlas", "prod"):
        client.set_registered_model_alias(NAME, alias, str(studio.mlflow.number("1.1.0")))
    studio.world.ok("sync")
    studio.world.ok("update")

    assert studio.state() == before
    assert "1.0.0" in studio.world.ok("status")
    assert studio.audit()[0] == 0


def test_verdict_that_is_only_in_mlflow_promotes_nothing(studio: Studio) -> None:
    """A whole run with every tag, metric and artifact that an accepting verdict has, but no signature in the site."""
    world, before = studio.world, studio.state()
    own = filed(world, studio.verdicts[0])
    forged = own.model_copy(update={"candidate": studio.second.ref()})
    envelope = (world.site.verdicts / f"{studio.verdicts[0]}.json").read_bytes()
    from changeover_registry.mlflow_adapter.registry import Registry

    registry = Registry(world.site.mlflow_uri(), world.site.root / "mlflow" / "artifacts")
    registry.log_verdict(forged, EVIL, {"verdict.dsse.json": envelope})

    code, _, _ = world.run("promote", "tiny-roto@1.1.0", "--reason", "MLflow says that it was accepted")

    assert code in {3, 4}
    assert studio.state() == before


def test_mlflow_that_is_gone_stops_no_artist(studio: Studio) -> None:
    before = studio.state()
    studio.mlflow.sql("DROP TABLE model_versions")

    studio.world.ok("update")
    studio.world.ok("status")
    code, _ = studio.audit()

    assert code == 6
    assert studio.state() == before


# The vendor's MLflow, which holds the bytes themselves.


@dataclass
class Home:
    home: VendorHome
    mlflow: Mlflow

    def publish(self) -> None:
        from changeover_registry import clock

        vendor.publish(self.home, "acme/tiny-roto", "1.1.0", clock.now())

    def state(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.home.repository.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory, release_folders: Path) -> Home:
    """A vendor's home with a release that is published, 1.0.0, and one that is registered, 1.1.0."""
    from changeover_registry import clock

    folder = tmp_path_factory.mktemp("home")
    home = make_home(folder / "acme", "acme", "", clock.now()).home
    for version in ("1.0.0", "1.1.0"):
        shutil.copytree(release_folders / version, folder / version)
        vendor.register(home, folder / version, clock.now(), interpreter=sys.executable)
    vendor.publish(home, "acme/tiny-roto", "1.0.0", clock.now())
    kept = Mlflow(home.folder / "mlflow.db", home.folder / "mlartifacts", folder / "kept")
    kept.keep()
    return Home(home, kept)


@pytest.fixture
def home(shared_home: Home) -> Iterator[Home]:
    own = shared_home.home.own_record("acme/tiny-roto", "1.1.0")
    record = own.read_bytes()
    yield shared_home
    shared_home.mlflow.restore()
    own.write_bytes(record)


def edited_model(home: Home) -> str:
    path = home.mlflow.files("1.1.0") / "onnx-fp32" / "model.onnx"
    path.write_bytes(path.read_bytes().replace(b"matte", b"mette"))
    return "onnx-fp32/model.onnx"


def edited_all(home: Home) -> str:
    """The model, its record and the digest in the tags, all of them as if they belonged together."""
    folder = home.mlflow.files("1.1.0")
    other = home.mlflow.files("1.0.0")
    data = (other / "release.json").read_bytes().replace(b'"version":"1.0.0"', b'"version":"1.1.0"')
    for path in other.rglob("*"):
        if path.is_file():
            shutil.copy(path, folder / path.relative_to(other))
    (folder / "release.json").write_bytes(data)
    home.mlflow.tag("1.1.0", "changeover.digest", canonical.digest(data))
    return "release.json"


def other_holder(home: Home) -> str:
    source = f"models:/{home.mlflow.holder('1.0.0')}"
    home.mlflow.sql("UPDATE model_versions SET source=? WHERE version=?", source, home.mlflow.number("1.1.0"))
    return "release.json"


def made_again(home: Home) -> str:
    tags = dict(home.mlflow.client.get_model_version(NAME, "2").tags)
    holder = home.mlflow.holder("1.0.0")
    home.mlflow.client.delete_registered_model(NAME)
    home.mlflow.client.create_registered_model(NAME, tags={"changeover.model": "acme/tiny-roto"})
    home.mlflow.make_version(tags, holder)
    return "release.json"


def edited_all_elsewhere(home: Home) -> str:
    """The same in a home that did not register the release, and so has nothing but MLflow's word."""
    home.home.own_record("acme/tiny-roto", "1.1.0").unlink()
    return edited_all(home)


def lost_model(home: Home) -> str:
    (home.mlflow.files("1.1.0") / "onnx-fp32" / "smoke.npz").unlink()
    return "onnx-fp32/smoke.npz"


@pytest.mark.parametrize(
    "forge",
    [edited_model, edited_all, other_holder, made_again, lost_model, edited_all_elsewhere],
    ids=lambda forge: forge.__name__,
)
def test_what_was_forged_in_a_vendors_mlflow_is_never_signed(
    home: Home, forge: Callable[[Home], str], module_world: Any
) -> None:
    before = home.state()
    assert module_world.run("audit", "--home", str(home.home.folder))[0] == 0

    name = forge(home)
    with pytest.raises(ChangeoverError) as caught:
        home.publish()
    code, out, _ = module_world.run("audit", "--home", str(home.home.folder), "--json")

    assert caught.value.exit_code == 5
    assert name in caught.value.where
    assert home.state() == before
    assert code == 5
    named = [one for part in json.loads(out)["parts"] for one in part["differences"]]
    # Where nobody kept what was registered, the whole version is one that nobody vouches for.
    assert any(name in one["place"] or "version 1.1.0 with digest" in one["actual"] for one in named)


def test_published_files_that_were_changed_in_mlflow_are_named_with_both_digests(home: Home, module_world: Any) -> None:
    """What is published is safe in the repository; that MLflow's copy is another one is told all the same."""
    path = home.mlflow.files("1.0.0") / "onnx-fp32" / "model.onnx"
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(b"evil")

    code, out, _ = module_world.run("audit", "mlflow", "--home", str(home.home.folder), "--json")

    (part,) = json.loads(out)["parts"]
    (difference,) = part["differences"]
    assert code == 5
    assert difference["place"].endswith("acme/tiny-roto@1.0.0, version 1: onnx-fp32/model.onnx")
    assert difference["expected"] == f"sha256 {expected}"
    assert difference["actual"] == f"sha256 {hashlib.sha256(b'evil').hexdigest()}"


def test_document_that_was_changed_in_mlflow_is_named(home: Home, module_world: Any) -> None:
    path = home.mlflow.files("1.0.0") / "README.md"
    path.write_text("use me for anything", encoding="utf-8")

    code, out, _ = module_world.run("audit", "mlflow", "--home", str(home.home.folder), "--json")

    (difference,) = json.loads(out)["parts"][0]["differences"]
    assert (code, difference["kind"]) == (5, "altered")
    assert difference["place"].endswith("README.md")


def test_file_that_was_added_beside_a_releases_own_is_named_and_not_published(home: Home, module_world: Any) -> None:
    (home.mlflow.files("1.1.0") / "onnx-fp32" / "evil.so").write_bytes(b"evil")

    code, out, _ = module_world.run("audit", "mlflow", "--home", str(home.home.folder), "--json")
    home.publish()

    assert code == 5
    assert "onnx-fp32/evil.so" in out
    assert not [path for path in home.home.repository.rglob("*") if path.is_file() and path.read_bytes() == b"evil"]
