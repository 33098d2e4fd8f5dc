# ruff: noqa: S102
# The files of the plug-in are run as Nuke runs them, by exec.

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

PLUGIN = Path(__file__).parents[3] / "plugins" / "nuke"
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
PYTHONS = sorted(
    {sys.executable, *map(str, PYENV.glob("3.[789].*/bin/python")), *map(str, PYENV.glob("3.1[0-9].*/bin/python"))}
)

ASK = """
import changeover_nuke
found = changeover_nuke.resolve("roto", "nuke-inference")
answer = {
    "path": found.path, "source": found.source, "unavailable": found.unavailable, "error": found.error,
    "plugins": nuke.pluginPath(), "said": nuke.said, "status": changeover_nuke.status(),
}
"""


@pytest.fixture
def two(situation: Any) -> Any:
    """Generation 1 serves 1.0.0; generation 2, which nobody points at yet, serves 1.1.0 and keeps 1.0.0."""
    old, new = situation.release("acme/roto", "1.0.0"), situation.release("acme/roto", "1.1.0")
    situation.put(situation.generation(1, old, stable=(old,)))
    situation.put(situation.generation(2, old, new, stable=(new,)))
    situation.point(1)
    return old, new


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("mode", ["terminal", "gui"])
def test_nuke_starts_with_nothing_but_the_standard_library_and_resolves(
    situation: Any, two: Any, host: Any, python: str, mode: str
) -> None:
    answer, errors = host(situation.environ(), ASK, mode=mode, python=python)

    assert answer["path"].endswith("/nuke-cat/m.cat")
    assert answer["source"] == "channel stable"
    assert answer["plugins"] == [f"{situation.root}/stations/ws01/generations/1/nuke/15.1"]
    assert (answer["said"], errors) == ([], "")


@pytest.mark.parametrize("mode", ["terminal", "gui"])
def test_nuke_starts_without_a_store_and_says_one_sentence(tmp_path: Path, host: Any, mode: str) -> None:
    answer, errors = host({"CHANGEOVER_NUKE_JSON": str(tmp_path / "nuke.json")}, ASK, mode=mode)

    assert (answer["path"], answer["error"], answer["plugins"], errors) == (None, True, [], "")
    assert answer["unavailable"].startswith("no store is set")
    assert answer["said"] == ["Changeover: " + answer["unavailable"]]


def test_nuke_starts_when_the_plug_in_itself_is_broken(tmp_path: Path, host: Any, situation: Any) -> None:
    for path in PLUGIN.glob("*.py"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "changeover_nuke.py").write_text("raise RuntimeError('half of a file')\n")
    runner = Path(__file__).parent / "standin" / "host.py"

    command = [sys.executable, "-I", "-S", "-B", str(runner), str(tmp_path), "15.1v3", "terminal", "answer = 'up'"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, json.loads(done.stdout)) == (0, "up")
    assert done.stderr == "Changeover did not start: half of a file\n"


def test_a_session_keeps_its_generation_while_current_moves_and_after_a_reload(
    situation: Any, two: Any, host: Any
) -> None:
    old, _ = two
    script = f"""
import importlib, os, sys
import changeover_nuke, changeover_nuke_session
ask = lambda: changeover_nuke.resolve("acme/roto", "nuke-inference").release.key
before = ask()
folder = {str(situation.folder)!r}
with open(folder + "/next", "w") as stream:
    stream.write('{{"schema":"changeover.current/1","generation":2}}')
os.replace(folder + "/next", folder + "/current")
importlib.reload(changeover_nuke_session)
importlib.reload(changeover_nuke)
answer = [before, ask(), changeover_nuke.status()]
"""

    answer, _ = host(situation.environ(), script)
    later, _ = host(situation.environ(), "import changeover_nuke as c\nanswer = c.status()")

    assert answer[:2] == [old.key, old.key]
    assert answer[2] == "This session keeps generation 1 of station ws01 (Nuke 15.1)."
    assert later == "This session keeps generation 2 of station ws01 (Nuke 15.1)."


def test_the_lease_is_there_while_the_session_lives_and_gone_after_it(situation: Any, two: Any, host: Any) -> None:
    script = f"import os\nanswer = os.listdir({str(situation.folder / 'leases')!r})"

    during, _ = host(situation.environ(), script)

    assert len(during) == 1
    assert during[0].endswith(".json")
    assert list((situation.folder / "leases").iterdir()) == []


def test_a_lease_that_somebody_took_away_does_not_disturb_the_end(situation: Any, two: Any, host: Any) -> None:
    script = f"import shutil\nshutil.rmtree({str(situation.folder / 'leases')!r})\nanswer = 1"

    answer, errors = host(situation.environ(), script)

    assert (answer, errors) == (1, "")


def test_the_lease_is_touched_as_long_as_the_session_lives_and_taken_away_at_its_end(
    situation: Any, two: Any, plug: Any
) -> None:
    found = plug(situation.environ())
    lease = situation.folder / "leases" / "host-1.json"
    lease.touch()
    os.utime(lease, (0, 0))
    found.store.LEASE_SECONDS = 0.01

    ended = found.session.keep_lease(str(lease))
    touched = _within_a_second(lambda: lease.stat().st_mtime > 1)
    found.session.drop_lease(str(lease), ended)

    assert touched
    assert not lease.exists()


def _within_a_second(holds: Callable[[], bool]) -> bool:
    for _ in range(100):
        if holds():
            return True
        time.sleep(0.01)
    return False


def test_init_py_starts_the_plug_in_and_survives_its_absence(
    situation: Any, two: Any, plug: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    code = compile((PLUGIN / "init.py").read_text(encoding="utf-8"), str(PLUGIN / "init.py"), "exec")
    found = plug(situation.environ())

    exec(code, {"__name__": "init"})
    started = found.nuke.pluginPath()
    sys.modules.update({"changeover_nuke": cast("Any", None)})  # Python's own way to say: not there.
    exec(code, {"__name__": "init"})

    assert started == [f"{situation.root}/stations/ws01/generations/1/nuke/15.1"]
    assert capsys.readouterr().err.startswith("Changeover did not start: import of changeover_nuke halted")


def test_a_nuke_line_without_a_tree_puts_nothing_on_the_path(situation: Any, two: Any, plug: Any) -> None:
    found = plug(situation.environ(), "14.0v5")

    found.main.start()

    assert (found.nuke.pluginPath(), found.nuke.said) == ([], [])


def test_without_a_store_start_says_why_and_puts_nothing_on_the_path(tmp_path: Path, plug: Any) -> None:
    found = plug({"CHANGEOVER_STORE": str(tmp_path / "none")})

    found.main.start()

    assert found.nuke.pluginPath() == []
    assert found.nuke.said == ["Changeover: " + found.main.status()]


def test_a_nuke_line_that_the_generation_does_not_know_gets_no_cattery_and_a_sentence(
    situation: Any, two: Any, host: Any
) -> None:
    answer, _ = host(situation.environ(), ASK, version="14.0v5")

    assert (answer["plugins"], answer["path"]) == ([], None)
    assert answer["unavailable"] == "not available in Nuke 14.0: this station prepares models for 15.0, 15.1, 16.0"


def test_a_stamped_node_resolves_the_release_it_was_made_with_after_the_changeover(
    situation: Any, two: Any, plug: Any
) -> None:
    old, new = two
    situation.point(2)
    found = plug(situation.environ())

    stamped = found.main.resolve(
        "acme/roto", "nuke-inference", stamp=found.main.Release(old.model, old.version, old.digest)
    )
    fresh = found.main.resolve("acme/roto", "nuke-inference")

    assert (stamped.source, stamped.release.key) == ("stamp", old.key)
    assert (fresh.source, fresh.release.key) == ("channel stable", new.key)


def test_each_loader_gets_its_own_file(situation: Any, two: Any, plug: Any) -> None:
    found = plug(situation.environ())

    nuke = found.main.resolve("acme/roto", "nuke-inference")
    python = found.main.resolve("acme/roto", "python")
    flame = found.main.resolve("acme/roto", "flame")

    assert (Path(nuke.path).name, Path(python.path).name) == ("m.cat", "m.onnx")
    assert (flame.path, flame.error) == (None, False)
    assert flame.unavailable.startswith("not available in the loader flame")


def test_a_file_that_is_gone_from_the_disk_is_an_error_that_names_the_command(
    situation: Any, two: Any, plug: Any
) -> None:
    found = plug(situation.environ())
    Path(found.main.resolve("acme/roto", "nuke-inference").path).unlink()

    gone = found.main.resolve("acme/roto", "nuke-inference")

    assert (gone.path, gone.error, gone.source) == (None, True, "channel stable")
    assert "run: changeover update" in gone.unavailable


def test_a_farm_lock_keeps_a_new_node_where_the_channel_moved_on(
    situation: Any, two: Any, plug: Any, tmp_path: Path
) -> None:
    old, _ = two
    situation.point(2)
    found = plug(situation.environ(CHANGEOVER_LOCK=situation.lock(tmp_path / "lock", old)))

    answer = found.main.resolve("acme/roto", "nuke-inference")

    assert (answer.source, answer.release.key) == ("lock", old.key)


def test_a_farm_lock_that_cannot_be_read_stops_every_answer(
    situation: Any, two: Any, plug: Any, tmp_path: Path
) -> None:
    found = plug(situation.environ(CHANGEOVER_LOCK=str(tmp_path / "nothing")))

    answer = found.main.resolve("acme/roto", "nuke-inference")
    found.main.start()

    assert (answer.path, answer.error) == (None, True)
    assert "nothing cannot be read" in answer.unavailable
    assert found.nuke.said == ["Changeover: " + answer.unavailable]
    assert found.main.status().endswith(answer.unavailable)


def test_a_generation_that_is_bent_inside_gives_a_sentence_when_asked(situation: Any, two: Any, plug: Any) -> None:
    path = situation.folder / "generations" / "1" / "generation.json"
    body = json.loads(path.read_bytes())
    del body["releases"][0]["answers"]
    path.write_text(json.dumps(body))
    path.with_name("resolve.jsonl").unlink()
    found = plug(situation.environ())

    answer = found.main.resolve("acme/roto", "nuke-inference")

    assert (answer.path, answer.error) == (None, True)
    assert "is not as expected (KeyError('answers')); run: changeover status" in answer.unavailable


def test_start_says_what_went_wrong_and_does_not_raise(situation: Any, two: Any, plug: Any) -> None:
    found = plug(situation.environ())
    found.nuke.addOnScriptLoad = None

    found.main.start()

    assert found.nuke.said[0].startswith("Changeover did not start (TypeError:")


@pytest.mark.parametrize("name", sorted(path.name for path in PLUGIN.glob("*.py")))
def test_the_plug_in_is_written_in_the_syntax_of_python_3_7(name: str) -> None:
    import ast

    assert ast.parse((PLUGIN / name).read_text(encoding="utf-8"), feature_version=(3, 7)).body
