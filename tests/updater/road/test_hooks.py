"""Hooks with real executables: what they are told, and what happens to those that hang, flood or are missing."""

import json
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.records.hook import HookEvent
from changeover_registry.records.policy import Policy
from changeover_updater.hooks import LIMIT_BYTES, run_hook

EVENT = HookEvent(
    what="promoted", when="2026-11-22T12:00:00Z", who="td", host="vm1", site="/site", why="it holds", channel="stable"
)


@pytest.fixture
def script(tmp_path: Path) -> Any:
    """Writes an executable in a folder that is ours alone."""
    folder = tmp_path / "hooks"
    folder.mkdir(mode=0o755)

    def write(body: str, *, name: str = "hook", mode: int = 0o755, first: str = "#!/bin/sh") -> Path:
        path = folder / name
        path.write_text(f"{first}\n{body}\n", encoding="utf-8")
        path.chmod(mode)
        return path

    return write


def run(path: Path | str, **options: Any) -> list[str]:
    """Run one hook; returns the notices."""
    notices: list[str] = []
    run_hook(Policy(hooks={"promoted": str(path)}), EVENT, notices.append, **options)
    return notices


def test_hook_is_told_the_event_as_a_record_on_its_standard_input(script: Any, tmp_path: Path) -> None:
    notices = run(script(f"cat > {tmp_path}/told"))

    assert notices == []
    told = (tmp_path / "told").read_bytes().removesuffix(b"\n")
    assert HookEvent.from_bytes(told, where="told") == EVENT


def test_hook_gets_a_few_variables_and_none_of_ours(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHANGEOVER_SITE", "/secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")

    run(script(f"env > {tmp_path}/env"))

    told = dict(line.split("=", 1) for line in (tmp_path / "env").read_text(encoding="utf-8").splitlines())
    assert told["CHANGEOVER_HOOK"] == "promoted"
    assert not {"CHANGEOVER_SITE", "AWS_SECRET_ACCESS_KEY"} & told.keys()


def test_without_a_hook_for_the_event_nothing_is_run(script: Any, tmp_path: Path) -> None:
    path = script(f"touch {tmp_path}/ran")

    run_hook(Policy(hooks={"refused": str(path)}), EVENT, pytest.fail)

    assert not (tmp_path / "ran").exists()


def test_hook_that_hangs_is_ended_with_what_it_started(script: Any, tmp_path: Path) -> None:
    begun = time.monotonic()

    notices = run(script(f"sleep 600 & echo $! > {tmp_path}/pid; wait"), seconds=1)

    assert time.monotonic() - begun < 20
    assert notices == [
        f"the hook promoted ({tmp_path}/hooks/hook) was ended: it took longer than 1 s; what was done stands"
    ]
    assert gone(int((tmp_path / "pid").read_text(encoding="utf-8")))


def test_hook_that_leaves_something_running_is_not_waited_for(script: Any, tmp_path: Path) -> None:
    begun = time.monotonic()

    notices = run(script(f"sleep 600 & echo $! > {tmp_path}/pid"), seconds=30)

    assert (notices, time.monotonic() - begun < 20) == ([], True)
    assert gone(int((tmp_path / "pid").read_text(encoding="utf-8")))


def gone(pid: int) -> bool:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_hook_that_floods_is_ended(script: Any) -> None:
    (notice,) = run(script("exec yes it never ends"), seconds=60)

    assert f"said more than {LIMIT_BYTES // 1024} KiB" in notice


def test_hook_that_fails_is_told_with_its_code_and_first_line(script: Any) -> None:
    (notice,) = run(script("printf 'no \\033[31mchat\\nmore' >&2; exit 3"))

    assert "ended with 3: no ?[31mchat; what was done stands" in notice


def test_hook_that_does_not_read_what_it_is_told_is_well(script: Any) -> None:
    assert run(script("exit 0")) == []


def test_what_is_missing_or_no_executable_is_not_run(script: Any, tmp_path: Path) -> None:
    folder = tmp_path / "hooks"
    for path, words in (
        (folder / "nobody", "No such file"),
        (script("exit 0", mode=0o644), "could not be started"),
        (script("exit 0", name="odd", first="#!/no/such/shell"), "could not be started"),
        (folder, "it is no file"),
        ("hooks/hook", "no absolute path"),
    ):
        (notice,) = run_unchecked(path)
        assert words in notice


def run_unchecked(path: Path | str) -> list[str]:
    """As `run`, of a policy that was made without its rules: the file that it names may be gone or another's by now."""
    notices: list[str] = []
    run_hook(Policy.model_construct(hooks={"promoted": str(path)}), EVENT, notices.append)
    return notices


@pytest.mark.parametrize("loose", ["the file", "its folder", "behind a link"])
def test_what_everybody_may_change_is_not_run(script: Any, tmp_path: Path, loose: str) -> None:
    path: Path = script(f"touch {tmp_path}/ran")
    if loose == "the file":
        path.chmod(0o757)
    elif loose == "its folder":
        path.parent.chmod(0o777)
    else:
        path.parent.chmod(0o777)
        link = tmp_path / "link"
        link.symlink_to(path)
        path = link

    (notice,) = run(path)

    assert "everybody may write" in notice
    assert not (tmp_path / "ran").exists()
    assert stat.S_IMODE(tmp_path.stat().st_mode) & stat.S_IWOTH == 0


def use(world: Any, **hooks: Path) -> None:
    """Have the world's signed policy name these hooks."""
    path = world.site.root / "policy.toml"
    lines = "".join(f'{name} = "{hook}"\n' for name, hook in hooks.items())
    path.write_text(path.read_text(encoding="utf-8") + f"\n[hooks]\n{lines}", encoding="utf-8")
    world.ok("promote", "--policy", "--reason", "hooks")


def told(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "told").read_text(encoding="utf-8").splitlines()]


def test_promotion_and_the_way_back_are_told(world: Any, script: Any, tmp_path: Path) -> None:
    path = script(f"cat >> {tmp_path}/told")
    use(world, promoted=path, rolled_back=path)
    first = world.served("1.0.0")
    second = world.served("1.1.0", first)

    world.ok("rollback", "--reason", "flickers")

    events = told(tmp_path)
    assert [event["what"] for event in events] == ["promoted", "promoted", "rolled_back"]
    assert [event.get("release") for event in events] == [str(first.ref()), str(second.ref()), None]
    assert (events[0]["channel"], events[0]["scope"], events[0]["why"]) == ("stable", "site", "test")
    assert (events[2]["station"], events[2]["generation"], events[2]["why"]) == ("vm1", 1, "flickers")


def test_station_that_fails_is_told_once(world: Any, script: Any, tmp_path: Path) -> None:
    first = world.served("1.0.0")
    use(world, host_failed=script(f"cat >> {tmp_path}/told"))
    second = world.publish("1.1.0")
    world.accept(second, first)
    world.ok("promote", "tiny-roto@1.1.0", "--reason", "test")
    for file in second.variants[0].files:
        spoil(world.repository, file.sha256)

    codes = [world.run("update")[0] for _ in range(2)]

    assert codes == [5, 5]
    assert world.station.current() == 1
    (event,) = told(tmp_path)
    assert (event["what"], event["release"], event["station"]) == ("host_failed", str(second.ref()), "vm1")


def spoil(repository: Path, digest: str) -> None:
    path = repository / "objects" / digest[:2] / digest
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_hook_that_fails_changes_no_outcome(world: Any, script: Any, tmp_path: Path) -> None:
    use(world, promoted=tmp_path / "missing", rolled_back=script("exit 9"))
    first = world.served("1.0.0")
    second = world.publish("1.1.0")
    world.accept(second, first)

    promoted = world.run("promote", "tiny-roto@1.1.0", "--reason", "test")
    world.ok("update")
    back = world.run("rollback")

    assert (promoted[0], back[0], world.station.current()) == (0, 0, 1)
    assert "the hook promoted" in promoted[2]
    assert "ended with 9" in back[2]
