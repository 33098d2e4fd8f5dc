import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from changeover_registry.canonical import digest
from changeover_registry.names import release_folder
from changeover_registry.records.station import (
    Answer,
    Current,
    Generation,
    GenerationChannel,
    GenerationPin,
    GenerationRelease,
    InstalledFile,
)
from changeover_updater.writers import write_cattery

HERE = Path(__file__).parent
PLUGIN = HERE.parents[2] / "plugins" / "nuke"
MODULES = (
    "changeover_nuke_answers",
    "changeover_nuke_store",
    "changeover_nuke_session",
    "changeover_nuke_scope",
    "changeover_nuke_farm",
    "changeover_nuke",
)
LINES = ("15.0", "15.1", "16.0")


class Situation:
    """A store with one station, and the little language in which tests say what its generation holds."""

    def __init__(self, root: Path, station: str = "ws01") -> None:
        self.root, self.station = root, station
        self.folder = root / "stations" / station
        (self.folder / "generations").mkdir(parents=True)
        (self.folder / "leases").mkdir()

    def release(
        self, model: str, version: str, lines: tuple[str, ...] = LINES, *, content: str = ""
    ) -> GenerationRelease:
        """A release with a ``.cat`` for `lines` (and a sentence for the others) and ONNX for python, installed."""
        identity = digest(f"{model} {version} {content}".encode())
        folder = f"releases/{model}/{release_folder(version, identity)}"
        data = f"opaque {identity}".encode()
        for name in ("nuke-cat/m.cat", "onnx/m.onnx"):
            (self.root / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / folder / name).write_bytes(data)
        cat = f"{folder}/nuke-cat/m.cat"
        files = (InstalledFile(path=cat, size=len(data), sha256=digest(data)),)
        served = [Answer(loader="nuke-inference", nuke_line=x, path=cat, files=files) for x in lines]
        refused = [
            Answer(loader="nuke-inference", nuke_line=x, unavailable=f"not available in Nuke {x}: needs torch 2.1.1")
            for x in LINES
            if x not in lines
        ]
        python = Answer(loader="python", path=f"{folder}/onnx/m.onnx")
        flame = Answer(loader="flame", unavailable="not available in the loader flame here: no variant")
        return GenerationRelease(
            key=f"{model}@{version}-{identity[:12]}",
            model=model,
            version=version,
            digest=identity,
            answers=(*served, *refused, python, flame),
        )

    def generation(self, number: int, *releases: GenerationRelease, **fields: Any) -> Generation:
        """A generation of this station; ``stable`` and ``pins`` may be given by key."""
        stable = fields.pop("stable", ())
        channels = (*fields.pop("channels", ()), *(self.channel("stable", release) for release in stable))
        return Generation(
            number=number,
            station=self.station,
            made_at="2026-11-22T13:45:00Z",
            why="a test",
            site="/site",
            nuke_lines=fields.pop("nuke_lines", LINES),
            releases=releases,
            channels=channels,
            **fields,
        )

    @staticmethod
    def channel(name: str, release: GenerationRelease) -> GenerationChannel:
        """A channel that points at a release."""
        return GenerationChannel(channel=name, model=release.model, key=release.key)

    @staticmethod
    def pin(release: GenerationRelease, **scope: str) -> GenerationPin:
        """A pin of a release."""
        return GenerationPin(model=release.model, key=release.key, **scope)

    def put(self, generation: Generation) -> Path:
        """Write a generation with its Cattery trees and point at it."""
        folder = self.folder / "generations" / str(generation.number)
        folder.mkdir()
        (folder / "generation.json").write_bytes(generation.to_bytes())
        write_cattery(generation, folder, self.root)
        self.point(generation.number)
        return folder

    def point(self, number: int) -> None:
        """Move `current` in one step."""
        beside = self.folder / "current.new"
        beside.write_bytes(Current(generation=number).to_bytes())
        beside.replace(self.folder / "current")

    def environ(self, **more: str) -> dict[str, str]:
        """What a session of this station has in its environment."""
        return {"CHANGEOVER_STORE": str(self.root), "CHANGEOVER_STATION": self.station, **more}

    def lock(self, path: Path, *releases: GenerationRelease, line_device: str = "any", **fields: Any) -> str:
        """Write a farm lock as a person might; returns its path. `fields` stand in each of its lines."""
        more = {**fields, "device": line_device}
        lines = [{"model": r.model, "version": r.version, "digest": r.digest, **more} for r in releases]
        body = {"schema": "changeover.lock/1", "releases": lines}
        path.write_text(json.dumps(body))
        return str(path)


@pytest.fixture
def situation(tmp_path: Path) -> Situation:
    return Situation(tmp_path / "store")


@contextmanager
def _environment(names: Mapping[str, str]) -> Iterator[None]:
    """Exactly these of our variables and of the default scope variables, for a while."""
    ours = [name for name in os.environ if name.startswith("CHANGEOVER_") or name in {"SHOW", "SEQUENCE", "SHOT"}]
    before = {name: os.environ.pop(name) for name in ours}
    os.environ.update(names)
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)


@contextmanager
def _plugged(environ: Mapping[str, str], version: str = "15.1v3") -> Iterator[SimpleNamespace]:
    with _environment(environ):
        sys.path.insert(0, str(PLUGIN))
        before = {name: sys.modules.pop(name) for name in ("nuke", *MODULES) if name in sys.modules}
        sys.modules["nuke"] = nuke = _load("nuke")
        nuke.__dict__["NUKE_VERSION_STRING"] = version
        try:
            found = {
                name.removeprefix("changeover_nuke").lstrip("_") or "main": importlib.import_module(name)
                for name in MODULES
            }
            yield SimpleNamespace(nuke=nuke, **found)
        finally:
            sys.path.remove(str(PLUGIN))
            for name in ("nuke", *MODULES):
                sys.modules.pop(name, None)
            sys.modules.update(before)


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HERE / "standin" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def plug() -> Iterator[Callable[..., Any]]:
    """Load the plug-in in this process, with the stand-in: ``plug(environ, version="15.1v3")``."""
    with ExitStack() as stack:

        def load(environ: Mapping[str, str], version: str = "15.1v3") -> SimpleNamespace:
            stack.close()
            return stack.enter_context(_plugged(environ, version))

        yield load


@pytest.fixture(scope="session")
def answers() -> Any:
    """The resolution of the plug-in, loaded once: it needs no host."""
    with _plugged({}) as found:
        return found.answers


@pytest.fixture(scope="session")
def standin() -> Any:
    """The stand-in for the host, as a module of its own."""
    return _load("nuke")


@pytest.fixture(scope="session")
def cattery() -> Any:
    """The oracle of Cattery's rules."""
    return _load("cattery")


@pytest.fixture
def host() -> Callable[..., Any]:
    """Start the plug-in as Nuke does, in a process of its own that has nothing but the standard library."""

    def start(
        environ: Mapping[str, str],
        script: str,
        version: str = "15.1v3",
        mode: str = "terminal",
        python: str = sys.executable,
    ) -> Any:
        command = [python, "-I", "-S", "-B", str(HERE / "standin" / "host.py"), str(PLUGIN), version, mode, script]
        plain = {"PATH": os.environ["PATH"], "SYSTEMROOT": os.environ.get("SYSTEMROOT", "")}
        done = subprocess.run(
            command, env={**plain, **environ}, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), done.stderr

    return start
