"""Which torch stands for a Nuke: a ``.cat`` is judged by its TorchScript twin, under the line that the Nuke embeds.

The order of evidence is Nuke itself, the twin under the same line, nothing. Another line is another runtime: it loads
the same archive and may answer other numbers, so under it the finding is not run. A Nuke's line counts only if the Nuke
loads the file at all. Where no Nuke is known the line counts that the file was made for. Pure; nothing is run here.
"""

from packaging.version import Version as PackageVersion

from changeover_registry.records.facts import HostFacts, NukeInstall, RuntimeFacts
from changeover_registry.records.findings import Passed
from changeover_registry.records.release import Release, Variant
from changeover_validators.checks.hardware import check_nuke, runtime_for

__all__ = ["embedded_runtime", "target_line", "torch_lines", "twin_of", "twin_runtime"]


def twin_of(release: Release, variant: Variant) -> Variant | None:
    """The TorchScript variant that a ``.cat`` was made of, if the release has it."""
    twin = release.variant(variant.derived_from) if variant.derived_from is not None else None
    return twin if twin is not None and twin.runtime == "torchscript" else None


def torch_lines(variant: Variant, facts: HostFacts) -> tuple[str, ...]:
    """The torch lines, oldest first, under which a twin tells what a Nuke of this host would answer."""
    loading = [nuke for nuke in facts.nukes if all(isinstance(f, Passed) for f in check_nuke(variant, nuke))]
    embedded = {nuke.torch_line for nuke in loading if isinstance(nuke.torch_line, str)}
    if not facts.nukes and variant.requires.torch_line is not None:
        embedded = {variant.requires.torch_line}
    return tuple(sorted(embedded, key=PackageVersion))


def target_line(variant: Variant, facts: HostFacts) -> str | None:
    """The one line to judge under: the file's own if a Nuke here embeds it, else the oldest; None if none loads it."""
    lines = torch_lines(variant, facts)
    own = variant.requires.torch_line
    return own if own in lines else next(iter(lines), None)


def twin_runtime(twin: Variant, line: str, facts: HostFacts) -> RuntimeFacts | None:
    """The interpreter of this host that has exactly that torch line, or None; a newer one does not stand in for it."""
    if not isinstance(facts.runtimes, tuple):
        return None
    same = tuple(r for r in facts.runtimes if r.name == "torch" and PackageVersion(r.version).public == line)
    return runtime_for(twin, facts.model_copy(update={"runtimes": same})) if same else None


def embedded_runtime(nuke: NukeInstall) -> RuntimeFacts | None:
    """The torch inside a Nuke as a runtime, to find by golden class what was measured under that line."""
    if not isinstance(nuke.torch_line, str):
        return None
    return RuntimeFacts(name="torch", version=nuke.torch_line, interpreter=nuke.path or f"Nuke {nuke.version}")
