"""The agent as a process: what it does of itself while the studio chooses, holds, goes away and comes back."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from changeover_registry.records.station import StationStatus

QUICK = ("--interval", "1h", "--poll", "0.2s", "--jitter", "0.2s")
PATIENCE = 90.0
FAKETIME = shutil.which("faketime")


class Running:
    """An agent of the world's station in a process of its own, and the lines that it logs."""

    def __init__(self, world: Any, *options: str, environment: dict[str, str] | None = None) -> None:
        head = [sys.executable, "-m", "changeover_updater", "--config", str(world.config), *world.extra]
        self.process = subprocess.Popen(
            [*head, "agent", "--log-json", *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        self.lines: list[dict[str, Any]] = []
        self.other: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                self.other.append(line)

    def ticks(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "exit_code" in line]

    def wait(self, until: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not until():
            assert time.monotonic() < end, f"{what}: {self.lines} {self.other}"
            assert self.process.poll() is None, f"the agent ended: {self.lines} {self.other}"
            time.sleep(0.05)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE)
        self._reader.join(10)
        return code

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        self._reader.join(10)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def agent(world: Any) -> Iterator[Callable[..., Running]]:
    """Starts agents, and ends those that a test leaves."""
    begun: list[Running] = []

    def start(*options: str, **how: Any) -> Running:
        begun.append(Running(world, *(options or QUICK), **how))
        return begun[-1]

    yield start
    for running in begun:
        if running.process.poll() is None:
            running.process.kill()
        running.close()


def status_of(world: Any) -> StationStatus:
    path = world.site.root / "stations" / "vm1" / "status.json"
    return StationStatus.from_bytes(path.read_bytes(), where=str(path))


def promoted(world: Any, name: str, current: Any = None) -> Any:
    release = world.publish(name)
    world.accept(release, current)
    world.ok("promote", f"{release.model}@{release.version}", "--reason", "test")
    return release


def test_agent_changes_over_when_the_studio_chooses_and_tells_the_site(world: Any, agent: Any) -> None:
    first = world.served("1.0.0")
    running = agent()
    running.wait(lambda: len(running.ticks()) == 1, "the first tick")

    second = promoted(world, "1.1.0", first)
    running.wait(lambda: world.station.current() == 2, "the changeover")
    running.wait(lambda: len(running.ticks()) == 2, "the line that says so")

    assert [(tick["exit_code"], tick["because"]) for tick in running.ticks()] == [
        (0, "start"),
        (0, "the choice changed"),
    ]
    told = status_of(world)
    assert [(one.key, one.outcome) for one in told.tried or ()] == [(str(second.ref()), "done")]
    assert told.choices is not None
    assert told.choices["site"] >= 3
    assert told.next_report is not None
    assert told.next_report > told.reported_at
    assert running.stop() == 0
    assert running.lines[-1]["line"] == "the agent has ended"


def test_second_agent_of_a_station_is_refused_and_the_first_goes_on(world: Any, agent: Any) -> None:
    world.served("1.0.0")
    first = agent()
    first.wait(lambda: bool(first.lines), "the first agent")

    second = agent()
    code = second.process.wait(PATIENCE)

    assert code == 7
    assert first.process.poll() is None
    assert world.station.current() == 1


def test_agent_that_was_killed_leaves_no_lock(world: Any, agent: Any) -> None:
    world.served("1.0.0")
    first = agent()
    first.wait(lambda: bool(first.lines), "the first agent")
    first.process.kill()
    first.process.wait(10)

    second = agent()
    second.wait(lambda: len(second.ticks()) == 1, "a tick of the second")

    assert second.stop() == 0


def test_site_that_goes_away_ends_no_agent_and_is_taken_up_when_it_is_back(world: Any, agent: Any) -> None:
    first = world.served("1.0.0")
    running = agent()
    running.wait(lambda: len(running.ticks()) == 1, "the first tick")
    away = world.root / "away"

    world.site.root.rename(away)
    running.wait(lambda: any("does not answer" in line["line"] for line in running.lines), "the site is gone")
    time.sleep(1)
    away.rename(world.site.root)
    promoted(world, "1.1.0", first)
    running.wait(lambda: world.station.current() == 2, "the changeover")

    told = [line["line"] for line in running.lines if "exit_code" not in line]
    assert told[1:3] == ["the site does not answer", "the site answers again"]
    assert running.stop() == 0


def test_held_station_gets_the_files_and_changes_over_once_the_hold_is_lifted(world: Any, agent: Any) -> None:
    first = world.served("1.0.0")
    world.ok("hold", "--reason", "final renders")
    running = agent()
    running.wait(lambda: len(running.ticks()) == 1, "the first tick")

    second = promoted(world, "1.1.0", first)
    running.wait(lambda: len(running.ticks()) == 2, "the tick after the choice")
    store = world.station.store
    assert not store.missing(second.ref(), second.variants[0])
    assert world.station.current() == 1
    (tried,) = [one for one in status_of(world).tried or () if one.key == str(second.ref())]
    assert (tried.outcome, tried.why) == ("waiting", "hold: final renders")

    world.ok("unhold")
    running.wait(lambda: world.station.current() == 2, "the changeover")
    running.wait(lambda: len(running.ticks()) == 3, "its line")
    assert running.ticks()[-1]["because"] == "the hold was lifted"
    assert running.stop() == 0


def set_hours(world: Any, hours: str) -> None:
    path = world.site.root / "policy.toml"
    path.write_text(path.read_text(encoding="utf-8") + f'\n[agent]\nhours = "{hours}"\n', encoding="utf-8")
    world.ok("promote", "--policy", "--reason", "hours")


def test_outside_of_the_hours_files_come_and_nothing_is_changed_over_to(world: Any, agent: Any) -> None:
    first = world.served("1.0.0")
    # In a zone half a day away it is never the hour that it is here: the hours are those of the host's own clock.
    here = time.strftime("%H:%M", time.gmtime())
    ahead = time.strftime("%H:%M", time.gmtime(time.time() + 3600))
    set_hours(world, f"{here}-{ahead}")
    second = world.publish("1.1.0")
    world.accept(second, first)
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "test")

    far = agent(*QUICK, environment={"TZ": "XXX-12"})
    far.wait(lambda: len(far.ticks()) == 1, "the tick")

    assert far.stop() == 0
    assert world.station.current() == 1
    assert not world.station.store.missing(second.ref(), second.variants[0])
    (tried,) = [one for one in status_of(world).tried or () if one.key == str(second.ref())]
    assert tried.outcome == "waiting"
    assert f"from {here} to {ahead}" in tried.why

    near = agent(*QUICK, environment={"TZ": "UTC"})
    near.wait(lambda: world.station.current() == 2, "the changeover within the hours")
    assert near.stop() == 0


@pytest.mark.skipif(FAKETIME is None, reason="faketime is not installed: apt-get install faketime")
def test_two_years_on_the_agent_says_why_it_refuses_and_the_installed_release_stays(world: Any) -> None:
    world.served("1.0.0")
    command = [
        sys.executable,
        "-m",
        "changeover_updater",
        "--config",
        str(world.config),
        *world.extra,
        "agent",
        "--once",
    ]

    done = subprocess.run([str(FAKETIME), "-f", "+2y", *command], capture_output=True, text=True, check=False)

    assert (done.returncode, world.station.current()) == (5, 1)
    assert "expired at" in done.stderr
    assert "what is installed goes on" in done.stderr
    assert status_of(world).last_outcome.startswith("failed: expiry")


def test_tick_that_is_killed_is_told_and_ends_no_agent(world: Any, agent: Any) -> None:
    world.served("1.0.0")
    running = agent("--interval", "1h", "--poll", "0.2s", "--jitter", "0.2s")
    killed: list[int] = []

    def child() -> bool:
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == running.process.pid:
                killed.append(int(path.parent.name))
        return bool(killed)

    running.wait(child, "the child")
    os.kill(killed[0], signal.SIGKILL)
    running.wait(lambda: len(running.ticks()) == 2, "the tick after it")

    assert [tick["exit_code"] for tick in running.ticks()] == [-9, 0]
    assert "killed by signal 9" in running.ticks()[0]["line"]
    assert running.ticks()[1]["because"] == "again"
    assert running.stop() == 0


def test_looks_cost_no_memory(world: Any, agent: Any) -> None:
    world.served("1.0.0")
    running = agent("--interval", "1h", "--poll", "0.002s", "--jitter", "0.1s")
    running.wait(lambda: len(running.ticks()) == 1, "the first tick")
    time.sleep(0.5)
    before = resident_kib(running.process.pid)

    # A look each two milliseconds: more looks than an agent does in a day, with updates between them.
    for turn in range(2):
        world.ok("hold", "--reason", f"turn {turn}")
        world.ok("unhold")
        running.wait(lambda turn=turn: len(running.ticks()) >= turn + 2, "a tick")
    after = resident_kib(running.process.pid)

    assert running.stop() == 0
    assert after - before < 3 * 1024, f"{before} KiB before, {after} KiB after"


def resident_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1])


def test_what_a_hook_comes_to_stands_in_the_log_of_the_agent(world: Any, agent: Any) -> None:
    first = world.served("1.0.0")
    policy = world.site.root / "policy.toml"
    lines = '\n[hooks]\nhost_failed = "/nowhere/at/all"\n'
    policy.write_text(policy.read_text(encoding="utf-8") + lines, encoding="utf-8")
    world.ok("promote", "--policy", "--reason", "hooks")
    second = promoted(world, "1.1.0", first)
    for file in second.variants[0].files:
        path = world.repository / "objects" / file.sha256[:2] / file.sha256
        path.write_bytes(bytes(file.size))

    running = agent()
    running.wait(lambda: len(running.ticks()) == 1, "the tick")

    assert running.ticks()[0]["exit_code"] == 5
    assert any("the hook host_failed (/nowhere/at/all) was not run" in line["line"] for line in running.lines)
    assert running.stop() == 0
    assert world.station.current() == 1


def test_metrics_are_written_after_each_tick_and_read_by_prometheus(world: Any, tmp_path: Path) -> None:
    first = world.served("1.0.0")
    second = promoted(world, "1.1.0", first)
    file = tmp_path / "changeover.prom"

    world.ok("agent", "--once", "--prometheus", str(file))
    well = metrics(file)
    with (world.site.root / "policy.toml").open("a", encoding="utf-8") as policy:
        policy.write("# edited\n")
    code, _, _ = world.run("agent", "--once", "--prometheus", str(file))
    bad = metrics(file)

    assert (well["changeover_generation"], well["changeover_behind"], well["changeover_failures"]) == (2, 0, 0)
    assert well["changeover_release_info"] == 1
    assert well["changeover_disk_free_bytes"] > 0
    assert well["changeover_trust_expires_timestamp_seconds"] > time.time()
    assert well["changeover_last_success_timestamp_seconds"] == well["changeover_last_tick_timestamp_seconds"]
    assert (code, bad["changeover_last_tick_exit_code"], bad["changeover_failures"]) == (5, 5, 1)
    assert bad["changeover_last_success_timestamp_seconds"] == well["changeover_last_success_timestamp_seconds"]
    assert bad["changeover_generation"] == 2
    assert second.version in file.read_text(encoding="utf-8")


def metrics(path: Path) -> dict[str, float]:
    """The last sample of each metric."""
    families = text_string_to_metric_families(path.read_text(encoding="utf-8"))
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_metrics_that_cannot_be_written_are_a_note_and_fail_no_update(world: Any, tmp_path: Path) -> None:
    world.served("1.0.0")
    file = tmp_path / "changeover.prom"
    file.mkdir()

    code, _, err = world.run("agent", "--once", "--prometheus", str(file))

    assert code == 0
    assert "the metrics were not written" in err


def test_once_updates_and_answers_as_update_does(world: Any) -> None:
    first = world.served("1.0.0")
    promoted(world, "1.1.0", first)

    code, out, _ = world.run("agent", "--once")

    assert (code, world.station.current()) == (0, 2)
    assert "changed over to generation 2" in out


def test_once_of_which_the_update_fails_has_its_exit_code_and_touches_nothing(world: Any) -> None:
    first = world.served("1.0.0")
    promoted(world, "1.1.0", first)
    policy = world.site.root / "policy.toml"
    policy.write_text(policy.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")

    code, _, err = world.run("agent", "--once")

    assert (code, world.station.current()) == (5, 1)
    assert "policy" in err
    assert status_of(world).last_outcome.startswith("failed: policy")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--interval", "15"), "a span such as 90s, 15m or 1h"),
        (("--interval", "0s"), "a span such as"),
        (("--poll", "9999h"), "at most a week"),
        (("--prometheus", "metrics.txt"), "ending in .prom"),
        (("--prometheus", "/nowhere/at/all.prom"), "no such folder"),
    ],
)
def test_wrong_option_is_one_line_and_nothing_runs(module_world: Any, options: tuple[str, str], words: str) -> None:
    code, _, err = module_world.run("agent", *options)

    assert code == 2
    assert words in err
    assert not (module_world.station.folder / "agent.json").exists()
