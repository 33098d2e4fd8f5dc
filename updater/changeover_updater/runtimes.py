"""Which interpreter runs which variant here, and the two ways in which a model is run: smoke, and for scoring."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from changeover_registry.errors import ChangeoverError, UndecidedError
from changeover_registry.records.facts import HostFacts, RuntimeFacts
from changeover_registry.records.findings import Finding
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release, Tile, Variant
from changeover_validators.checks.hardware import providers_for, runtime_for
from changeover_validators.checks.smoke import check_smoke
from changeover_validators.checks.twin import target_line, twin_of, twin_runtime
from changeover_validators.runtimes.interface import RunRequest, SmokeResult

if TYPE_CHECKING:
    from changeover_validators.runtimes.process import ModelProcess

__all__ = ["Evidence", "Runtimes"]

_FRAME_SECONDS = 300.0
_RAM_MIB = 16384


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is run to judge a variant: the variant itself, or its twin; and what runs it."""

    variant: Variant
    runtime: RuntimeFacts
    kind: Literal["direct", "twin"]


@dataclass(frozen=True, slots=True)
class Runtimes:
    """The runtimes of this host under this policy."""

    facts: HostFacts
    policy: Policy

    def evidence(self, release: Release, variant: Variant) -> Evidence:
        """What stands for a variant here.

        A ``.cat`` is opaque outside Nuke; its TorchScript twin stands for it, under the very torch line that the Nuke
        embeds which loads it. Under another line the numbers would be another model's.

        Raises:
            UndecidedError: Nothing here runs it, or no twin of it.
        """
        if variant.runtime != "nuke-cat":
            return Evidence(variant, self.runtime(variant), "direct")
        twin, line = twin_of(release, variant), target_line(variant, self.facts)
        if twin is None or line is None:
            raise self._nothing(variant)
        runtime = twin_runtime(twin, line, self.facts)
        if runtime is None:
            raise _no_line(twin, line)
        return Evidence(twin, runtime, "twin")

    def smoke(self, release: Release, variant: Variant, folder: Path) -> Finding:
        """The smoke finding of an installed variant, on the provider that would serve it."""
        result: SmokeResult | ChangeoverError | None = None
        if variant.runtime != "nuke-cat":
            try:
                ran = Evidence(variant, self.runtime(variant), "direct")
                tile, provider = variant.contract.tiles[0], self.provider(variant)
                with self.process(release, ran, folder, tile, provider) as model:
                    result = model.smoke()
            except ChangeoverError as error:
                result = error
        return check_smoke(variant.id, variant.runtime, result)

    def provider(self, variant: Variant) -> str:
        """The provider that serves a variant here.

        Raises:
            UndecidedError: None does.
        """
        found = providers_for(variant, self.facts, self.policy)
        if not found:
            raise self._nothing(variant)
        return found[0]

    def runtime(self, variant: Variant) -> RuntimeFacts:
        """The runtime that loads a variant here.

        Raises:
            UndecidedError: host.toml names none.
        """
        found = runtime_for(variant, self.facts)
        if found is None:
            raise self._nothing(variant)
        return found

    def process(self, release: Release, ran: Evidence, folder: Path, tile: Tile, provider: str) -> "ModelProcess":
        """The isolated process that runs a variant at one operating point; enter it to start."""
        from changeover_validators.runtimes.process import ModelProcess

        return ModelProcess(
            RunRequest(
                interpreter=ran.runtime.interpreter,
                folder=folder,
                entry=ran.variant.entry,
                runtime=ran.variant.runtime,
                contract=ran.variant.contract,
                tile=tile,
                provider=provider,
                sandbox=self.policy.sandbox,
                wall_seconds=_FRAME_SECONDS,
                ram_mib=_RAM_MIB,
                ports=release.interface.inputs,
            )
        )

    def _nothing(self, variant: Variant) -> UndecidedError:
        if variant.runtime == "nuke-cat":
            return UndecidedError(
                "runtime",
                where=variant.id,
                expected="Nuke itself, which alone loads a .cat",
                actual="an opaque file that cannot be run here",
                remedy="look at it in Nuke, then override what stays open",
            )
        return UndecidedError(
            "runtime",
            where=variant.id,
            expected=f"an interpreter under [runtimes] in host.toml that loads {variant.runtime}",
            actual="none",
            remedy="name one, such as an environment with changeover[run]",
        )


def _no_line(twin: Variant, line: str) -> UndecidedError:
    return UndecidedError(
        "twin",
        where=twin.id,
        expected=f"an interpreter with torch {line}, the one that the Nuke embeds",
        actual="none under [runtimes] in host.toml",
        remedy=f"make one: changeover runtimes add torch=={line}",
    )
