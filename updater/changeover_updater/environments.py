"""Makes the environments that `[runtimes]` in host.toml names: a Python with one exact runtime and this Changeover.

`add` goes one way: make an environment beside host.toml, install the runtime with the numpy that it needs and the very
Changeover that runs, let the new interpreter prove itself by the probe that also makes host facts, and only then write
one line into host.toml. A failure takes the folder away again; a kill leaves a folder that no line names, which `list`
shows and the next `add` of that name replaces. No package index is named here: pip's own configuration and the
``--index-url`` that is passed through decide. Left out: which model runs in which runtime (`checks.hardware`).
"""

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from changeover_registry import _fs
from changeover_registry.errors import (
    ChangeoverError,
    InvalidInputError,
    UndecidedError,
    UnreachableError,
)
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import RuntimeFacts
from changeover_updater import host_toml
from changeover_validators.probe import probe
from changeover_validators.runtimes.interface import PROTOCOL
from changeover_validators.runtimes.interpreter import inspect_interpreter

__all__ = ["Environment", "Wanted", "add_runtime", "list_runtimes", "parse_spec"]

_LOG = logging.getLogger(__name__)
_LIBRARIES = ("torch", "onnxruntime", "onnxruntime-gpu")
_NUMPY_2_SINCE = {"torch": Version("2.3"), "onnxruntime": Version("1.19")}
"""The first release of each runtime that was built against numpy 2; older ones need an older numpy."""

_PROBING = ("archspec>=0.2.5", "nvidia-ml-py>=13")
"""What the probe asks for CPU and GPU; without them these facts are unknown."""

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")
_SECONDS = 60
_QUESTION = (
    "import json, platform; from importlib.metadata import version; "
    "from changeover_validators.runtimes.interface import PROTOCOL as p; "
    "print(json.dumps([platform.python_version(), version('changeover'), p]))"
)
_OFFLINE = (
    "newconnectionerror", "failed to establish a new connection", "name or service not known", "connection refused",
    "connection timed out", "temporary failure in name resolution", "proxyerror", "readtimeouterror", "certificate",
)  # fmt: skip

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be installed: the library and its exact version, and the name in host.toml."""

    library: str
    version: str
    name: str

    @property
    def requirement(self) -> str:
        """``torch==2.1.1``."""
        return f"{self.library}=={self.version}"

    @property
    def runtime(self) -> str:
        """The runtime that the probe will find: ``torch`` or ``onnxruntime``."""
        return self.library.removesuffix("-gpu")

    @property
    def numpy(self) -> str:
        """The numpy that this release was built for."""
        old = Version(self.version) < _NUMPY_2_SINCE[self.runtime]
        return "numpy>=1.26,<2" if old else "numpy>=2"


@dataclass(frozen=True, slots=True)
class Environment:
    """One line of ``[runtimes]``, and what its interpreter says of itself.

    Attributes:
        name: As host.toml has it.
        interpreter: The path.
        python: Its version, or None where it does not start.
        changeover: The Changeover in it, or None.
        runtimes: The libraries that were found in it and work.
        trouble: What is wrong with it, with what to do, in one line; None where nothing is.
    """

    name: str
    interpreter: str
    python: str | None
    changeover: str | None
    runtimes: tuple[RuntimeFacts, ...]
    trouble: str | None


def parse_spec(spec: str, name: str | None = None) -> Wanted:
    """What ``torch==2.1.1`` asks for; the name is ``torch-2.1.1`` unless `name` says otherwise.

    Raises:
        InvalidInputError: It is no exact version of a runtime that there is, or no name.
    """
    try:
        asked = Requirement(spec)
        (only,) = asked.specifier
        version = Version(only.version)
    except (InvalidRequirement, ValueError) as error:
        raise _bad_spec(spec) from error
    if asked.name not in _LIBRARIES or only.operator != "==" or asked.extras or asked.marker or asked.url:
        raise _bad_spec(spec)
    library = asked.name.removesuffix("-gpu")
    chosen = name or f"{library}-{version}"
    # The probe asks an interpreter for what its name begins with, so a name may not begin with the other library.
    if not _NAME.match(chosen) or (chosen.startswith(("torch", "onnx")) and not chosen.startswith(library[:4])):
        raise InvalidInputError(
            "name",
            where="--name",
            expected=f"letters, digits, '.', '_', '+', '-', such as {library}-{version}",
            actual=repr(chosen),
            remedy="choose such a name",
        )
    return Wanted(asked.name, str(version), chosen)


def add_runtime(config: Path, wanted: Wanted, *, python: str, index_url: str | None, step: Step) -> Environment:
    """Make an environment for `wanted` beside host.toml, prove it, and name it in host.toml.

    Args:
        config: host.toml.
        wanted: What to install.
        python: The interpreter to make it of.
        index_url: Where pip shall look for the runtime itself; None is pip's own configuration.
        step: Called with a line for each thing that is begun.

    Raises:
        InvalidInputError: The name is taken, the interpreter makes no environment, or there is no build for it.
        UnreachableError: The package index does not answer.
        UndecidedError: What was installed does not work.
        LostRaceError: Another command is adding a runtime.
    """
    folder = config.resolve().parent / "runtimes" / wanted.name
    text = config.read_bytes().decode("utf-8") if config.is_file() else ""
    host_toml.with_runtime(text, wanted.name, str(folder), where=str(config))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _fs.lock(folder.parent / ".lock", what="the runtimes of this host"):
        _fs.remove_tree(folder)
        try:
            interpreter = _make(folder, python, step)
            _install(interpreter, wanted, index_url, step)
            step(f"let {wanted.name} prove itself")
            made = _proven(wanted, str(interpreter))
            host_toml.add_runtime(config, wanted.name, str(interpreter))
        except BaseException:
            _fs.remove_tree(folder)
            raise
    return made


def list_runtimes(runtimes: Mapping[str, str], config: Path) -> tuple[Environment, ...]:
    """Each runtime of host.toml as its interpreter answers now, and folders that no line names."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        named = list(pool.map(lambda item: describe(*item), sorted(runtimes.items())))
    return (*named, *_orphans(config, runtimes))


def describe(name: str, interpreter: str) -> Environment:
    """What is behind one line of host.toml."""
    trouble: str | None = None
    python = changeover = None
    try:
        inspect_interpreter(interpreter)
        python, changeover, protocol = _ask(interpreter)
        if protocol != PROTOCOL:
            trouble = f"holds changeover {changeover}, which speaks another protocol than this one; add it again"
    except ChangeoverError as error:
        trouble = f"{error.expected} is needed, found {error.actual}; {error.remedy}"
    facts = probe({name: interpreter}).runtimes
    if isinstance(facts, Unknown):
        return Environment(name, interpreter, python, changeover, (), trouble or f"no runtime works: {facts.unknown}")
    return Environment(name, interpreter, python, changeover, facts, trouble)


def _make(folder: Path, python: str, step: Step) -> Path:
    """A bare environment; answers its interpreter."""
    step(f"make {folder}")
    _run(
        [python, "-I", "-m", "venv", str(folder)],
        step,
        lambda said: InvalidInputError(
            "python",
            where=python,
            expected="a Python 3.11 or newer with its module venv",
            actual=_last(said),
            remedy="name one with --python PATH, or install the system package python3-venv",
        ),
    )
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _install(interpreter: Path, wanted: Wanted, index_url: str | None, step: Step) -> None:
    """First the runtime alone, from where it shall come; then what it needs and Changeover, from pip's own index.

    An index of one runtime's builds seldom has anything else, and what is there already is not looked for again.
    """
    index = [] if index_url is None else ["--index-url", index_url]
    pip = [str(interpreter), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    step(f"install {wanted.requirement}")
    _run([*pip, "--no-deps", *index, wanted.requirement], step, lambda said: _no_install(wanted, interpreter, said))
    step("install what it needs, and changeover")
    rest = [wanted.requirement, wanted.numpy, *_PROBING, own_requirement()]
    _run([*pip, *rest], step, lambda said: _no_install(wanted, interpreter, said))


def own_requirement() -> str:
    """How pip is told of the Changeover that runs: the checkout or wheel that it came from, else its version."""
    try:
        own = distribution("changeover")
    except PackageNotFoundError as error:
        raise UndecidedError(
            "installation",
            where=sys.executable,
            expected="changeover as an installed distribution",
            actual="modules on a path",
            remedy="install it with pip, and run that one",
        ) from error
    origin = json.loads(own.read_text("direct_url.json") or "{}").get("url", "")
    address = urlsplit(origin)
    local = Path(unquote(address.path)) if address.scheme == "file" else None
    return str(local) if local is not None and local.exists() else f"changeover=={own.version}"


def _proven(wanted: Wanted, interpreter: str) -> Environment:
    """The new environment, if it holds what was asked for and runs it.

    Raises:
        UndecidedError: It does not.
    """
    found = describe(wanted.name, interpreter)
    versions = [facts.version.partition("+")[0] for facts in found.runtimes if facts.name == wanted.runtime]
    if found.trouble is None and versions == [Version(wanted.version).public]:
        return found
    raise UndecidedError(
        "runtime",
        where=wanted.name,
        expected=f"an interpreter that runs {wanted.requirement}",
        actual=found.trouble or f"{wanted.runtime} {', '.join(versions) or 'not found'}",
        remedy="try another version, or another Python with --python PATH",
    )


def _ask(interpreter: str) -> tuple[str, str, int]:
    """The versions of Python and Changeover, and the protocol, as the interpreter says them.

    Raises:
        UndecidedError: It holds no Changeover that answers.
    """
    command = [interpreter, "-I", "-c", _QUESTION]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_SECONDS, check=True, text=True, stdin=subprocess.DEVNULL
        )
        python, changeover, protocol = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        said = _last(str(getattr(error, "stderr", "") or error))
        raise UndecidedError(
            "runtime", where=interpreter, expected="changeover in it", actual=said, remedy="add the runtime again"
        ) from error
    return str(python), str(changeover), int(protocol)


def _orphans(config: Path, runtimes: Mapping[str, str]) -> list[Environment]:
    """Folders beside host.toml that no line names: what a command left that was killed."""
    home = config.resolve().parent / "runtimes"
    named = {Path(os.path.abspath(path)).parent.parent for path in runtimes.values()}  # noqa: PTH100 - links keep names
    there = sorted(path for path in home.glob("*") if path.is_dir() and path not in named)
    trouble = "no line of host.toml names it: left by a command that was stopped; add it again, or remove the folder"
    return [Environment(path.name, str(path), None, None, (), trouble) for path in there]


def _run(command: Sequence[str], step: Step, failed: Callable[[str], ChangeoverError]) -> None:
    """Run a command to its end, its lines going to `step`; `failed` makes the error of what it said."""
    said: list[str] = []
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise failed(error.strerror or str(error)) from error
    try:
        with process:
            for line in process.stdout or ():
                said.append(line.rstrip())
                _LOG.debug("%s", line.rstrip())
                step(line.strip())
    except BaseException:
        process.kill()
        raise
    if process.returncode != 0:
        raise failed("\n".join(said))


def _no_install(wanted: Wanted, interpreter: Path, said: str) -> ChangeoverError:
    """The one line of what pip said at length."""
    python = _python_of(interpreter)
    heard = said.lower()
    if any(words in heard for words in _OFFLINE):
        return UnreachableError(
            "package index",
            where=wanted.requirement,
            expected="an index that answers",
            actual=_last(said),
            remedy="mend the network or pip's configuration, or name an index with --index-url URL",
        )
    if "no matching distribution" in heard or "requires a different python" in heard:
        offered = re.search(r"from versions: ([^)]*)\)", said)
        return InvalidInputError(
            "no build",
            where=wanted.requirement,
            expected=f"a wheel of it for Python {python} on this machine",
            actual=f"none (there are: {_shorten(offered.group(1))})" if offered else _last(said),
            remedy="name a Python that it has a wheel for with --python PATH, another version, or --index-url URL",
        )
    return UndecidedError(
        "installation",
        where=wanted.requirement,
        expected="pip to install it",
        actual=_last(said),
        remedy="run the command again with -v; if it stays, install it by hand and name it in host.toml",
    )


def _python_of(interpreter: Path) -> str:
    """``3.11``, from the folder of an environment's packages."""
    found = sorted(interpreter.parent.parent.glob("lib/python*"))
    return found[0].name.removeprefix("python") if found else "of that interpreter"


def _last(said: str) -> str:
    """The last line that says something, an error's before any other's."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return _shorten((errors or lines or ["nothing was said"])[-1].removeprefix("ERROR:").strip())


def _shorten(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:80]} ... {text[-110:]}"


def _bad_spec(spec: str) -> InvalidInputError:
    return InvalidInputError(
        "runtime",
        where="SPEC",
        expected=f"an exact version such as torch==2.1.1, of {', '.join(_LIBRARIES)}",
        actual=repr(spec),
        remedy="name the version that you need",
    )
