"""Memory of a .cat through ``nuke -t measure.py``: a program stands in for Nuke, the script in it is the real one."""

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from changeover_registry.errors import MeasurementError
from changeover_registry.records.base import Unknown
from changeover_registry.records.release import Contract, Port, TensorIn, TensorOut, Tile
from changeover_validators.runtimes.nuke_request import NukeRequest
from changeover_validators.runtimes.sandbox import available
from changeover_validators.vram.measure_nuke import measure_in_nuke

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
STANDIN = ROOT / "tests" / "plugins" / "nuke" / "standin"
RGB = ("rgba.red", "rgba.green", "rgba.blue")
NOT_AVAILABLE = 2**64 - 1
needs_bubblewrap = pytest.mark.skipif(available().name != "bubblewrap", reason="no bubblewrap on this machine")


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., NukeRequest]:
    """A request for a file of the given text that stands for a .cat; ``gpu`` makes the stand-in name one."""
    folder = tmp_path / "Nuke15.1v3"
    folder.mkdir()
    shutil.copy(HERE / "standin.py", folder)
    shutil.copy(STANDIN / "nuke.py", folder)
    program = folder / "Nuke15.1"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I {folder}/standin.py "$@"\n', encoding="utf-8")
    program.chmod(0o755)

    def make(deed: str, *, gpu: bool = False, provider: str = "cpu") -> NukeRequest:
        variant = tmp_path / "variant"
        variant.mkdir()
        (variant / "Roto.cat").write_text(deed, encoding="utf-8")
        if gpu:
            (folder / "gpu").touch()
        return NukeRequest(
            nuke=program,
            script=ROOT / "plugins" / "nuke" / "score.py",
            folder=variant,
            entry="Roto.cat",
            contract=Contract(
                evaluation="stateless",
                inputs=(TensorIn(name="image", port="plate", channels=RGB),),
                output=TensorOut(name="matte", port="matte", rule="as-is"),
                colour="scene-linear",
            ),
            tile=Tile(size=0),
            half=False,
            provider=provider,
            wall_seconds=60.0,
            start_seconds=60.0,
            ram_mib=4096,
            ports=(Port(name="plate", channels=RGB, colour="scene-linear"),),
            outputs=(Port(name="matte", channels=("rgba.alpha",), colour="raw"),),
            visible=(ROOT, Path(sys.prefix), Path(sys.base_prefix)),
        )

    return make


class _NvmlError(Exception):
    pass


class _Growing:
    """NVML as it sees the program below `place` that stands in for Nuke, from outside: another figure at each look."""

    NVMLError = _NvmlError

    def __init__(self, place: Path, *held: int | None) -> None:
        self._place, self._held, self._looks = str(place).encode(), held, 0

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 - NVML's name
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802 - as above
        return index

    def nvmlDeviceGetName(self, _handle: int) -> str:  # noqa: N802 - as above
        return "NVIDIA RTX A4000"

    def nvmlDeviceGetComputeRunningProcesses(self, _handle: int) -> list[Any]:  # noqa: N802 - as above
        used = self._held[min(self._looks, len(self._held) - 1)]
        self._looks += 1
        nukes = [int(path.name) for path in Path("/proc").glob("[0-9]*") if self._is_nuke(path)]
        return [SimpleNamespace(pid=max(nukes), usedGpuMemory=used)]

    def nvmlDeviceGetGraphicsRunningProcesses(self, _handle: int) -> list[Any]:  # noqa: N802 - as above
        return []

    def nvmlDeviceGetAccountingStats(self, _handle: int, _pid: int) -> Any:  # noqa: N802 - as above
        raise _NvmlError("Not Supported")

    def _is_nuke(self, process: Path) -> bool:
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return b"-I" in words[:2] and any(word.startswith(self._place) for word in words)


@needs_bubblewrap
def test_what_nuke_holds_is_told_before_the_model_after_the_first_frame_and_steady(
    ask: Callable[..., NukeRequest], tmp_path: Path
) -> None:
    found = measure_in_nuke(
        ask("red", gpu=True, provider="cuda"), 64, 32, runs=2, nvml=_Growing(tmp_path, 300, 900, 1000, 1200, 1100)
    )

    assert (found.before, found.first, found.steady, found.model_bytes) == (300, 900, 1200, 900)
    assert (found.gpu, found.nuke) == ("NVIDIA RTX A4000", "Nuke 15.1v3")
    assert isinstance(found.accounted, Unknown)
    assert "Not Supported" in found.accounted.unknown
    assert not isinstance(found.resident, Unknown)
    assert found.resident > 10 << 20
    assert found.frame_us > 0


@needs_bubblewrap
def test_where_the_driver_tells_no_figure_of_one_process_both_sides_say_so(
    ask: Callable[..., NukeRequest], tmp_path: Path
) -> None:
    found = measure_in_nuke(ask("red", gpu=True, provider="cuda"), 64, 32, runs=1, nvml=_Growing(tmp_path, None))

    for held in (found.before, found.first, found.steady, found.model_bytes):
        assert isinstance(held, Unknown)
        assert "per-process unavailable" in held.unknown
        assert "from inside: " in held.unknown


@needs_bubblewrap
def test_a_node_that_falls_back_to_the_cpu_is_an_error_and_no_figure(
    ask: Callable[..., NukeRequest], tmp_path: Path
) -> None:
    with pytest.raises(MeasurementError, match="Not available as its GPU") as caught:
        measure_in_nuke(ask("red", provider="cuda"), 64, 32, nvml=_Growing(tmp_path, 1))
    assert caught.value.rule == "provider"


@needs_bubblewrap
def test_on_the_cpu_only_the_hosts_memory_is_told(ask: Callable[..., NukeRequest]) -> None:
    found = measure_in_nuke(ask("red"), 64, 32, runs=1)
    assert isinstance(found.steady, Unknown)
    assert "on the CPU" in found.steady.unknown
    assert not isinstance(found.resident, Unknown)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The script as a module, as Nuke would have it: its own name first among the arguments."""
    path = ROOT / "plugins" / "nuke" / "measure.py"
    monkeypatch.setattr(sys, "argv", [str(path)])
    monkeypatch.setattr(sys, "path", [str(STANDIN), *sys.path])
    spec = importlib.util.spec_from_file_location("measure_in_nuke_script", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in ("nuke", "score"):
        sys.modules.pop(name, None)


class _Library:
    """NVML as its C functions answer: two devices, each with processes and the bytes that they hold."""

    def __init__(self, script: Any, computing: tuple[dict[int, int], ...], drawing: tuple[dict[int, int], ...]) -> None:
        self._script, self._computing, self._drawing = script, computing, drawing
        self.accounts: dict[int, int] = {}

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:  # noqa: N802 - NVML's name
        count._obj.value = len(self._computing)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, device: Any) -> int:  # noqa: N802 - as above
        device._obj.value = index.value + 1
        return 0

    def nvmlDeviceGetComputeRunningProcesses_v3(self, device: Any, count: Any, into: Any) -> int:  # noqa: N802
        return self._listed(self._computing[device.value - 1], count, into)

    def nvmlDeviceGetGraphicsRunningProcesses_v3(self, device: Any, count: Any, into: Any) -> int:  # noqa: N802
        return self._listed(self._drawing[device.value - 1], count, into)

    def nvmlDeviceGetAccountingStats(self, _device: Any, pid: Any, account: Any) -> int:  # noqa: N802 - as above
        if pid.value not in self.accounts:
            return 6
        account._obj.most = self.accounts[pid.value]
        return 0

    @staticmethod
    def _listed(processes: dict[int, int], count: Any, into: Any) -> int:
        """As documented: too small a list is answered with how long it has to be."""
        if into is None or count._obj.value < len(processes):
            count._obj.value = len(processes)
            return 7 if processes else 0
        count._obj.value = len(processes)
        for entry, (pid, used) in zip(into, processes.items(), strict=False):
            entry.pid, entry.used = pid, used
        return 0


def test_a_process_is_found_on_every_gpu_and_counted_once_where_it_also_draws(script: Any) -> None:
    library = _Library(script, ({7: 100, 8: 1}, {9: 5}), ({7: 100}, {7: 30}))
    library.accounts = {7: 400}
    gauge = script.Gauge(library)
    assert gauge.held(7) == 130
    assert gauge.held(9) == 5
    assert gauge.held(4) == "no GPU lists process 4"
    assert gauge.accounted(7) == 800
    assert gauge.accounted(8) == "the driver keeps no accounts of process 8"


def test_a_figure_that_the_driver_does_not_tell_is_its_reason_and_no_zero(script: Any) -> None:
    gauge = script.Gauge(_Library(script, ({7: NOT_AVAILABLE},), ({},)))
    assert gauge.held(7).startswith("per-process unavailable")


def test_without_nvml_every_figure_is_the_reason(script: Any) -> None:
    gauge = script.open_gauge(("no-such-library.so.1",))
    told = script.figures(gauge)
    assert told["gpu"].startswith("NVML is not installed here: ")
    assert told["accounted"] == told["gpu"]
    assert told["resident"]["most"] >= told["resident"]["now"] > 0


def test_a_system_that_tells_no_resident_memory_says_why(script: Any, tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name:\tnuke\n", encoding="utf-8")
    assert script.resident(str(tmp_path / "status"))["now"].endswith("does not tell it")
    assert "No such file" in script.resident(str(tmp_path / "none"))["most"]
