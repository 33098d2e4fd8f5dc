import builtins
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

HERE = Path(__file__).parent
PLUGIN = HERE.parents[2] / "plugins" / "nuke"


@pytest.fixture
def farm(situation: Any, plug: Any, tmp_path: Path) -> Callable[..., SimpleNamespace]:
    """A worker with a lock on 1.0.0 and a stamped node of it; the channel has moved on to 1.1.0 meanwhile."""
    old, new = situation.release("acme/roto", "1.0.0"), situation.release("acme/roto", "1.1.0")

    def start(*locked: Any, device: str = "any", environ: dict[str, str] | None = None, **lock: Any) -> SimpleNamespace:
        situation.put(situation.generation(1, old, new, stable=(new,), farm_device=device))
        path = situation.lock(tmp_path / "job.lock", *(locked or (old,)), **lock)
        found = plug({**situation.environ(CHANGEOVER_LOCK=path), **(environ or {})})
        found.main.start()
        node = found.nuke.createNode("Inference")
        found.main.stamp_node(node, found.main.Release(old.model, old.version, old.digest))
        found.main.refresh_script()
        write = found.nuke.createNode("Write")
        return SimpleNamespace(nuke=found.nuke, main=found.main, node=node, write=write, old=old, new=new, found=found)

    return start


def _file(situation: Any, release: Any) -> Path:
    return Path(situation.root, release.answers[0].path)


def _stopped(worker: SimpleNamespace) -> str:
    with pytest.raises(RuntimeError) as caught:
        worker.nuke.render(worker.write)
    sentence = str(caught.value)
    assert sentence.startswith("Changeover: ")
    assert "\n" not in sentence
    return sentence


def test_a_render_of_what_the_lock_froze_goes_on_and_hashes_each_file_once(
    farm: Any, situation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = farm()
    opened: list[str] = []
    real = builtins.open

    def counted(path: Any, *more: Any, **named: Any) -> Any:
        opened.append(str(path))
        return real(path, *more, **named)

    monkeypatch.setattr(builtins, "open", counted)
    worker.nuke.render(worker.write)
    worker.nuke.render(worker.write)

    assert worker.nuke.said == []
    assert [path for path in opened if path.endswith(".cat")] == [str(_file(situation, worker.old))]


def test_a_file_with_other_bytes_stops_the_render_with_one_sentence(farm: Any, situation: Any) -> None:
    worker = farm()
    file = _file(situation, worker.old)
    file.write_bytes(b"x" * file.stat().st_size)

    sentence = _stopped(worker)

    assert f"Inference1: {file} is not the file of acme/roto 1.0.0" in sentence
    assert "changeover ensure" in sentence


def test_a_file_that_changes_between_two_tasks_of_one_process_is_seen(farm: Any, situation: Any) -> None:
    worker = farm()
    worker.nuke.render(worker.write)
    file = _file(situation, worker.old)
    os.utime(file, (1, 1))
    file.write_bytes(b"x" * file.stat().st_size)

    assert "is not the file of" in _stopped(worker)


def test_a_file_that_is_gone_stops_the_render(farm: Any, situation: Any) -> None:
    worker = farm()
    _file(situation, worker.old).unlink()

    assert "is not on this machine, and nothing is loaded in its place" in _stopped(worker)


def test_a_lock_of_another_release_stops_a_stamped_node(farm: Any, situation: Any) -> None:
    worker = farm(situation.release("acme/roto", "1.1.0"))

    assert "the farm lock names acme/roto@1.1.0" in _stopped(worker)


def test_a_pin_that_came_after_the_lock_stops_the_render_instead_of_another_matte(
    situation: Any, plug: Any, tmp_path: Path
) -> None:
    old, new = situation.release("acme/roto", "1.0.0"), situation.release("acme/roto", "1.1.0")
    situation.put(situation.generation(1, old, new, stable=(old,), pins=(situation.pin(new),)))
    found = plug(situation.environ(CHANGEOVER_LOCK=situation.lock(tmp_path / "lock", old)))
    node = found.nuke.createNode("Inference")
    node.addKnob(found.nuke.String_Knob("changeover_model", "model", "acme/roto"))
    found.main.start()
    found.main.refresh_script()
    worker = SimpleNamespace(nuke=found.nuke, write=found.nuke.createNode("Write"))

    assert "the farm lock names acme/roto 1.0.0" in _stopped(worker)


def test_a_node_that_goes_by_a_channel_and_is_in_no_line_stops_the_render(farm: Any) -> None:
    worker = farm(node="Inference1")
    other = worker.nuke.createNode("Inference")
    other.addKnob(worker.nuke.String_Knob("changeover_model", "model", "acme/roto"))
    worker.main.refresh_script()

    assert "Inference2: no line of the farm lock is for it, and it goes by its channel stable" in _stopped(worker)


def test_a_model_file_that_somebody_set_by_hand_stops_the_render(farm: Any, situation: Any) -> None:
    worker = farm()
    worker.node["modelFile"].setValue(str(_file(situation, worker.new)))

    assert "its Model File is " in _stopped(worker)


def test_a_lock_of_another_nuke_line_or_of_other_files_stops_the_render(
    farm: Any, situation: Any, tmp_path: Path
) -> None:
    other_line = farm(nuke_line="16.0")
    assert "written for Nuke 16.0, and this is Nuke 15.1" in _stopped(other_line)

    shutil.rmtree(situation.folder / "generations" / "1")
    other_files = farm(files=[{"path": "releases/x.cat", "size": 1, "sha256": "0" * 64}])
    assert "the farm lock froze other files of acme/roto 1.0.0" in _stopped(other_files)


def test_a_generation_that_names_no_bytes_cannot_be_verified(situation: Any, plug: Any, tmp_path: Path) -> None:
    release = situation.release("acme/roto", "1.0.0")
    bare = tuple(answer.model_copy(update={"files": ()}) for answer in release.answers)
    release = release.model_copy(update={"answers": bare})
    situation.put(situation.generation(1, release, stable=(release,)))
    found = plug(situation.environ(CHANGEOVER_LOCK=situation.lock(tmp_path / "lock", release)))
    found.main.start()
    found.main.new_node("roto")

    worker = SimpleNamespace(nuke=found.nuke, write=found.nuke.createNode("Write"))
    assert "generation 1 does not say what bytes" in _stopped(worker)


def test_a_lock_that_cannot_be_read_stops_the_render_and_not_the_start(
    situation: Any, plug: Any, tmp_path: Path
) -> None:
    release = situation.release("acme/roto", "1.0.0")
    situation.put(situation.generation(1, release, stable=(release,)))
    found = plug(situation.environ(CHANGEOVER_LOCK=str(tmp_path / "nothing")))
    found.nuke.GUI = True
    found.main.start()
    node = found.nuke.createNode("Inference")
    node.addKnob(found.nuke.String_Knob("changeover_model", "model", "acme/roto"))

    worker = SimpleNamespace(nuke=found.nuke, write=found.nuke.createNode("Write"))
    assert "nothing cannot be read (No such file or directory); correct CHANGEOVER_LOCK" in _stopped(worker)


def test_a_lock_that_is_set_after_the_start_is_not_passed_over(
    situation: Any, plug: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = situation.release("acme/roto", "1.0.0")
    situation.put(situation.generation(1, release, stable=(release,)))
    found = plug(situation.environ())
    found.main.start()
    found.main.new_node("roto")
    monkeypatch.setenv("CHANGEOVER_LOCK", situation.lock(tmp_path / "lock", release))

    worker = SimpleNamespace(nuke=found.nuke, write=found.nuke.createNode("Write"))
    assert "was set after Nuke had started" in _stopped(worker)


def test_without_a_lock_and_a_wanted_gpu_a_render_is_not_looked_at(situation: Any, plug: Any) -> None:
    release = situation.release("acme/roto", "1.0.0")
    situation.put(situation.generation(1, release, stable=(release,)))
    found = plug(situation.environ())
    found.main.start()
    found.main.new_node("roto")
    _file(situation, release).write_bytes(b"another")
    found.nuke.allNodes = None  # Whoever looked at the nodes would fail.

    found.nuke.render(found.nuke.createNode("Write"))


@pytest.mark.parametrize("by", ["policy", "lock"])
def test_a_worker_that_would_use_its_cpu_is_stopped_by_what_shows_it(farm: Any, situation: Any, by: str) -> None:
    wanted: dict[str, Any] = {"device": "gpu"} if by == "policy" else {"line_device": "gpu"}
    worker = farm(**wanted)

    worker.node["gpuName"].setValue("Not available")
    assert "a GPU is wanted and this worker would use its CPU: Nuke found no GPU" in _stopped(worker)
    worker.node["useGPUIfAvailable"].setValue(False)
    assert "Use GPU if available is off" in _stopped(worker)
    worker.nuke.rawArgs = ["Nuke15.1", "-t"]
    assert "Nuke was started without --gpu" in _stopped(worker)
    os.environ["FN_NUKE_DISABLE_GPU_ACCELERATION"] = "1"
    try:
        assert "FN_NUKE_DISABLE_GPU_ACCELERATION is set" in _stopped(worker)
    finally:
        del os.environ["FN_NUKE_DISABLE_GPU_ACCELERATION"]
    worker.nuke.GUI = True
    worker.nuke.render(worker.write)


LIBRARY = """
int cuInit(unsigned flags) { return %s; }
int cuDeviceGetCount(int *count) { *count = %s; return 0; }
"""

RENDER = """
import nuke, changeover_nuke
changeover_nuke.new_node("roto")
try:
    nuke.render(nuke.createNode("Write"))
    answer = "rendered"
except RuntimeError as error:
    answer = str(error)
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler for a CUDA driver with known answers")
@pytest.mark.skipif(sys.platform != "linux", reason="the driver's library has another name there")
@pytest.mark.parametrize(("error", "count", "runs"), [(0, 1, True), (0, 0, False), (100, 1, False)])
def test_whether_there_is_a_gpu_is_what_the_driver_says_to_this_process(
    situation: Any, host: Any, tmp_path: Path, error: int, count: int, runs: bool
) -> None:
    release = situation.release("acme/roto", "1.0.0")
    situation.put(situation.generation(1, release, stable=(release,), farm_device="gpu"))
    (tmp_path / "cuda.c").write_text(LIBRARY % (error, count))
    command = ["cc", "-shared", "-fPIC", "-o", str(tmp_path / "libcuda.so.1"), str(tmp_path / "cuda.c")]
    subprocess.run(command, check=True)

    answer, _ = host(situation.environ(LD_LIBRARY_PATH=str(tmp_path)), RENDER)

    assert (answer == "rendered") == runs
    assert runs or answer.endswith("this worker would use its CPU: CUDA finds no GPU here")


@pytest.mark.skipif(sys.platform != "linux", reason="the driver's library has another name there")
def test_a_worker_without_a_driver_is_stopped(situation: Any, plug: Any, tmp_path: Path) -> None:
    import ctypes

    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        assert plug({}).farm.count_gpus() == 0
    else:
        assert plug({}).farm.count_gpus() is not None
