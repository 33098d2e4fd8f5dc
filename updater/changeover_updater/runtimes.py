"""Which interpreter runs which variant here, and the two ways in which a model is run: smoke, and for scoring."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from changeover_registry.errors import ChangeoverError, UndecidedError
from changeover_registry.records.facts import HostFacts, NukeInstall, RuntimeFacts
from changeover_registry.records.findings import Finding, Passed
from changeover_registry.records.memory import MemoryPlan
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release, Tile, Variant
from changeover_updater.plugin import plugin_folder
from changeover_validators.checks.hardware import check_nuke, providers_for, runtime_for
from changeover_validators.checks.smoke import check_smoke
from changeover_validators.checks.twin import embedded_runtime, target_line, twin_of, twin_runtime
from changeover_validators.runtimes.interface import OWN_PLAN, Process, RunRequest, SmokeResult
from changeover_validators.runtimes.memory_plan import fixed_shapes
from changeover_validators.runtimes.nuke_request import NukeRequest, executable_of

__all__ = ["Evidence", "Runtimes"]

_FRAME_SECONDS = 300.0
_START_SECONDS = 300.0
_RAM_MIB = 16384


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is run to judge a variant: the variant itself, or its twin; and what runs it, a Nuke among them."""

    variant: Variant
    runtime: RuntimeFacts
    kind: Literal["direct", "twin", "nuke"]
    nuke: NukeInstall | None = None


@dataclass(frozen=True, slots=True)
class Runtimes:
    """The runtimes of this host under this policy."""

    facts: HostFacts
    policy: Policy

    def evidence(self, release: Release, variant: Variant) -> Evidence:
        """What stands for a variant here.

        A ``.cat`` is opaque outside Nuke. Where host.toml names a licensed Nuke that loads it, it is run there; else
        its TorchScript twin stands for it, under the very torch line that the Nuke embeds which loads it. Under another
        line the numbers would be another model's.

        Raises:
            UndecidedError: Nothing here runs it, or no twin of it.
        """
        if variant.runtime != "nuke-cat":
            return Evidence(variant, self.runtime(variant), "direct")
        inside = self._inside(variant)
        if inside is not None:
            return inside
        twin, line = twin_of(release, variant), target_line(variant, self.facts)
        if twin is None or line is None:
            raise self._nothing(variant)
        runtime = twin_runtime(twin, line, self.facts)
        if runtime is None:
            raise _no_line(twin, line)
        return Evidence(twin, runtime, "twin")

    def smoke(self, release: Release, variant: Variant, folder: Path, plan: MemoryPlan | None = None) -> Finding:
        """The smoke finding of an installed variant, on the provider that would serve it and under its memory plan.

        A plan that freezes does so here where the smoke file's tensors have the one size of the first tile.
        """
        result: SmokeResult | ChangeoverError | None = None
        if variant.runtime != "nuke-cat":
            try:
                ran = Evidence(variant, self.runtime(variant), "direct")
                tile, provider = variant.contract.tiles[0], self.provider(variant)
                with self.process(release, ran, folder, tile, provider, _for_tile(plan, variant, tile)) as model:
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

    def _inside(self, variant: Variant) -> Evidence | None:
        """A licensed Nuke of this host that loads a ``.cat``: of the target line first, else the oldest."""
        line = target_line(variant, self.facts)
        for nuke in sorted(self.facts.nukes, key=lambda nuke: (nuke.torch_line != line, nuke.version)):
            runtime = embedded_runtime(nuke)
            loads = all(isinstance(finding, Passed) for finding in check_nuke(variant, nuke))
            if runtime is not None and loads and executable_of(nuke.path, nuke.line) is not None:
                return Evidence(variant, runtime, "nuke", nuke)
        return None

    def process(
        self, release: Release, ran: Evidence, folder: Path, tile: Tile, provider: str, plan: MemoryPlan | None = None
    ) -> Process:
        """The isolated process that runs a variant at one operating point; enter it to start.

        The memory plan holds for onnxruntime; torch and Nuke have no such settings.
        """
        from changeover_validators.runtimes.process import ModelProcess

        if ran.nuke is not None:
            from changeover_validators.runtimes.nuke import NukeProcess

            return NukeProcess(self.nuke_request(release, ran, folder, tile, provider))
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
                memory_plan=plan if plan and ran.variant.runtime == "onnx" else OWN_PLAN,
                gpu=self.facts.nuke_gpu,
            )
        )

    def nuke_request(self, release: Release, ran: Evidence, folder: Path, tile: Tile, provider: str) -> NukeRequest:
        """What a licensed Nuke of this host is asked to run for a ``.cat``.

        Raises:
            UndecidedError: There is none.
        """
        program = None if ran.nuke is None else executable_of(ran.nuke.path, ran.nuke.line)
        if ran.nuke is None or program is None:
            raise self._nothing(ran.variant)
        return NukeRequest(
            nuke=program,
            script=plugin_folder() / "score.py",
            folder=folder,
            entry=ran.variant.entry,
            contract=ran.variant.contract,
            tile=tile,
            half=ran.variant.precision == "fp16",
            provider=provider,
            wall_seconds=_FRAME_SECONDS,
            start_seconds=_START_SECONDS,
            ram_mib=_RAM_MIB,
            ports=release.interface.inputs,
            outputs=release.interface.outputs,
            visible=tuple(map(Path, ran.nuke.reads or ())),
        )

    def _nothing(self, variant: Variant) -> UndecidedError:
        if variant.runtime == "nuke-cat":
            return UndecidedError(
                "runtime",
                where=variant.id,
                expected="Nuke itself, which alone loads a .cat, or a TorchScript twin (derived_from)",
                actual="an opaque file that cannot be run here",
                remedy="name a licensed Nuke under [[nukes]] in host.toml, or look at it in Nuke and override",
            )
        return UndecidedError(
            "runtime",
            where=variant.id,
            expected=f"an interpreter under [runtimes] in host.toml that loads {variant.runtime}",
            actual="none",
            remedy="name one, such as an environment with changeover[run]",
        )


def _for_tile(plan: MemoryPlan | None, variant: Variant, tile: Tile) -> MemoryPlan | None:
    if plan is None or fixed_shapes(variant.contract, tile) is not None:
        return plan
    return plan.model_copy(update={"freeze": False})


def _no_line(twin: Variant, line: str) -> UndecidedError:
    return UndecidedError(
        "twin",
        where=twin.id,
        expected=f"an interpreter with torch {line}, the one that the Nuke embeds",
        actual="none under [runtimes] in host.toml",
        remedy=f"make one: changeover runtimes add torch=={line}",
    )
