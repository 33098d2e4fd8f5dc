import contextlib
import hashlib
import io
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from changeover_registry.errors import LostRaceError, RefusedError, TrustError, UnreachableError
from changeover_registry.mlflow_adapter._entries import versions
from changeover_registry.mlflow_adapter._errors import Failure, unreachable
from changeover_registry.mlflow_adapter.registry import Registered, Registry, artifact_path, local_uri
from changeover_registry.records.base import Unknown
from changeover_registry.records.findings import Passed
from changeover_registry.records.memory import MemoryAnswer, MemoryKey, MemoryMeasurement, MemoryRange, Steady
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
    Tile,
    Variant,
)
from changeover_registry.records.verdict import GoldenSetRef, OperatingPoint, PointReport, ShotScore, Verdict
from changeover_servers import KINDS

pytest.importorskip("mlflow", reason="the extra mlflow is not installed")

WEIGHTS = bytes(range(256)) * 40
DIGEST = "0123456789abcdef" * 4
MODEL = "acme/person-roto"


def release(version: str = "1.0.0", changes: str = "First release.", weights: bytes = WEIGHTS) -> Release:
    digest = hashlib.sha256(weights).hexdigest()
    variant = Variant(
        id="onnx-fp32",
        runtime="onnx",
        precision="fp32",
        loaders=("python",),
        entry="model.onnx",
        files=(FileEntry(path="model.onnx", size=len(weights), sha256=digest, blocks=(digest,)),),
        contract=Contract(
            evaluation="stateless",
            inputs=(TensorIn(name="x", port="plate", channels=("red",)),),
            output=TensorOut(name="y", port="matte"),
            colour="srgb",
        ),
        requires=Requires(opset=17),
    )
    return Release(
        model=MODEL,
        version=version,
        summary="Mattes of persons.",
        changes=changes,
        licences=Licences(code="MIT", weights="MIT", training_data="none"),
        interface=Interface(
            inputs=(Port(name="plate", channels=("red",), colour="scene-linear"),),
            outputs=(Port(name="matte", channels=("alpha",), colour="raw"),),
        ),
        variants=(variant,),
    )


def verdict(candidate: Release, jaccard: str = "0.91") -> Verdict:
    point = OperatingPoint(variant="onnx-fp32", precision="fp32", tile=Tile(size=256, overlap=32), provider="cpu")
    scores = (
        ShotScore(shot="shot-010", metric="jaccard", frames=12, candidate=jaccard, current="0.9"),
        ShotScore(shot="shot-020", metric="jaccard", frames=12, candidate="0.8"),
        ShotScore(shot="shot-020", metric="mad:rvm", frames=12, candidate="0.01"),
    )
    return Verdict(
        candidate=candidate.ref(),
        decision="accept",
        reason="every lower bound lies above its margin",
        made_at="2026-11-22T13:45:00Z",
        made_by="td@host",
        host="host",
        host_class=DIGEST,
        facts=DIGEST,
        policy=DIGEST,
        sandbox="bubblewrap",
        golden_set=GoldenSetRef(name="atlas", version=2, digest=DIGEST),
        findings=(Passed(check="trust"),),
        points=(PointReport(point=point, frame_us=1500, scores=scores),),
    )


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A database with all of MLflow's tables, which take two seconds to make, and what was printed on the way."""
    path = tmp_path_factory.mktemp("mlflow") / "new" / "mlflow.db"
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(printed):
        assert Registry(local_uri(path)).versions(MODEL) == ()
    return path, printed.getvalue()


@pytest.fixture(scope="session")
def migrated(made: tuple[Path, str]) -> Path:
    return made[0]


@pytest.fixture
def home(tmp_path: Path, migrated: Path) -> Path:
    shutil.copy(migrated, tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    path = tmp_path / "release" / "onnx-fp32" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(WEIGHTS)
    return {"onnx-fp32/model.onnx": path}


def memory_measurement(predicted: int | None, error: str | None) -> MemoryMeasurement:
    key = MemoryKey(model="ab" * 32, runtime="onnxruntime", version="1.31.1", provider="cpu", width=1920, height=1088)
    answer = predicted and MemoryAnswer(
        key=key,
        steady=Steady(in_use_bytes=predicted, arena_bytes=predicted),
        range=MemoryRange(low_bytes=predicted, high_bytes=predicted, sessions=5),
        parts=(),
        total_bytes=predicted,
        requested_bytes=predicted,
        label="modelled",
    )
    return MemoryMeasurement(
        key=key,
        host="ws-01",
        made_at="2026-11-22T13:45:00Z",
        runs=5,
        loaded=Steady(in_use_bytes=336, arena_bytes=336),
        first=Steady(in_use_bytes=900_000, arena_bytes=1_048_576),
        steady=Steady(in_use_bytes=1_500_000, arena_bytes=2_097_152),
        resting_bytes=2_097_152,
        process_bytes=90_000_000,
        accounted_bytes=Unknown(unknown="on the CPU"),
        predicted=answer or None,
        error=error,
    )


@pytest.fixture
def local(home: Path) -> Registry:
    return Registry(local_uri(home / "mlflow.db"), home / "mlartifacts")


@pytest.fixture(params=["sqlite", *KINDS])
def registry(request: pytest.FixtureRequest) -> Registry:
    if request.param == "sqlite":
        found: Registry = request.getfixturevalue("local")
        return found
    return Registry(request.getfixturevalue("mlflow_server")(**KINDS[request.param]).uri)


@pytest.fixture
def fresh(request: pytest.FixtureRequest) -> Callable[[str], Release]:
    """Releases that no other test has: the server is shared by all tests of a session."""
    text = request.node.name

    def make(version: str, changes: str = "changed") -> Release:
        name = "m" + hashlib.sha256(text.encode()).hexdigest()[:10]
        return release(version, changes).model_copy(update={"model": f"acme/{name}"})

    return make


def test_registered_bytes_come_back_unchanged(
    registry: Registry, fresh: Callable[..., Release], files: dict[str, Path], tmp_path: Path
) -> None:
    made = fresh("1.0.0")
    arrived: list[int] = []

    outcome = registry.register_release(made, files, {"bom.cdx.json": b"{}"}, progress=arrived.append)

    assert outcome.new
    assert arrived == [len(WEIGHTS)]
    found = registry.find(made.model, "1.0.0")
    assert found == outcome.registered
    assert found is not None
    assert found.digest == made.digest()
    assert registry.fetch(found, "release.json", tmp_path / "back").read_bytes() == made.to_bytes()
    back = registry.fetch(found, artifact_path(made.variants[0], "model.onnx"), tmp_path / "back")
    assert back == tmp_path / "back" / "onnx-fp32" / "model.onnx"
    assert back.read_bytes() == WEIGHTS
    assert registry.fetch(found, "bom.cdx.json", tmp_path / "back").read_bytes() == b"{}"


def test_same_content_again_is_no_second_version(
    registry: Registry, fresh: Callable[..., Release], files: dict[str, Path]
) -> None:
    first = registry.register_release(fresh("1.0.0"), files, {})

    again = registry.register_release(fresh("1.0.0"), files, {})

    assert again.registered == first.registered
    assert not again.new
    assert len(registry.versions(fresh("1.0.0").model)) == 1


def test_same_version_with_other_content_is_refused(
    registry: Registry, fresh: Callable[..., Release], files: dict[str, Path]
) -> None:
    registry.register_release(fresh("1.0.0", "one"), files, {})

    with pytest.raises(RefusedError, match="never changes") as caught:
        registry.register_release(fresh("1.0.0", "two"), files, {})

    assert fresh("1.0.0", "one").digest()[:12] in caught.value.expected
    assert fresh("1.0.0", "two").digest()[:12] in caught.value.actual


def test_versions_are_listed_in_the_order_of_registration(registry: Registry, fresh: Callable[..., Release]) -> None:
    for version in ("1.0.0", "1.1.0rc1", "0.9.0"):
        registry.know_release(fresh(version))

    listed = registry.versions(fresh("1.0.0").model)

    assert [entry.version for entry in listed] == ["1.0.0", "1.1.0rc1", "0.9.0"]
    assert [entry.number for entry in listed] == [1, 2, 3]


def test_versions_on_several_pages_are_all_listed(local: Registry) -> None:
    for number in range(5):
        local.know_release(release(f"1.{number}.0"))

    with local._session() as client:
        paged = versions(client, MODEL, size=2)

    assert paged == local.versions(MODEL)
    assert [entry.version for entry in paged] == [f"1.{n}.0" for n in range(5)]


def test_unknown_model_has_no_versions(registry: Registry) -> None:
    assert registry.versions("acme/never-made") == ()
    assert registry.find("acme/never-made", "1.0.0") is None


def test_studio_knows_a_release_by_its_record_without_its_bytes(
    registry: Registry, fresh: Callable[..., Release], tmp_path: Path
) -> None:
    made = fresh("2.0.0")

    known = registry.know_release(made, {"bom.cdx.json": b"{}"}).registered

    assert registry.fetch(known, "release.json", tmp_path).read_bytes() == made.to_bytes()
    with pytest.raises(TrustError, match=r"onnx-fp32/model\.onnx"):
        registry.fetch(known, "onnx-fp32/model.onnx", tmp_path)
    assert not registry.know_release(made).new


def test_verdict_becomes_one_run_with_a_metric_for_each_shot(registry: Registry, fresh: Callable[..., Release]) -> None:
    made = fresh("1.0.0")
    holder = registry.know_release(made).registered.holder

    documents = {"verdict.dsse.json": b"envelope", "pictures/shot-010/plate.png": b"pixels"}
    run = registry.log_verdict(verdict(made), DIGEST, documents)

    assert registry.log_verdict(verdict(made), DIGEST, documents) == run
    assert registry.log_verdict(verdict(made, "0.5"), "f" * 64, {}) != run
    with registry._session() as client:
        kept = client.get_run(run)
        bound = {metric.key: metric for metric in client.get_logged_model(holder).metrics or []}
        stored = sorted(
            item.path for folder in (None, "pictures/shot-010") for item in client.list_artifacts(run, folder)
        )
    prefix = "onnx-fp32/256_32/cpu"
    assert kept.data.metrics == {
        f"{prefix}/jaccard/shot-010": 0.91,
        f"{prefix}/jaccard/shot-010/current": 0.9,
        f"{prefix}/jaccard/shot-020": 0.8,
        f"{prefix}/mad.rvm/shot-020": 0.01,
        f"{prefix}/frame_us": 1500.0,
        "jaccard/shot-010": 0.91,
        "jaccard/shot-020": 0.8,
        "mad.rvm/shot-020": 0.01,
        "frame_us": 1500.0,
    }
    assert kept.data.tags["changeover.decision"] == "accept"
    assert kept.data.tags["changeover.digest"] == made.digest()
    assert kept.data.tags["changeover.envelope"] == DIGEST
    assert kept.info.status == "FINISHED"
    assert kept.info.start_time == 1795355100000
    assert stored == ["pictures", "pictures/shot-010/plate.png", "verdict.dsse.json"]
    assert bound[f"{prefix}/jaccard/shot-020"].dataset_name == "atlas"
    assert bound[f"{prefix}/jaccard/shot-020"].dataset_digest == "2-0123456789ab"


def test_more_numbers_than_mlflow_takes_at_once_all_arrive(local: Registry) -> None:
    made = verdict(release())
    scores = tuple(
        ShotScore(shot=f"shot-{number}", metric="mad:rvm", frames=1, candidate="0.25", current="0.5")
        for number in range(600)
    )
    point = made.points[0].model_copy(update={"scores": scores})

    run = local.log_verdict(made.model_copy(update={"points": (point,)}), DIGEST, {})

    with local._session() as client:
        assert len(client.get_run(run).data.metrics) == 3 * 600 + 2


def test_verdict_of_a_release_that_is_not_known_is_kept_all_the_same(local: Registry) -> None:
    made = verdict(release()).model_copy(update={"golden_set": None, "points": ()})

    run = local.log_verdict(made, DIGEST, {})

    with local._session() as client:
        kept = client.get_run(run).data
    assert kept.metrics == {}
    assert kept.tags["changeover.golden_set"] == "none"


def test_measurement_of_memory_becomes_one_run_with_what_was_predicted_beside_it(
    registry: Registry, fresh: Callable[..., Release]
) -> None:
    made = fresh("1.0.0")
    holder = registry.know_release(made).registered.holder
    measured = memory_measurement(predicted=2_000_000, error="-0.04")

    run = registry.log_memory(made.model, "1.0.0", measured)

    assert registry.log_memory(made.model, "1.0.0", measured) == run
    assert registry.log_memory(made.model, "1.0.0", memory_measurement(None, None)) != run
    with registry._session() as client:
        kept = client.get_run(run)
        bound = {metric.key for metric in client.get_logged_model(holder).metrics or []}
        stored = [item.path for item in client.list_artifacts(run)]
    assert kept.data.metrics == {
        "memory/measured/loaded_arena_bytes": 336.0,
        "memory/measured/first_in_use_bytes": 900_000.0,
        "memory/measured/first_arena_bytes": 1_048_576.0,
        "memory/measured/steady_in_use_bytes": 1_500_000.0,
        "memory/measured/steady_arena_bytes": 2_097_152.0,
        "memory/measured/resting_bytes": 2_097_152.0,
        "memory/measured/process_bytes": 90_000_000.0,
        "memory/predicted/steady_in_use_bytes": 2_000_000.0,
        "memory/predicted/steady_arena_bytes": 2_000_000.0,
        "memory/predicted/range_low_bytes": 2_000_000.0,
        "memory/predicted/range_high_bytes": 2_000_000.0,
        "memory/predicted/total_bytes": 2_000_000.0,
        "memory/error": -0.04,
    }
    assert kept.data.tags["changeover.memory"] == measured.digest()
    assert kept.data.tags["changeover.memory.tensor"] == "1920x1088"
    assert kept.data.tags["changeover.memory.gpu"] == "none"
    assert kept.info.status == "FINISHED"
    assert "memory/error" in bound
    assert stored == ["measurement.json"]


def test_version_made_by_hand_is_not_a_release(local: Registry, files: dict[str, Path]) -> None:
    known = local.register_release(release(), files, {}).registered
    with local._session() as client:
        client.create_model_version("acme.person-roto", source=f"models:/{known.holder}", model_id=known.holder)

    assert local.versions(MODEL) == (known,)


def test_of_two_at_once_the_lower_number_counts_and_the_other_is_told(local: Registry, files: dict[str, Path]) -> None:
    def somebody_else(_: int) -> None:
        Registry(local._connection.uri, local._artifacts).know_release(release(changes="theirs"))

    with pytest.raises(LostRaceError, match="under number 1"):
        local.register_release(release(changes="ours"), files, {}, progress=somebody_else)

    found = local.find(MODEL, "1.0.0")
    assert found is not None
    assert found.digest == release(changes="theirs").digest()


def test_of_two_at_once_with_one_content_both_get_the_same_version(local: Registry, files: dict[str, Path]) -> None:
    others: list[Registered] = []

    def somebody_else(_: int) -> None:
        others.append(Registry(local._connection.uri, local._artifacts).know_release(release()).registered)

    outcome = local.register_release(release(), files, {}, progress=somebody_else)

    assert outcome.registered == others[0]
    assert not outcome.new


def test_registration_that_dies_midway_leaves_no_version(local: Registry, files: dict[str, Path]) -> None:
    def die(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.register_release(release(), files, {}, progress=die)

    assert local.versions(MODEL) == ()
    assert local.register_release(release(), files, {}).new


def test_nothing_is_made_in_the_working_folder(home: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "record.json").write_bytes(release().to_bytes())
    program = (
        "import os, sys; from pathlib import Path\n"
        "from changeover_registry.mlflow_adapter.registry import Registry\n"
        "from changeover_registry.records.release import Release\n"
        "release = Release.from_bytes(Path(sys.argv[1]).read_bytes(), where='record')\n"
        "registry = Registry(sys.argv[2], Path(sys.argv[3]))\n"
        "known = registry.know_release(release).registered\n"
        "registry.fetch(known, 'release.json', Path(sys.argv[3], 'back'))\n"
        "assert 'MLFLOW_TRACKING_URI' not in os.environ\n"
    )
    arguments = [str(tmp_path / "record.json"), local_uri(home / "mlflow.db"), str(tmp_path / "art")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}

    subprocess.run([sys.executable, "-c", program, *arguments], cwd=tmp_path / "elsewhere", env=environment, check=True)

    assert (tmp_path / "art" / "back" / "release.json").read_bytes() == release().to_bytes()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_nothing_is_printed(made: tuple[Path, str], local: Registry, capfd: pytest.CaptureFixture[str]) -> None:
    local.know_release(release())

    assert capfd.readouterr() == ("", "")
    assert made[1] == ""


def test_server_that_is_not_there_is_one_line_within_seconds(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.monotonic()

    with pytest.raises(UnreachableError, match=f"127.0.0.1:{port}") as caught:
        Registry(f"http://somebody:secret@127.0.0.1:{port}").versions(MODEL)

    assert caught.value.actual == "no connection (Connection refused)"
    assert "secret" not in str(caught.value)
    assert caplog.records == []
    assert "somebody:***@" in caught.value.where
    assert time.monotonic() - began < 15


def test_database_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)

    with pytest.raises(UnreachableError, match=r"mlflow\.db"):
        Registry(local_uri(tmp_path / "mlflow.db")).versions(MODEL)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("HTTPConnectionPool: Max retries exceeded (Caused by ...)", "no connection"),
        ("first line\nsecond line", "first line"),
        ("x" * 500, "x" * 237 + "..."),
        ("", "no words"),
    ],
)
def test_of_what_mlflow_says_one_short_line_is_kept(said: str, kept: str) -> None:
    assert unreachable("mlflow", Failure(said)).actual == kept


def test_without_the_package_the_line_names_the_extra(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['mlflow'] = None\n"
        "from changeover_registry.mlflow_adapter.registry import Registry\n"
        "from changeover_registry.errors import UnreachableError\n"
        "try:\n    Registry('sqlite:///x.db').versions('acme/a')\n"
        "except UnreachableError as error:\n    print(error)\n"
    )

    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert "changeover[mlflow]" in ended.stdout


def test_importing_the_adapter_does_not_import_mlflow() -> None:
    program = "import sys, changeover_registry.mlflow_adapter.registry; assert 'mlflow' not in sys.modules"

    subprocess.run([sys.executable, "-c", program], check=True)
