"""What keeps the packages that we use from telling others about this machine.

onnxruntime from 1.31 on writes a device id and a database of events under the user's cache with its first session
(seen on Linux), unless it is told not to before it is imported; MLflow counts calls. The variables are set in every
process that we start, and in our own command before anything is imported. Left out: a Nuke, a farm task or a notebook
that somebody else starts; `doctor` tells where one of those left its files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["NO_TELEMETRY", "Switch", "switches"]

NO_TELEMETRY: Mapping[str, str] = MappingProxyType(
    {"ORT_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
)
"""The environment of a process that keeps to itself."""


@dataclass(frozen=True, slots=True)
class Switch:
    """One variable that keeps packages quiet: its name, what it has to be, and what it is in an environment."""

    name: str
    must: str
    actual: str | None

    @property
    def off(self) -> bool:
        """Whether it keeps them quiet there."""
        return self.actual == self.must


def switches(environment: Mapping[str, str]) -> tuple[Switch, ...]:
    """Every variable as it is in an environment, which whatever is started from there inherits."""
    return tuple(Switch(name, must, environment.get(name)) for name, must in NO_TELEMETRY.items())
