"""What an ending means: from an exit status, a text or a watchdog's word to one clear error.

Runtimes use one code for nearly everything, so texts decide, in the order of ``endings.toml``; memory of the host and
of the device are told apart, and both from a limit that we set. What no row knows is `unknown`, a failed measurement
like the others. An error that says nothing of the release (no isolation, no runtime, too old a runtime) is undecided:
it was not run. A fault of the GPU is sticky: only the end of the process helps.
"""

import functools
import re
import signal
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal, get_args

from changeover_registry.errors import (
    ChangeoverError,
    InvalidInputError,
    MeasurementError,
    RefusedError,
    UndecidedError,
)

__all__ = [
    "Cause",
    "Death",
    "TextRow",
    "cause_of_death",
    "cause_of_error",
    "failure",
    "is_sticky",
    "one_line",
    "refusal",
    "row_of_text",
    "signal_rows",
    "text_of",
    "text_rows",
    "xid_of",
]

Cause = Literal[
    "out of host memory", "out of device memory", "over budget", "hang", "crash", "processor", "GPU fault",
    "file missing", "invalid model", "provider", "runtime too old", "isolation", "runtime", "unknown",
]  # fmt: skip

_REMEDIES: dict[Cause, str] = {
    "out of host memory": "use a smaller tile or another variant, or raise the policy's share of RAM",
    "out of device memory": "use a smaller tile or another variant, or close what else uses this GPU",
    "over budget": "use a smaller tile or another variant, or a memory plan that takes less",
    "hang": "use a smaller tile or more time; if it stays, tell the vendor",
    "crash": "do not use this variant here; tell the vendor",
    "processor": "install a runtime that is built for this processor, or measure on another host",
    "GPU fault": "run it again in a new process; if it stays, look into the kernel's log and at the driver",
    "file missing": "install the release again; if it stays, tell the vendor that a file is missing",
    "invalid model": "tell the vendor: the file or its contract is not what it says",
    "provider": "install a runtime and driver that serve this provider, or measure on another",
    "runtime too old": "name a newer runtime under [runtimes] in host.toml",
    "isolation": "run the check on a machine where bubblewrap or user namespaces are allowed",
    "runtime": "install changeover with the extra 'run' or 'torch' in that interpreter",
    "unknown": "run the check again with -v; if it stays, tell the vendor",
}
_UNDECIDED: frozenset[Cause] = frozenset({"isolation", "runtime", "runtime too old"})
_OF_A_MODEL: Mapping[str, type[ChangeoverError]] = {
    kind.__name__: kind for kind in (InvalidInputError, MeasurementError, RefusedError, UndecidedError)
}
_LAUNCHERS = ("bwrap: ", "unshare: ", "jail: ")
_XID = re.compile(r"NVRM: Xid \((?P<device>[^)]*)\): (?P<number>\d{1,4})(?:, pid='?(?P<pid>\d+))?")


@dataclass(frozen=True, slots=True)
class TextRow:
    """One row of the table: texts of a runtime, in lower case, and what they mean.

    Attributes:
        id: Its name in the table.
        cause: What it means; `cuda` is what it means on a GPU, where that differs.
        parts: A text that has one of them belongs here.
        runtime: Whose words they are.
        produced: A real child ends so in a test.
        source: Where the words were read.
    """

    id: str
    cause: Cause
    cuda: Cause
    parts: tuple[str, ...]
    runtime: str
    produced: bool
    source: str


@dataclass(frozen=True, slots=True)
class Death:
    """How a child ended.

    Attributes:
        returncode: As `subprocess` answers it; negative is a signal.
        launched: Through a launcher, which answers a signal as 128 and its number.
        killed_for: What the parent's watch ended it for, if it did.
        oom_kills: How many processes the kernel killed for memory meanwhile, in the child's group or on this machine.
        stderr: The end of what was written there.
        started: The model had been loaded.
        xid: What the driver wrote of a fault into the kernel's log meanwhile, if it did.
    """

    returncode: int | None
    launched: bool
    killed_for: Literal["hang", "out of host memory"] | None
    oom_kills: int
    stderr: str
    started: bool
    xid: str | None = None


@functools.cache
def text_rows() -> tuple[TextRow, ...]:
    """The rows of texts, in the order in which they are asked."""
    names = ("id", "cause", "runtime", "produced", "source")
    return tuple(
        TextRow(**{name: row[name] for name in names}, cuda=row.get("cuda", row["cause"]), parts=tuple(row["parts"]))
        for row in _table()["text"]
    )


@functools.cache
def signal_rows() -> Mapping[str, Cause]:
    """The cause behind each signal that the table knows, by the signal's name."""
    return {row["name"]: row["cause"] for row in _table()["signal"]}


def row_of_text(kind: str, text: str) -> TextRow | None:
    """The row that an exception of a runtime belongs to, from its class and text; None where none knows it."""
    said = f"{kind}: {text}".lower()
    return next((row for row in text_rows() if any(part in said for part in row.parts)), None)


def text_of(kind: str, text: str) -> str:
    """The words of an exception in one short line, with what its row was known by.

    onnxruntime puts the names of its own source files and functions before what it has to say.
    """
    row, said = row_of_text(kind, text), one_line(f"{kind}: {text}")
    known = [part for part in row.parts if part in f"{kind}: {text}".lower()] if row is not None else []
    if not known or known[0] in said.lower():
        return said
    whole = " ".join(text.split())
    at = max(0, whole.lower().find(known[0]) - 60)
    return one_line(f"{kind}: ... {whole[at:]}")


def cause_of_error(kind: str, text: str, provider: str = "cpu") -> Cause:
    """The cause behind an exception that a runtime raised.

    Args:
        kind: Its class.
        text: What it says.
        provider: ``cpu`` or ``cuda``; where a text names no device, memory is that of the provider.
    """
    row = row_of_text(kind, text)
    if row is None:
        return "unknown"
    return row.cuda if provider == "cuda" else row.cause


def cause_of_death(death: Death) -> tuple[Cause, str]:
    """The cause of an ending without an answer, and what was found, in words."""
    number = _signal(death)
    if death.killed_for is not None:
        return death.killed_for, "the watch ended it"
    if death.xid is not None:
        return "GPU fault", death.xid
    if number == signal.SIGKILL and death.oom_kills > 0:
        return "out of host memory", "the kernel killed it for memory"
    if not death.started and number is None:
        early = _early(death.stderr)
        if early is not None:
            return early, _last_line(death.stderr)
    if "bad_alloc" in death.stderr or "MemoryError" in death.stderr:
        return "out of host memory", _last_line(death.stderr)
    return signal_rows().get(_name(number), "crash"), _words(death, number)


def xid_of(log: str, pids: Collection[int]) -> str | None:
    """The driver's first fault of one of these processes in the kernel's log, in words; None where it has none.

    A fault that names no process (a card that has fallen off the bus) is everybody's.
    """
    meanings = {row["number"]: row["meaning"] for row in _table()["xid"]}
    for found in _XID.finditer(log):
        if found["pid"] is None or int(found["pid"]) in pids:
            meaning = meanings.get(int(found["number"]), "a fault that the table does not know")
            return f"Xid {found['number']} on {one_line(found['device'])}: {meaning}"
    return None


def is_sticky(cause: str) -> bool:
    """Whether nothing that the process does afterwards can be trusted, so that it must end."""
    return cause == "GPU fault"


def failure(cause: Cause, *, where: str, expected: str, actual: str) -> ChangeoverError:
    """The error that a person reads."""
    kind = UndecidedError if cause in _UNDECIDED else MeasurementError
    return kind(cause, where=where, expected=expected, actual=one_line(actual), remedy=_REMEDIES[cause])


def refusal(head: Mapping[str, Any], *, where: str) -> ChangeoverError:
    """An error of ours that the child answered as data; of another class than it has reason for, a failed measurement.

    A model that was taken over must not end a whole check with words that are the studio's alone, such as a broken
    signature; and no part is empty, since records hold none that is.
    """
    kind = _OF_A_MODEL.get(str(head.get("class")), MeasurementError)
    names = ("rule", "where", "expected", "actual", "remedy")
    parts = {name: one_line(str(head.get(name, ""))) or "not said" for name in names}
    parts["where"] = f"{where}: {parts['where']}"
    return kind(parts.pop("rule"), **parts)


@functools.cache
def _table() -> dict[str, Any]:
    data = resources.files("changeover_validators.runtimes").joinpath("endings.toml").read_bytes()
    table = tomllib.loads(data.decode("utf-8"))
    known = set(get_args(Cause))
    for row in (*table["text"], *table["signal"]):
        if not {row["cause"], row.get("cuda", row["cause"])} <= known:
            message = f"endings.toml: {row} has a cause that is none"
            raise ValueError(message)
    return table


def _signal(death: Death) -> int | None:
    code = death.returncode
    if code is None or code == 0:
        return None
    if code < 0:
        return -code
    return code - 128 if death.launched and 128 < code < 128 + 65 else None


def _early(stderr: str) -> Cause | None:
    """Before the model was loaded the launcher or the interpreter may have failed, which says nothing of the model."""
    if any(line.startswith(_LAUNCHERS) for line in stderr.splitlines()):
        return "isolation"
    return "runtime" if "No module named" in stderr or "ModuleNotFoundError" in stderr else None


def _name(number: int | None) -> str:
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return f"signal {number}"


def _words(death: Death, number: int | None) -> str:
    if number is None:
        return f"exit status {death.returncode}" + (f": {_last_line(death.stderr)}" if death.stderr.strip() else "")
    more = {"SIGILL": " (an instruction that this processor lacks)", "SIGXCPU": " (its processor time ran out)"}
    return _name(number) + more.get(_name(number), "")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return one_line(lines[-1]) if lines else "nothing was said"


def one_line(text: str) -> str:
    """Printable and short: the text may come from a model."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 300 else line[:297] + "..."
