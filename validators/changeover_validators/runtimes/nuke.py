"""A ``.cat`` inside Nuke: the parent's side of ``plugins/nuke/score.py``, which runs under ``nuke -t``.

The contract is applied here, by the code that applies it everywhere; Nuke is handed the finished tensor as a float EXR
and gives one back. So what is scored is the file that artists load, in the program that loads it. Tiling is the node's
own, by its knobs, for that is what artists set.

Nuke runs shut in (`nuke_request` says how). Whatever ends it is named: no licence, a crash, a hang, too much memory, a
frame that is missing. Importable in the base install; numpy and OpenEXR are imported to infer.
"""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from changeover_registry.errors import ChangeoverError
from changeover_registry.records.release import Tile
from changeover_validators.runtimes.endings import Death, cause_of_death, cause_of_error, failure
from changeover_validators.runtimes.interface import Inferred, Plane, SmokeResult, Started
from changeover_validators.runtimes.nuke_request import (
    NukeRequest,
    check_request,
    environment,
    exr_name,
    job_of,
    licence_line,
    no_licence,
    output_channels,
    wrap,
    write_exr,
)
from changeover_validators.runtimes.sandbox import Isolation, available
from changeover_validators.runtimes.watch import Tail, Watch, end_family, oom_kills

if TYPE_CHECKING:
    from changeover_validators.runtimes.contract import ContractRunner
    from changeover_validators.runtimes.geometry import Array

__all__ = ["NukeProcess"]

_NO_GPU = ("", "none", "not available")
_LOOK_SECONDS = 0.01
_GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Running:
    """Nuke with its folder and its watchers."""

    process: subprocess.Popen[bytes]
    work: Path
    watch: Watch
    said: Tail
    oom_before: int


class NukeProcess:
    """One ``.cat`` in one Nuke, as a context manager; takes frames as `process.ModelProcess` does.

    Args:
        request: What to run and how.
        isolation: What isolates on this machine; None finds out.
    """

    def __init__(self, request: NukeRequest, isolation: Isolation | None = None) -> None:
        self._request = request
        self._isolation = isolation if isolation is not None else available()
        self._where = str(request.folder / request.entry)
        self._running: _Running | None = None
        self._started: Started | None = None
        self._ended: ChangeoverError | None = None
        self._runner: ContractRunner | None = None
        self._asked, self._peak_bytes = 0, 0

    def __enter__(self) -> Self:
        """Start Nuke and have it make its nodes.

        Raises:
            UndecidedError: Not run: no bubblewrap, no licence, no Nuke, or a contract that the node cannot honour.
            MeasurementError: Nuke crashed, hung or took too much memory, or does not use the provider.
        """
        from changeover_validators.runtimes.contract import ContractRunner

        request = self._request
        check_request(request, self._where)
        self._runner = ContractRunner(self, request.contract, Tile(size=0), request.ports)
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Have Nuke end, and take its folder away."""
        self._stop()

    @property
    def started(self) -> Started:
        """What runs the model. The node loads its file with the first frame, so `load_us` is that of the nodes alone.

        Raises:
            RuntimeError: Outside of the `with` block.
        """
        if self._started is None:
            message = "Nuke is not started; use it as a context manager"
            raise RuntimeError(message)
        return self._started

    @property
    def peak_rss_bytes(self) -> int:
        """The highest resident memory of Nuke so far, in bytes; 0 where it is not told."""
        if self._running is not None:
            self._running.watch.look_once()
            self._peak_bytes = max(self._peak_bytes, self._running.watch.peak_bytes)
        return self._peak_bytes

    @property
    def compile_us(self) -> int:
        """Not told: the node loads its file with the first frame, and takes no other before it."""
        return 0

    def infer(self, planes: Mapping[str, Plane], *, reset: bool) -> Inferred:
        """The matte of one frame; the node keeps no states, so `reset` changes nothing.

        Raises:
            InvalidInputError: A plane is missing or of a wrong shape.
            MeasurementError: A crash, a hang, too much memory, an error of Nuke's, a missing frame, or a matte that is
                not finite or of a wrong shape.
        """
        if self._ended is not None:
            raise self._ended
        if self._runner is None or self._running is None:
            message = "Nuke is not started; use it as a context manager"
            raise RuntimeError(message)
        matte = self._runner.frame(planes, reset=reset)
        return Inferred(matte.values, matte.model_us)

    def smoke(self) -> SmokeResult:
        """Run the variant's ``smoke.npz`` in Nuke and compare.

        Raises:
            UndecidedError: The variant has none.
            InvalidInputError: It is damaged or does not fit the contract.
            MeasurementError: As `infer`.
        """
        from changeover_validators.runtimes.smoke import read_smoke, run_smoke

        request = self._request
        smoke = read_smoke(request.folder, request.contract)
        return run_smoke(self, request.contract.model_copy(update={"tiles": (Tile(size=0),)}), smoke, request.ports)

    def run(self, tensors: "Mapping[str, Array]") -> "Mapping[str, Array]":
        """One tensor through Nuke, as `contract.Loaded`: what the contract made of a frame, handed over as it is.

        Raises:
            MeasurementError: As `infer`.
        """
        running, tensor = self._running, self._request.contract.inputs[0]
        if running is None:
            message = "Nuke is not started; use it as a context manager"
            raise RuntimeError(message)
        self._asked += 1
        plate = running.work / f"plate.{self._asked}.exr"
        write_exr(plate, tensor.channels, tensors[tensor.name][0])
        _put(running.work / f"request.{self._asked}.json", {"number": self._asked})
        said = self._wait(f"answer.{self._asked}.json", self._request.wall_seconds)
        self._check_provider(said)
        self._heard(said)
        plate.unlink(missing_ok=True)
        return {self._request.contract.output.name: self._matte(running.work / f"matte.{self._asked}.exr")}

    def _heard(self, said: Mapping[str, Any]) -> None:
        """What a script of another kind says of a frame besides."""

    def _start(self) -> None:
        request = self._request
        work = Path(tempfile.mkdtemp(prefix="changeover-nuke-"))
        for name in ("home", "tmp"):
            (work / name).mkdir()
        _put(work / "job.json", job_of(request, work))
        command = [str(request.nuke), *(["--gpu"] if request.provider == "cuda" else []), "-t"]
        command += [str(request.script), str(work / "job.json")]
        before, now = oom_kills(), time.monotonic_ns()
        try:
            argv = wrap(self._isolation, request, work, command)
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env=environment(os.environ, work), cwd=work, start_new_session=True,
            )  # fmt: skip
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        watch, said = Watch(process, request.ram_mib * 1024 * 1024), Tail(process.stdout)  # type: ignore[arg-type]
        watch.start()
        said.start()
        self._running = _Running(process, work, watch, said, before)
        about = self._wait("started.json", request.start_seconds)
        whole_us = (time.monotonic_ns() - now) // 1000
        load_us = _integer(about, "load_us")
        ran = self._check_provider(about)
        version = f"Nuke {about.get('nuke')}"
        self._started = Started(ran, load_us, version, "bubblewrap", start_us=max(whole_us - load_us, 0))

    def _wait(self, name: str, seconds: float) -> Mapping[str, Any]:
        """The answer of that name, within its time."""
        running = self._running
        if running is None:  # pragma: no cover - the callers have looked
            raise RuntimeError(name)
        running.watch.until(seconds)
        path = running.work / name
        try:
            while not path.is_file():
                if running.process.poll() is not None and not path.is_file():
                    raise self._death(running)
                time.sleep(_LOOK_SECONDS)
        finally:
            running.watch.until(None)
        return self._unless_error(path)

    def _unless_error(self, path: Path) -> Mapping[str, Any]:
        try:
            said: dict[str, Any] = json.loads(path.read_bytes())
            kind = said["kind"]
        except (ValueError, KeyError, TypeError) as error:
            raise self._failed("crash", "an answer by the protocol", "an answer that is none") from error
        if kind == "error":
            text = f"{said.get('class')}: {said.get('text')}"
            if line := licence_line(text):
                raise no_licence(self._where, line)
            cause = cause_of_error(str(said.get("class")), str(said.get("text")), self._request.provider)
            raise failure(cause, where=self._where, expected="a model that loads and runs", actual=text)
        return said

    def _death(self, running: _Running) -> ChangeoverError:
        running.said.join(_GRACE_SECONDS)
        code, text = running.process.returncode, running.said.text()
        if running.watch.killed_for is None and (line := licence_line(text)):
            self._ended = no_licence(self._where, line)
            return self._ended
        kills = oom_kills() - running.oom_before
        started = self._started is not None
        death = Death(
            code, launched=True, killed_for=running.watch.killed_for, oom_kills=kills, stderr=text, started=started
        )
        cause, found = cause_of_death(death)
        return self._failed(cause, self._expected(cause), found)

    def _expected(self, cause: str) -> str:
        if cause == "hang":
            return f"an answer within {self._request.wall_seconds:g} s"
        return f"at most {self._request.ram_mib} MiB of RAM" if cause == "out of host memory" else "a Nuke that runs it"

    def _failed(self, cause: Any, expected: str, actual: str) -> ChangeoverError:  # noqa: ANN401 - an endings.Cause
        self._ended = failure(cause, where=self._where, expected=expected, actual=actual)
        if self._running is not None:
            end_family(self._running.process)
        return self._ended

    def _check_provider(self, said: Mapping[str, Any]) -> str:
        """The provider that runs. The node falls back to the CPU in silence; what it names as its GPU tells of that."""
        name = str(said.get("gpu_name", ""))
        ran = "cpu" if name.strip().lower() in _NO_GPU else "cuda"
        if self._request.provider == "cuda" and ran == "cpu":
            raise self._failed("provider", "Nuke on a GPU", f"the node names {name or 'none'} as its GPU")
        return self._request.provider

    def _matte(self, path: Path) -> "Array":
        """The tensor that the model wrote, float32 [1, C, H, W], composed into the plate's window."""
        from changeover_validators.golden.images import read_image

        channels = tuple(map(exr_name, output_channels(self._request)))
        if not path.is_file():
            raise self._failed("crash", "a matte for every frame", f"none for frame {self._asked}")
        try:
            image = read_image(path, channels)
        except ChangeoverError as error:
            raise self._failed("crash", f"a matte with {', '.join(channels)}", str(error)) from error
        path.unlink()
        answer: Array = image.pixels.transpose(2, 0, 1)[None].astype("float32")
        return answer

    def _stop(self) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        running.watch.look_once()
        with contextlib.suppress(OSError):
            (running.work / "stop").touch()
        try:
            running.process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            end_family(running.process)
            running.process.wait()
        running.watch.stop()
        running.said.join(_GRACE_SECONDS)
        self._peak_bytes = max(self._peak_bytes, running.watch.peak_bytes)
        shutil.rmtree(running.work, ignore_errors=True)


def _put(path: Path, body: Mapping[str, object]) -> None:
    """A JSON file that is there whole or not at all."""
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(body), encoding="utf-8")
    beside.replace(path)


def _integer(said: Mapping[str, Any], name: str) -> int:
    value = said.get(name)
    return value if type(value) is int and value >= 0 else 0
