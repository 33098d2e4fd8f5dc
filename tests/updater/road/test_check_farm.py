"""Scoring elsewhere: command lines of a farm and a Dask cluster come to the bytes that this process comes to."""

import json
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.scores import ScoreTask
from changeover_updater.farm import read_task, result_of
from changeover_validators.runtimes.sandbox import available

pytestmark = pytest.mark.skipif(available().name is None, reason="nothing isolates a child on this machine")

CHECK = ("check", "tiny-roto@1.1.0", "--set", "pair")
DIFFERS = {"made_at", "verdict", "frame_us", "current_frame_us", "load_us", "current_load_us", "speeds"}
# What a process holds beside the arena on the CPU is measured, and so differs by some pages.
DIFFERS |= {"peak_ram_bytes", "current_peak_ram_bytes", "memory", "memory_answer"}


def without_times(value: Any) -> Any:
    """An answer without what two runs on one machine differ in."""
    if isinstance(value, dict):
        kept = {key: without_times(one) for key, one in value.items() if key not in DIFFERS}
        return {**kept, "detail": ""} if value.get("check") in {"speed", "vram"} else kept
    return [without_times(one) for one in value] if isinstance(value, list) else value


def filed(world: Any) -> dict[str, bytes]:
    """What is filed of every shot, times left out."""
    found = world.site.scores.glob("??/*/*")
    return {str(p.relative_to(world.site.scores)): p.read_bytes() for p in found if p.name != "times.json"}


@pytest.fixture(scope="module")
def here(module_world: Any, add_shots: Any) -> Any:
    """A studio that serves 1.0.0 and checked 1.1.0 in this process, on two shots, the second the harder."""
    world = module_world
    world.without_mlflow()
    add_shots(world, "pair", levels=(2, 4))
    world.served("1.0.0")
    world.publish("1.1.0")
    code, out, err = world.run(*CHECK, "--json")
    assert code == 4, err
    return SimpleNamespace(world=world, answer=json.loads(out), filed=filed(world))


@pytest.fixture
def world(here: Any) -> Any:
    """That studio's world, with nothing scored."""
    shutil.rmtree(here.world.site.scores, ignore_errors=True)
    return here.world


def environment(world: Any) -> dict[str, str]:
    """What another process is told of the studio: its host.toml and its station."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "CHANGEOVER_CONFIG": str(world.config), "CHANGEOVER_STATION": "vm1"}


def run_lines(world: Any, lines: list[str]) -> list[int]:
    """Run command lines in a shell, as a render queue does: it knows the station and nothing else; their exit codes."""
    told = {"PATH": "/usr/bin:/bin", "HOME": str(world.root), "CHANGEOVER_STATION": "vm1"}
    shell = [subprocess.run(["sh", "-c", line], env=told, check=False, capture_output=True) for line in lines]
    return [done.returncode for done in shell]


def run_here(world: Any, line: str) -> int:
    """Run a command line in this process, which spares the imports; its exit code."""
    words = shlex.split(line)
    code: int = world.run(*words[words.index("golden") :])[0]
    return code


def test_command_lines_of_a_farm_give_the_bytes_of_this_process(here: Any, world: Any, tmp_path: Path) -> None:
    folder = tmp_path / "a farm's folder"

    written = world.run(*CHECK, "--tasks", str(folder))
    lines = (folder / "tasks.txt").read_text(encoding="utf-8").splitlines()
    early = world.run(*CHECK, "--collect", str(folder))
    codes = run_lines(world, lines)
    again = run_here(world, lines[0])
    code, out, err = world.run(*CHECK, "--collect", str(folder), "--json")

    assert written[0] == 4
    assert written[2] == ""
    assert "\N{CHECK MARK} 2 tasks written into" in written[1]
    assert "changeover check tiny-roto@1.1.0 --set pair --collect" in written[1]
    assert early[0] == 4
    assert "2 missing: sh1" in early[2]
    assert codes == [0, 0]
    assert again == 0
    assert code == 4, err
    assert filed(world) == here.filed
    assert without_times(json.loads(out)) == without_times(here.answer)


def test_writing_tasks_again_writes_the_same_files_and_with_nothing_to_score_there_is_a_verdict(
    here: Any, world: Any, tmp_path: Path
) -> None:
    first = world.run(*CHECK, "--tasks", str(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    second = world.run(*CHECK, "--tasks", str(tmp_path))
    put_back(here)

    code, out, _ = world.run(*CHECK, "--tasks", str(tmp_path), "--json")

    assert first == second
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert code == 4
    assert json.loads(out)["points"][0]["scored"] == here.answer["points"][0]["scored"]


def put_back(here: Any) -> None:
    """Have the results of this process be filed, with made-up times."""
    for name, data in here.filed.items():
        path = here.world.site.scores / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    for folder in here.world.site.scores.glob("??/*"):
        from changeover_registry import canonical
        from changeover_registry.records.scores import ShotTimes

        scores = canonical.digest((folder / "scores.json").read_bytes())
        times = ShotTimes(host="elsewhere", candidate_us=(1, 1, 1), current_us=(1, 1, 1), wall_us=1, scores=scores)
        (folder / "times.json").write_bytes(times.to_bytes())


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"golden_class": "0" * 64}, 4, "golden class"),
        ({"threshold": "0.4"}, 4, "threshold of the policy"),
        ({"key": "0" * 64}, 4, "key of the numbers"),
        ({"shot_digest": "0" * 64}, 8, "find out who changed it"),
        ({"version": 7}, 4, "approved shots"),
        ({"shot": "sh9"}, 4, "approved shots"),
    ],
)
def test_task_that_is_not_this_machines_or_out_of_date_is_refused_with_one_line(
    world: Any, tmp_path: Path, changes: dict[str, Any], code: int, words: str
) -> None:
    world.run(*CHECK, "--tasks", str(tmp_path))
    path = next((tmp_path / "tasks").iterdir())
    task = ScoreTask.from_bytes(path.read_bytes(), where="test").model_copy(update=changes)
    path.write_bytes(task.to_bytes())

    found, out, err = world.run("golden", "score", str(path), "--out", str(tmp_path / "results"))

    assert (found, out, err.count("\n")) == (code, "", 1), err
    assert words in err
    assert not list((tmp_path / "results").glob("*.zip"))


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"schema":"changeover.score-task/1"}', b"\xff"])
def test_file_that_is_no_task_is_2(world: Any, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "task.json"
    if content is not None:
        path.write_bytes(content)

    code, out, err = world.run("golden", "score", str(path), "--out", str(tmp_path))

    assert (code, out, err.count("\n")) == (2, "", 1), err


def test_result_that_is_cut_or_of_another_shot_is_taken_for_missing(here: Any, world: Any, tmp_path: Path) -> None:
    from changeover_validators.golden.results import ResultStore

    put_back(here)
    store = ResultStore(world.site.scores)
    keys = [store_key(path) for path in world.site.scores.glob("??/*/scores.json")]
    bundles = [bundle.to_bytes() for key in keys if (bundle := store.bundle(key))]
    shutil.rmtree(world.site.scores)
    world.run(*CHECK, "--tasks", str(tmp_path))
    names = [f"{key.digest()[:16]}.zip" for key in keys]
    (tmp_path / "results" / names[0]).write_bytes(bundles[0][:-300])
    (tmp_path / "results" / names[1]).write_bytes(bundles[0])
    (tmp_path / "results" / "0123456789abcdef.zip").write_bytes(bundles[0])

    code, _, err = world.run(*CHECK, "--collect", str(tmp_path))

    assert code == 4
    assert "2 missing" in err
    assert "0123456789abcdef.zip is the result of no shot" in err
    assert filed(world) == {}


def test_result_of_damaged_bytes_is_none_and_never_a_fault(here: Any, world: Any, tmp_path: Path) -> None:
    from changeover_validators.golden.results import ResultStore

    world.run(*CHECK, "--tasks", str(tmp_path))
    task = read_task(next((tmp_path / "tasks").iterdir()))
    put_back(here)
    key = store_key(next(world.site.scores.glob(f"??/{task.key}/scores.json")))
    bundle = ResultStore(world.site.scores).bundle(key)
    assert bundle is not None
    whole, rng = bundle.to_bytes(), random.Random(1)

    for _ in range(300):
        damaged = bytearray(whole)
        # The end of a zip says where all the rest is, so that is where damage leads astray.
        damaged[rng.randrange(len(whole) - 120, len(whole))] = rng.randrange(256)
        (tmp_path / f"{task.key[:16]}.zip").write_bytes(damaged)
        found = result_of(tmp_path, task)
        assert found is None or found.scores == bundle.scores


def store_key(path: Path) -> Any:
    from changeover_registry.records.scores import ShotScores

    return ShotScores.from_bytes(path.read_bytes(), where="test").key


def test_shot_that_could_not_be_measured_on_the_farm_is_an_error_verdict_that_names_it(
    world: Any, tmp_path: Path
) -> None:
    world.run(*CHECK, "--tasks", str(tmp_path))
    lines = (tmp_path / "tasks.txt").read_text(encoding="utf-8").splitlines()
    matte = world.site.golden / "pair" / "sh1" / "1" / "matte" / "matte.1002.exr"
    data = matte.read_bytes()
    matte.parent.chmod(0o755)
    matte.unlink()
    try:
        broken = run_here(world, lines[0])
    finally:
        matte.write_bytes(data)

    code, out, _ = world.run(*CHECK, "--collect", str(tmp_path), "--json")

    assert broken == 8
    assert code == 4, "the easier shot has no result and nothing says why"
    assert run_here(world, lines[1]) == 0
    code, out, err = world.run(*CHECK, "--collect", str(tmp_path), "--json")
    assert code == 8, err
    assert "sh1" in json.loads(out)["reason"]
    assert "1002" in json.loads(out)["reason"]


@pytest.mark.parametrize(
    "arguments", [("--tasks", "a", "--collect", "a"), ("--executor", "dask://a:1", "--tasks", "a")]
)
def test_two_places_at_once_are_2(world: Any, arguments: tuple[str, ...]) -> None:
    code, out, err = world.run(*CHECK, *arguments)

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "leave one out" in err


@pytest.mark.parametrize(
    "address", ["local", "dask://", "dask://host", "tcp://host:1", "dask://host:x", "dask://host:123456"]
)
def test_executor_that_is_no_address_is_2(world: Any, address: str) -> None:
    code, _, err = world.run(*CHECK, "--executor", address)

    assert code == 2
    assert "dask://HOST:PORT" in err


def test_folder_without_tasks_is_2(world: Any, tmp_path: Path) -> None:
    code, _, err = world.run(*CHECK, "--collect", str(tmp_path))

    assert code == 2
    assert "tasks.txt" in err


@pytest.fixture(scope="module")
def cluster(here: Any) -> Iterator[Any]:
    """A Dask cluster of two worker processes with the studio's settings in their environment."""
    distributed = pytest.importorskip("distributed")
    told = {name: environment(here.world)[name] for name in ("CHANGEOVER_CONFIG", "CHANGEOVER_STATION")}
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", env=told
    ) as made:
        yield made


def on_dask(cluster: Any) -> tuple[str, ...]:
    return (*CHECK, "--executor", cluster.scheduler_address.replace("tcp://", "dask://"), "--json")


def test_dask_cluster_gives_the_bytes_of_this_process_although_a_worker_is_killed_mid_shot(
    here: Any, world: Any, cluster: Any
) -> None:
    ended: list[tuple[int, str, str]] = []
    check = threading.Thread(target=lambda: ended.append(world.run(*on_dask(cluster))))

    check.start()
    killed = kill_a_busy_worker(cluster, check)
    check.join()

    code, out, err = ended[0]
    assert killed
    assert code == 4, err
    assert filed(world) == here.filed
    assert without_times(json.loads(out)) == without_times(here.answer)


def kill_a_busy_worker(cluster: Any, check: threading.Thread) -> bool:
    """SIGKILL the first worker that has a task in its hands; whether there was one."""
    from distributed import Client

    with Client(cluster, set_as_default=False) as client:  # type: ignore[no-untyped-call]
        while check.is_alive():
            busy = [address for address, tasks in client.processing().items() if tasks]
            if busy:
                pid = client.run(os.getpid, workers=busy[:1])[busy[0]]
                os.kill(pid, signal.SIGKILL)
                return True
            time.sleep(0.01)
    return False


def test_what_a_worker_says_of_a_shot_arrives_whole(here: Any, world: Any, cluster: Any) -> None:
    matte = world.site.golden / "pair" / "sh1" / "1" / "matte" / "matte.1002.exr"
    data = matte.read_bytes()
    matte.parent.chmod(0o755)
    matte.write_bytes(data[:100])
    try:
        code, out, err = world.run(*on_dask(cluster))
    finally:
        matte.write_bytes(data)

    assert code == 8, err
    assert "sh1" in json.loads(out)["reason"]
    assert "1002" in json.loads(out)["reason"]


def test_scheduler_that_does_not_answer_is_6(world: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    code, out, err = world.run(*CHECK, "--executor", f"dask://127.0.0.1:{port}")

    assert (code, out, err.count("\n")) == (6, "", 1), err
    assert "Dask cluster" in err


def test_host_that_can_be_no_name_is_6(world: Any) -> None:
    code, _, err = world.run(*CHECK, "--executor", "dask://farm..studio:8786")

    assert (code, err.count("\n")) == (6, 1), err
    assert "no answer" in err


def test_cluster_that_gets_no_worker_while_the_check_waits_is_6(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("changeover_updater.dask_adapter._LOOK_SECONDS", 0.5)
    monkeypatch.setattr("changeover_updater.dask_adapter._ALONE_SECONDS", 1.0)
    with distributed.LocalCluster(n_workers=0, processes=True, dashboard_address=":0") as empty:
        code, out, err = world.run(*on_dask(empty)[:-1])

    assert (code, out, err.count("\n")) == (6, "", 2), err
    assert "the Dask cluster has no worker; waiting" in err
    assert "a scheduler with workers, found none for" in err


def test_shot_that_kills_every_worker_is_a_measurement_that_failed_and_names_it() -> None:
    from distributed.scheduler import KilledWorker

    from changeover_updater.dask_adapter import outcome

    died: futures.Future[bytes] = futures.Future()
    died.set_exception(KilledWorker("score_bytes", None, 3))  # type: ignore[arg-type]  # only its name is read
    foreign: futures.Future[bytes] = futures.Future()
    foreign.set_exception(ModuleNotFoundError("No module named 'numpy'"))

    said = [outcome(future, "sh1") for future in (died, foreign)]

    assert [getattr(one, "exit_code", None) for one in said] == [8, 8]
    assert all("sh1" in str(one) for one in said)
    assert "workers that died of it" in str(said[0])
    assert "No module named 'numpy'; install the same changeover" in str(said[1])


def test_worker_that_raises_pages_or_answers_no_bytes_is_one_short_line() -> None:
    from changeover_updater.dask_adapter import outcome

    long: futures.Future[bytes] = futures.Future()
    long.set_exception(ValueError("a line\n" * 5000))
    other: futures.Future[bytes] = futures.Future()
    other.set_result(5)  # type: ignore[arg-type]  # a worker of another make

    said = [str(outcome(future, "sh1")) for future in (long, other)]

    assert all("sh1" in line and len(line) < 600 for line in said)
    assert "found int, no bytes" in said[1]


def test_damaged_bundle_of_a_worker_takes_no_other_shot_along(
    here: Any, world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from changeover_updater import dask_adapter
    from changeover_updater.ways import OnDask
    from changeover_validators.golden.results import Bundle, ResultStore

    put_back(here)
    store = ResultStore(world.site.scores)
    whole = store.bundle(store_key(next(world.site.scores.glob("??/*/scores.json"))))
    shutil.rmtree(world.site.scores)
    world.run(*CHECK, "--tasks", str(tmp_path))
    tasks = [read_task(path) for path in sorted((tmp_path / "tasks").iterdir())][:2]
    assert whole is not None
    answers = ((tasks[0], b"PK" * 50), (tasks[1], whole.to_bytes()))
    monkeypatch.setattr(dask_adapter, "run", lambda *_: iter(answers))

    landed = [found for _, found in OnDask("tcp://none:1", print).results(tasks)]

    assert isinstance(landed[0], InvalidInputError)
    assert tasks[0].shot in str(landed[0])
    assert isinstance(landed[1], Bundle)


def test_result_that_is_larger_than_any_is_not_read(world: Any, tmp_path: Path) -> None:
    world.run(*CHECK, "--tasks", str(tmp_path))
    task = read_task(next((tmp_path / "tasks").iterdir()))
    with (tmp_path / f"{task.key[:16]}.zip").open("wb") as file:
        file.truncate(1 << 40)

    assert result_of(tmp_path, task) is None


def test_without_dask_installed_the_line_names_the_extra(world: Any) -> None:
    there = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "distributed"}
    sys.modules.update(dict.fromkeys((*there, "distributed")))  # type: ignore[arg-type]  # what "not installed" looks like
    try:
        code, out, err = world.run(*CHECK, "--executor", "dask://127.0.0.1:1")
    finally:
        del sys.modules["distributed"]
        sys.modules.update(there)

    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert "pip install 'changeover[dask]'" in err
