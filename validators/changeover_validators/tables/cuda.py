"""Answers of the tables about CUDA: toolkits and their drivers, cards and their last drivers, names of cards."""

import re
from dataclasses import dataclass

from changeover_validators.tables.load import capability_key, row_name, rows

__all__ = [
    "LastDriver",
    "Toolkit",
    "capability_of_gpu",
    "driver_ceiling",
    "last_cudnn",
    "ptx_toolkit",
    "toolkit",
]


@dataclass(frozen=True, slots=True)
class Toolkit:
    """One CUDA toolkit line.

    Attributes:
        line: Such as ``12.8``.
        linux: The least driver on Linux for minor-version compatibility.
        windows: The least driver on Windows.
        own_linux: The driver that it brings on Linux; PTX of this line needs it. None where nobody said.
        own_windows: The same on Windows.
        lowest: The lowest compute capability that it builds for.
        highest: The highest one.
        row: The row that says so.
    """

    line: str
    linux: str
    windows: str
    own_linux: str | None
    own_windows: str | None
    lowest: str
    highest: str
    row: str

    def floor(self, system: str) -> str:
        """The least driver on `system` (``linux``, ``windows``)."""
        return self.windows if system == "windows" else self.linux

    def own(self, system: str) -> str | None:
        """The driver that this line brings on `system`."""
        return self.own_windows if system == "windows" else self.own_linux


@dataclass(frozen=True, slots=True)
class LastDriver:
    """The last driver branch for a card, and the first branch that does without it."""

    branch: int
    next: int
    row: str


def toolkit(line: str) -> Toolkit | None:
    """The newest known toolkit line that is not newer than `line` (``12.7`` is answered by 12.6) within its major."""
    wanted = capability_key(line)
    known = [row for row in rows("cuda")["toolkit"] if capability_key(row["line"]) <= wanted]
    best = max(known, key=lambda row: capability_key(row["line"]), default=None)
    if best is None or capability_key(best["line"])[0] != wanted[0]:
        return None
    return Toolkit(
        best["line"],
        best["linux"],
        best["windows"],
        best.get("own_linux"),
        best.get("own_windows"),
        best["lowest"],
        best["highest"],
        row_name("cuda", "toolkit", best),
    )


def ptx_toolkit(isa: str) -> str | None:
    """The toolkit line whose driver first compiles PTX of version `isa`: ``12.8`` for ``8.7``."""
    return next((str(row["toolkit"]) for row in rows("cuda")["ptx"] if row["isa"] == isa), None)


def driver_ceiling(capability: str) -> LastDriver | None:
    """The last driver branch that drives cards of that compute capability, or None if none is known to be the last."""
    for row in rows("cuda")["last_driver"]:
        if capability_key(capability) < capability_key(row["below"]):
            return LastDriver(row["branch"], row["next"], row_name("cuda", "last_driver", row))
    return None


def last_cudnn(capability: str) -> tuple[str, str] | None:
    """The last cuDNN with kernels for cards of that compute capability and the row that says so, or None."""
    for row in rows("cuda")["last_cudnn"]:
        if capability_key(capability) < capability_key(row["below"]):
            return row["release"], row_name("cuda", "last_cudnn", row)
    return None


def capability_of_gpu(name: str) -> str | None:
    """The compute capability of the family that a GPU's product name belongs to."""
    for row in rows("gpus")["family"]:
        if any(re.search(rf"(?<![A-Za-z0-9]){re.escape(known)}(?![0-9])", name) for known in row["names"]):
            return str(row["capability"])
    return None
