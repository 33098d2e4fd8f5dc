"""What arrives is read again before anybody sees it, and what a killed registration left is cleared away."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.errors import InvalidInputError, RefusedError, TrustError, UnreachableError
from changeover_registry.mlflow_adapter import _aliases, _entries, _holders
from changeover_registry.mlflow_adapter.page import WHOLE
from changeover_registry.mlflow_adapter.registry import Held, Registry, local_uri
from changeover_registry.records.release import Release
from changeover_servers import KINDS, MlflowServer
from changeover_servers.releases import accepted, put_files, small_release

pytest.importorskip("mlflow", reason="the extra mlflow is not installed")

MODEL = "acme/person-roto"
CONTENT = bytes(range(256)) * 40
RELEASE = small_release(MODEL, "1.0.0", CONTENT)
SERVERS = str(Path(__file__).parents[1] / "servers")


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all of MLflow's tables, which take two seconds to make."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    assert Registry(local_uri(path)).versions(MODEL) == ()
    return path


@pytest.fixture
def registry(migrated: Path, tmp_path: Path) -> Registry:
    shutil.copy(migrated, tmp_path / "mlflow.db")
    return Registry(local_uri(tmp_path / "mlflow.db"), tmp_path / "artifacts")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    return put_files(tmp_path / "release", CONTENT)


@pytest.fixture(params=list(KINDS))
def server(request: pytest.FixtureRequest, mlflow_server: Callable[..., MlflowServer]) -> Registry:
    return Registry(mlflow_server(**KINDS[request.param]).uri)


def held(registry: Registry) -> dict[str, Any]:
    """Every LoggedModel of the model's experiment, by its id."""
    with registry._session() as client:
        experiment = client.get_experiment_by_name(f"changeover.{MODEL.replace('/', '.')}")
        found = client.search_logged_models([experiment.experiment_id]) if experiment else []
        return {str(one.model_id): one for one in found}


def leave_behind(registry: Registry, mark: str | None = None) -> str:
    """What a registration leaves that got as far as its first file; returns the LoggedModel's id."""
    with registry._session() as client:
        experiment = registry._experiment(client, MODEL)
        tags = {"changeover.version": "1.0.0", "changeover.registering": mark or _holders._myself()}
        return str(client.create_logged_model(experiment, name="left", tags=tags).model_id)


def test_bytes_that_did_not_arrive_as_they_were_sent_are_never_visible(
    registry: Registry, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = _holders._read_again

    def spoil(client: Any, holder: str, path: str, must: Any) -> None:
        for stored in (tmp_path / "artifacts").rglob("model.onnx"):
            stored.write_bytes(CONTENT[:-1] + b"?")
        send(client, holder, path, must)

    monkeypatch.setattr(_holders, "_read_again", spoil)

    with pytest.raises(TrustError, match="nothing was registered") as caught:
        registry.register_release(RELEASE, files, {})

    assert caught.value.where == "onnx-fp32/model.onnx"
    assert registry.versions(MODEL) == ()
    assert held(registry) == {}
    assert not list((tmp_path / "artifacts").rglob("model.onnx"))


def test_file_that_is_not_what_its_record_says_is_never_registered(registry: Registry, files: dict[str, Path]) -> None:
    files["onnx-fp32/model.onnx"].write_bytes(CONTENT + b"more")

    with pytest.raises(TrustError, match="what was sent"):
        registry.register_release(RELEASE, files, {})

    assert registry.versions(MODEL) == ()


def test_killed_registration_leaves_nothing_visible_and_the_next_one_clears_it_away(
    registry: Registry, files: dict[str, Path], tmp_path: Path
) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from changeover_registry.mlflow_adapter.registry import Registry\n"
        "from changeover_servers.releases import put_files, small_release\n"
        "content = bytes(range(256)) * 40\n"
        "registry = Registry(sys.argv[1], Path(sys.argv[2]))\n"
        "registry.register_release(small_release('acme/person-roto', '1.0.0', content),\n"
        "    put_files(Path(sys.argv[3]), content), {}, progress=lambda _: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    arguments = [registry._connection.uri, str(tmp_path / "artifacts"), str(tmp_path / "theirs")]
    killed = subprocess.run(
        [sys.executable, "-c", program, *arguments], env={**os.environ, "PYTHONPATH": SERVERS}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert registry.versions(MODEL) == ()
    (left,) = held(registry)

    done = registry.register_release(RELEASE, files, {})

    assert done.new
    assert list(held(registry)) == [done.registered.holder]
    assert left not in {path.name for path in (tmp_path / "artifacts").rglob("m-*") if list(path.rglob("*.onnx"))}


def test_registration_that_may_still_run_is_left_alone(registry: Registry, files: dict[str, Path]) -> None:
    ours, elsewhere = leave_behind(registry), leave_behind(registry, "another-host/boot/pid:[1] 12 345")
    nonsense = leave_behind(registry, "nobody knows")

    done = registry.register_release(RELEASE, files, {}).registered

    assert set(held(registry)) == {ours, elsewhere, nonsense, done.holder}


def test_registration_of_another_host_counts_as_over_after_a_week(
    registry: Registry, files: dict[str, Path], tmp_path: Path
) -> None:
    import sqlite3

    old, young = (leave_behind(registry, "another-host/boot/pid:[1] 12 345") for _ in range(2))
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        week = 8 * 24 * 3600 * 1000
        database.execute(
            "UPDATE logged_models SET creation_timestamp_ms = creation_timestamp_ms - ?, "
            "last_updated_timestamp_ms = last_updated_timestamp_ms - ? WHERE model_id = ?",
            (week, week, old),
        )

    done = registry.register_release(RELEASE, files, {}).registered

    assert set(held(registry)) == {young, done.holder}


def test_what_a_version_points_at_is_never_cleared_away(registry: Registry, files: dict[str, Path]) -> None:
    done = registry.register_release(RELEASE, files, {}).registered
    with registry._session() as client:
        # As after a kill between the version and the end of its registration, by a process that is over.
        gone = f"{_holders._here()} 99999999 1"
        client.set_logged_model_tags(done.holder, {"changeover.registering": gone})
        client.delete_registered_model("acme.person-roto")
        client.create_registered_model("acme.person-roto", tags={"changeover.model": MODEL})
        tags = {"changeover.model": MODEL, "changeover.version": "0.9.0", "changeover.digest": "0" * 64}
        client.create_model_version("acme.person-roto", f"models:/{done.holder}", tags=tags, model_id=done.holder)

    again = registry.register_release(RELEASE, files, {}).registered

    assert set(held(registry)) == {done.holder, again.holder}


@pytest.mark.parametrize(
    "location",
    ["file:///home/td", "file:///home/td/m-1/../..", "s3://bucket/others", "mlflow-artifacts:/1/models/m-12/artifacts"],
)
def test_bytes_are_deleted_only_where_the_logged_model_itself_lies(location: str) -> None:
    assert not _holders._lies_apart(location, "m-1")
    assert _holders._lies_apart("mlflow-artifacts:/1/models/m-1/artifacts", "m-1")


def test_model_that_is_full_is_refused_with_a_sentence(
    registry: Registry, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        registry.know_release(small_release(MODEL, f"1.{number}.0", CONTENT))
    with registry._session() as client:
        _entries.check_room(client, MODEL, "here", most=4)
        with pytest.raises(UnreachableError, match=r"fewer than 3 versions.*3 of them; delete in MLflow"):
            _entries.check_room(client, MODEL, "here", most=3)
        client.delete_model_version("acme.person-roto", "1")
        _entries.check_room(client, MODEL, "here", most=3)


def test_version_whose_tags_are_nonsense_is_no_release(registry: Registry, files: dict[str, Path]) -> None:
    known = registry.register_release(RELEASE, files, {}).registered
    with registry._session() as client:
        for version, digest in (("2.0.0", ""), ("2.0.0", "f" * 63), ("two", "f" * 64)):
            tags = {"changeover.model": MODEL, "changeover.version": version, "changeover.digest": digest}
            client.create_model_version("acme.person-roto", f"models:/{known.holder}", tags=tags)

    assert registry.versions(MODEL) == (known,)
    with pytest.raises(InvalidInputError):
        registry.find(MODEL, "2.0.0' OR '1'='1")


def test_document_is_read_by_the_digest_that_its_registration_noted(
    registry: Registry, files: dict[str, Path], tmp_path: Path
) -> None:
    known = registry.register_release(RELEASE, files, {"bom.cdx.json": b"{}"}).registered
    (stored,) = (tmp_path / "artifacts").rglob("bom.cdx.json")

    assert registry.fetch(known, "bom.cdx.json", tmp_path / "got").read_bytes() == b"{}"
    stored.write_bytes(b"{ }")
    with pytest.raises(TrustError, match="wrong digest"):
        registry.fetch(known, "bom.cdx.json", tmp_path / "got")
    assert registry.copy(known.holder, "bom.cdx.json", tmp_path / "seen").read_bytes() == b"{ }"


def test_releases_that_are_known_are_not_told_again(registry: Registry) -> None:
    releases = [small_release(MODEL, f"1.{number}.0", CONTENT) for number in range(3)]
    registry.know_releases(releases[:2])
    told: list[str] = []

    def beside(release: Release) -> dict[str, bytes]:
        told.append(release.version)
        return {}

    registry.know_releases(releases, beside)

    assert told == ["1.2.0"]
    assert [entry.version for entry in registry.versions(MODEL)] == ["1.0.0", "1.1.0", "1.2.0"]


def test_numbers_of_each_shot_go_on_over_the_versions_in_one_run(registry: Registry) -> None:
    for number, jaccard in (("1.0.0", "0.8"), ("1.1.0", "0.9")):
        release = small_release(MODEL, number, CONTENT)
        registry.know_release(release)
        for _ in range(2):
            registry.log_verdict(accepted(release, jaccard), number.replace(".", "f") * 12, {})

    with registry._session() as client:
        experiment = registry._experiment(client, MODEL)
        (series,) = client.search_runs([experiment], "tags.`changeover.series` = 'atlas'")
        history = client.get_metric_history(series.info.run_id, "jaccard/shot-010")
        pages = [str(client.get_model_version("acme.person-roto", str(number)).description) for number in (1, 2)]
    assert [(one.step, one.value) for one in history] == [(1, 0.8), (2, 0.9)]
    assert all("**Newest verdict: accept**" in page for page in pages)


def test_words_that_a_person_wrote_in_mlflow_stay(registry: Registry) -> None:
    registry.know_release(RELEASE)
    with registry._session() as client:
        client.update_registered_model("acme.person-roto", "Ask Jane first.")
        client.update_model_version("acme.person-roto", "1", "We saw holes in hair.")

    registry.log_verdict(accepted(RELEASE), "ab" * 32, {})
    registry.know_release(small_release(MODEL, "1.1.0", CONTENT))

    with registry._session() as client:
        assert client.get_registered_model("acme.person-roto").description == "Ask Jane first."
        assert client.get_model_version("acme.person-roto", "1").description == "We saw holes in hair."
        assert str(client.get_model_version("acme.person-roto", "2").description).startswith("1.1.0: ")


def test_long_texts_and_aliases_go_through_every_server(
    server: Registry, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    long = small_release("acme/wordy", "1.0.0", CONTENT, changes="c" * 4000).model_copy(update={"summary": "s" * 4000})
    other = small_release("acme/wordy", "1.1.0", CONTENT)
    capfd.readouterr()

    known = server.know_release(long).registered
    server.know_release(other)
    server.log_verdict(accepted(long).model_copy(update={"reason": "r" * 4000}), "ab" * 32, {"report.html": b"<html>"})
    server.show_aliases((Held("stable", long.ref()), Held("show/atlas", other.ref())))
    server.show_promoted((Held("stable", other.ref()),))

    assert capfd.readouterr() == ("", "")
    whole = server.fetch(known, WHOLE, tmp_path).read_text(encoding="utf-8")
    assert "s" * 4000 in whole
    assert "c" * 4000 in whole
    with server._session() as client:
        model = client.get_registered_model("acme.wordy")
        page = str(client.get_model_version("acme.wordy", "1").description)
        assert dict(model.aliases) in ({"stable": "2", "show-atlas": "2"}, {"stable": 2, "show-atlas": 2})
        assert 4000 < len(page) <= 5000
        assert f"the whole is in {WHOLE}" in page
        client.set_registered_model_alias("acme.wordy", "show-atlas", "1")
    moved = server.moved_aliases((Held("stable", other.ref()), Held("show/atlas", other.ref())))
    assert [(one.model, one.alias, one.asked, one.chosen) for one in moved if one.model == "acme/wordy"] == [
        ("acme/wordy", "show-atlas", "1.0.0", "1.1.0")
    ]


def test_version_that_was_deleted_under_its_alias_is_seen(registry: Registry) -> None:
    registry.know_release(RELEASE)
    held_by = (Held("stable", RELEASE.ref()),)
    assert registry.show_aliases(held_by) == (f"{MODEL} stable",)
    assert registry.show_aliases(held_by) == ()
    with registry._session() as client:
        client.delete_model_version("acme.person-roto", "1")

    (taken,) = registry.moved_aliases(held_by)

    assert (taken.alias, taken.asked, taken.chosen) == ("stable", None, "1.0.0")
    assert registry.show_aliases(()) == (f"{MODEL} stable",)
    assert registry.moved_aliases(()) == ()


def test_aliases_that_stay_cost_one_question(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.know_release(RELEASE)
    held_by = (Held("stable", RELEASE.ref()), Held("show/atlas", RELEASE.ref()))
    registry.show_aliases(held_by)
    looked: list[str] = []
    monkeypatch.setattr(_aliases, "find", lambda *asked: looked.append(asked[2]))

    assert (registry.show_aliases(held_by), registry.moved_aliases(held_by)) == ((), ())

    assert looked == []


def test_forged_version_keeps_no_other_release_out_and_its_remedy_works(registry: Registry) -> None:
    forged, other = small_release("acme/forged", "1.0.0", b"a"), small_release("acme/other", "1.0.0", b"b")
    with registry._session() as client:
        client.create_registered_model("acme.forged", tags={"changeover.model": "acme/forged"})
        tags = {"changeover.model": "acme/forged", "changeover.version": "1.0.0", "changeover.digest": "0" * 64}
        client.create_model_version("acme.forged", source="file:///nowhere", tags=tags)

    with pytest.raises(RefusedError, match="delete it in MLflow, then run changeover sync"):
        registry.know_releases((forged, other))

    assert [one.digest for one in registry.versions("acme/other")] == [other.digest()]
    with registry._session() as client:
        client.delete_model_version("acme.forged", "1")
    registry.know_releases((forged, other))
    assert [one.digest for one in registry.versions("acme/forged")] == [forged.digest()]


def test_model_that_lost_its_tag_shows_its_requests_all_the_same(registry: Registry) -> None:
    first, second = small_release(MODEL, "1.0.0", b"a"), small_release(MODEL, "2.0.0", b"b")
    registry.know_releases((first, second))
    holds = (Held("stable", first.ref()),)
    assert registry.show_aliases(holds) == (f"{MODEL} stable",)
    name = MODEL.replace("/", ".")
    with registry._session() as client:
        client.delete_registered_model_tag(name, "changeover.model")
        client.set_registered_model_alias(name, "stable", "2")

    (moved,) = registry.moved_aliases(holds)

    assert (moved.alias, moved.asked, moved.chosen) == ("stable", "2.0.0", "1.0.0")
    assert registry.show_aliases((Held("stable", second.ref()),)) == (f"{MODEL} stable",)
