"""What an ending means: from an exit status, a text or a watchdog's word to one clear error.

Runtimes use one code for nearly everything, so texts decide, in the order of the table below. What no row knows is
`unknown`, a failed measurement like the others. An error that says nothing of the release (no isolation, no runtime,
too old a runtime) is undecided: it was not run.
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from changeover_registry.errors import (
    ChangeoverError,
    InvalidInputError,
    MeasurementError,
    RefusedError,
    UndecidedError,
)

__all__ = ["Cause", "Death", "cause_of_death", "cause_of_error", "failure", "one_line", "refusal"]

Cause = Literal[
    "out of memory", "hang", "crash", "invalid model", "provider", "runtime too old", "isolation", "runtime", "unknown"
]

_TEXTS: tuple[tuple[Cause, tuple[str, ...]], ...] = (
    (
        "out of memory",
        (
            "failed to allocate memory", "smaller than requested bytes", "can't allocate memory", "bad_alloc",
            "out of memory", "unable to allocate", "not enough memory", "memoryerror", "cannot allocate memory",
            "integer overflow",
        ),
    ),
    (
        "runtime too old",
        (
            "unsupported model ir version", "is under development and support for this is limited",
            "no opset registered for domain", "maximum supported version", "unknown builtin op",
            "max supported ir version", "not supported by this version", "current official support for domain",
        ),
    ),
    (
        "provider",
        (
            "assigned to the default cpu ep", "no kernel image is available", "cuda driver version is insufficient",
            "cuda failure", "cuda error", "no cuda gpus are available", "found no nvidia driver",
            "cudaexecutionprovider",
        ),
    ),
    (
        "invalid model",
        (
            "invalid_protobuf", "invalidprotobuf", "protobuf parsing failed", "invalid_graph", "invalidgraph",
            "invalid_argument", "invalidargument", "no_suchfile", "nosuchfile", "not_implemented", "notimplemented",
            "pytorchstreamreader", "is not a registered function/op", "this is an invalid model", "load model from",
            "no graph was found", "missing from input feed", "invalid input name", "expected at most",
            "is missing value for argument",
        ),
    ),
)  # fmt: skip

_REMEDIES: dict[Cause, str] = {
    "out of memory": "use a smaller tile or another variant, or raise the policy's share of RAM",
    "hang": "use a smaller tile or more time; if it stays, tell the vendor",
    "crash": "do not use this variant here; tell the vendor",
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


@dataclass(frozen=True, slots=True)
class Death:
    """How a child ended.

    Attributes:
        returncode: As `subprocess` answers it; negative is a signal.
        launched: Through a launcher, which answers a signal as 128 and its number.
        killed_for: What the parent's watch ended it for, if it did.
        oom_kills: How many processes the kernel killed for memory meanwhile, on this machine.
        stderr: The end of what was written there.
        started: The model had been loaded.
    """

    returncode: int | None
    launched: bool
    killed_for: Literal["hang", "out of memory"] | None
    oom_kills: int
    stderr: str
    started: bool


def cause_of_error(kind: str, text: str) -> Cause:
    """The cause behind an exception that a runtime raised, from its class and text."""
    said = f"{kind}: {text}".lower()
    return next((cause for cause, texts in _TEXTS if any(part in said for part in texts)), "unknown")


def cause_of_death(death: Death) -> tuple[Cause, str]:
    """The cause of an ending without an answer, and what was found, in words."""
    number = _signal(death)
    if death.killed_for is not None:
        return death.killed_for, "the watch ended it"
    if number == signal.SIGKILL and death.oom_kills > 0:
        return "out of memory", "the kernel killed it for memory"
    if number is not None and number == getattr(signal, "SIGXCPU", None):
        return "hang", "its processor time ran out"
    if not death.started and number is None:
        early = _early(death.stderr)
        if early is not None:
            return early, _last_line(death.stderr)
    if "bad_alloc" in death.stderr or "MemoryError" in death.stderr:
        return "out of memory", _last_line(death.stderr)
    return "crash", _words(death, number)


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


def _words(death: Death, number: int | None) -> str:
    if number is None:
        return f"exit status {death.returncode}" + (f": {_last_line(death.stderr)}" if death.stderr.strip() else "")
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"{name} (an instruction that this processor lacks)" if name == "SIGILL" else name


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return one_line(lines[-1]) if lines else "nothing was said"


def one_line(text: str) -> str:
    """Printable and short: the text may come from a model."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 300 else line[:297] + "..."
