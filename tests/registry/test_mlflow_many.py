"""Many processes that register at once, and those that are killed at it, on real servers."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from changeover_registry.errors import UnreachableError
from changeover_registry.mlflow_adapter.registry import Registry
from changeover_registry.records.release import Release
from changeover_servers import KINDS, Cut, CuttingProxy, MlflowServer
from changeover_servers.registering import CONTENT
from changeover_servers.releases import put_files, small_release

pytest.importorskip("mlflow", reason="the extra mlflow is not installed")

SERVERS = str(Path(__file__).parents[1] / "servers")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test on every kind of server where all is asked for; else on that whose answer says most."""
    if "kind" in metafunc.fixturenames:
        one = "postgres-swift" if "at_once" in metafunc.function.__name__ else "moto"
        metafunc.parametrize("kind", list(KINDS) if metafunc.config.getoption("--whole") else [one])


@pytest.fixture
def server(kind: str, mlflow_server: Callable[..., MlflowServer]) -> MlflowServer:
    return mlflow_server(**KINDS[kind])


class Process:
    """A process that registers releases, ``MODEL@VERSION=CHANGES``, once it is told to begin."""

    def __init__(self, uri: str, folder: Path, releases: list[str]) -> None:
        environment = {**os.environ, "PYTHONPATH": SERVERS}
        command = [sys.executable, "-m", "changeover_servers.registering", uri, str(folder), *releases]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stdout is not None
        self._lines = self._process.stdout

    def await_ready(self) -> None:
        assert self._lines.readline() == "ready\n"

    def begin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def outcomes(self) -> list[list[object]]:
        said = [json.loads(line) for line in self._lines]
        assert self._process.wait() == 0
        return said

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.communicate()


def all_at_once(uri: str, folder: Path, parts: list[list[str]]) -> list[list[list[object]]]:
    """What processes say that have all begun at one moment, each with its own releases."""
    with ExitStack() as held, ThreadPoolExecutor(len(parts)) as readers:
        processes = []
        for number, releases in enumerate(parts):
            process = Process(uri, folder / str(number), releases)
            held.callback(process.kill)
            processes.append(process)
        for process in processes:
            process.await_ready()
        for process in processes:
            process.begin()
        return list(readers.map(Process.outcomes, processes))


def test_many_registrations_at_once_are_one_version_each(server: MlflowServer, tmp_path: Path, whole: bool) -> None:
    writers, each, shared = (4, 20, 5) if whole else (3, 2, 1)
    common = [f"1.{number}.0" for number in range(shared)]
    parts = [
        [f"acme/many@{writer}.{number}.0=same" for number in range(each)]
        + [f"acme/agreed@{version}=same" for version in common]
        + [f"acme/fought@{version}=of {writer}" for version in common]
        for writer in range(writers)
    ]

    said = all_at_once(server.uri, tmp_path, parts)

    registry = Registry(server.uri)
    many, agreed, fought = (
        [[outcome[1:] for outcome in part if outcome[0] == model] for part in said]
        for model in ("acme/many", "acme/agreed", "acme/fought")
    )
    # Eighty of a model's versions: a number each, none left out, everybody told that it is new.
    assert {(version, number, True) for version, number in numbers(registry, "acme/many").items()} == {
        tuple(outcome) for part in many for outcome in part
    }
    assert set(numbers(registry, "acme/many").values()) == set(range(1, writers * each + 1))
    # The same content from all: one version, whose number everybody gets.
    assert [{version: number for version, number, _ in part} for part in agreed] == [
        numbers(registry, "acme/agreed")
    ] * writers
    assert sorted(str(outcome[0]) for part in agreed for outcome in part if outcome[2] is True) == common
    # Other content from each: one of them has it, the others are told.
    winners = [outcome for part in fought for outcome in part if outcome[2] is True]
    assert {version: number for version, number, _ in winners} == numbers(registry, "acme/fought")
    assert sorted(str(outcome[0]) for outcome in winners) == common
    told = [outcome[1] for part in fought for outcome in part if outcome[2] is not True]
    assert set(told) <= {"LostRaceError", "RefusedError"}
    assert len(told) == (writers - 1) * shared


def numbers(registry: Registry, model: str) -> dict[object, object]:
    """What is visible of a model: MLflow's number by version."""
    return {entry.version: entry.number for entry in registry.versions(model)}


def held_models(registry: Registry, model: str) -> list[str]:
    """Every LoggedModel of a model's experiment, whether a version points at it or not."""
    with registry._session() as client:
        experiment = client.get_experiment_by_name(f"changeover.{model.replace('/', '.')}")
        assert experiment is not None
        return [str(one.model_id) for one in client.search_logged_models([experiment.experiment_id])]


def tried(registry: Registry, release: Release, files: dict[str, Path]) -> bool:
    """Whether a registration that was cut said that it succeeded."""
    try:
        registry.register_release(release, files, {})
    except UnreachableError:
        return False
    return True


def test_registration_cut_at_any_request_shows_nothing_or_all_and_the_next_completes_it(
    server: MlflowServer,
    cutting_proxy: Callable[[str], CuttingProxy],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole: bool,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    proxy = cutting_proxy(server.uri)
    direct, through = Registry(server.uri), Registry(proxy.url)
    files = put_files(tmp_path / "release", CONTENT)
    path = next(iter(files))
    # The first one asks the server once what it can do; the second one's requests are those of all that follow.
    for model in ("acme/first", "acme/counted"):
        proxy.heal()
        assert through.register_release(small_release(model, "1.0.0", CONTENT), files, {}).new
    last = len(proxy.requests)
    seen = []

    for number in range(1, last + 1) if whole else (1, last // 2, last - 2, last):
        release = small_release(f"acme/cut-{number}", "1.0.0", CONTENT)
        proxy.cut(Cut(request=number, when="after"))
        said = tried(through, release, files)
        assert proxy.was_cut
        proxy.heal()
        visible = direct.versions(release.model)
        seen.append(len(visible))
        # Whoever was told that it is there finds it; whoever was told nothing finds it whole or not at all.
        assert visible or not said
        for entry in visible:
            assert direct.fetch(entry, path, tmp_path / f"{number}-seen").read_bytes() == CONTENT

        done = direct.register_release(release, files, {}).registered

        assert direct.versions(release.model) == (done,)
        assert done in visible or not visible
        assert direct.fetch(done, path, tmp_path / f"{number}-done").read_bytes() == CONTENT
    assert seen == sorted(seen)
    assert set(seen) == {0, 1}


def test_registration_killed_at_the_upload_leaves_nothing_once_it_is_done_again(
    server: MlflowServer, cutting_proxy: Callable[[str], CuttingProxy], tmp_path: Path
) -> None:
    model = "acme/killed"
    proxy = cutting_proxy(server.uri)
    direct = Registry(server.uri)
    process = Process(proxy.url, tmp_path / "killed", [f"{model}@1.0.0=same"])
    try:
        process.await_ready()
        proxy.cut(Cut(path="PUT /api/2.0/mlflow-artifacts/", when="within"))
        process.begin()
        proxy.await_cut()
    finally:
        process.kill()
    assert direct.versions(model) == ()
    (left,) = held_models(direct, model)

    files = put_files(tmp_path / "again", CONTENT)
    done = direct.register_release(small_release(model, "1.0.0", CONTENT, changes="same"), files, {})

    assert done.new
    assert held_models(direct, model) == [done.registered.holder]
    assert done.registered.holder != left
