"""Whether a torch loads a TorchScript archive: the line that it was made for, the archive's version, its operators.

An archive's version rises with the operators in it (``gelu`` makes it 10), so one exporter writes files that an old
torch reads and files that it does not. Passing that gate does not mean that the old torch has the operators: a script
holds every branch of the functions that it calls, so they are looked up one by one. What this leaves out: arguments
that an operator got later; those show at the model's own smoke test.
"""

from collections.abc import Iterable

from packaging.version import Version as PackageVersion

from changeover_registry.records.base import Unknown
from changeover_registry.records.release import Variant
from changeover_validators import tables
from changeover_validators.checks.reasons import Broken, Open, Problem, Reason
from changeover_validators.tables.operators import lacking

__all__ = ["torchscript_problems"]


def torchscript_problems(variant: Variant, torch: str, where: str, probed: int | Unknown | None) -> Iterable[Problem]:
    """All that speaks against the torch of version `torch` at `where`.

    Args:
        variant: A TorchScript or a ``.cat``.
        torch: Its version.
        where: What has it, for messages.
        probed: The newest archive that it reads, as it said itself.
    """
    needed = variant.requires.torch_line
    if needed is not None and PackageVersion(torch).release < PackageVersion(needed).release:
        yield Broken(
            Reason.TORCH_TOO_OLD,
            "torch line",
            f"torch {needed} or newer",
            f"torch {torch} ({where})",
            f"name an interpreter with torch {needed} or newer, or take a variant for this line",
            ("requires.torch_line",),
        )
    yield from _archive(variant, torch, where, probed)
    yield from _operators(variant, torch, where)


def _archive(variant: Variant, torch: str, where: str, probed: int | Unknown | None) -> Iterable[Problem]:
    needed = variant.requires.torchscript_version
    if needed is None:
        return
    limit = probed if isinstance(probed, int) else tables.torchscript_limit(torch)
    evidence = ("requires.torchscript_version", where if isinstance(probed, int) else "tables/torchscript.toml, reader")
    if limit is None:
        why = f"the newest TorchScript archive that torch {torch} reads is unknown ({where})"
        yield Open(Reason.TORCHSCRIPT_LIMIT_UNKNOWN, why, "run changeover facts with that torch at hand", evidence)
    elif needed > limit:
        yield Broken(
            Reason.TORCHSCRIPT_TOO_NEW,
            "TorchScript version",
            f"an archive of version {limit} or older, which torch {torch} reads ({where})",
            f"version {needed}{_raised(variant, limit)}",
            "ask the vendor for an export without these operators, or use a newer torch",
            (*evidence, "tables/torchscript.toml, operator"),
        )


def _operators(variant: Variant, torch: str, where: str) -> Iterable[Problem]:
    """Operators of the code that this torch does not have: it compiles all of the code when it loads it."""
    found, evidence = lacking(torch, variant.requires.operators), ("requires.operators", "tables/operators.toml, torch")
    if found.missing:
        yield Broken(
            Reason.OPERATOR_MISSING,
            "TorchScript operators",
            f"operators that torch {torch} has ({where})",
            f"{', '.join(found.missing[:5])}" + (f" and {more} more" if (more := len(found.missing) - 5) > 0 else ""),
            "ask the vendor to trace the model or to export it with an older torch, or use a newer torch",
            evidence,
        )
    elif found.unknown:
        why = f"whether torch {torch} has {', '.join(found.unknown[:5])} is unknown ({where})"
        yield Open(Reason.OPERATOR_UNKNOWN, why, "use a torch that the tables know, or run smoke there", evidence)


def _raised(variant: Variant, limit: int) -> str:
    """The operators of the file that raise its version over `limit`, as the table knows them."""
    known = tables.torchscript_operators()
    names = {name.removeprefix("aten::") for name in variant.requires.operators}
    raised = {name.removeprefix("aten::").split(".")[0] for name, version in known.items() if version > limit}
    found = sorted(raised & {name.split(".")[0] for name in names})
    return f", raised by {', '.join(found)}" if found else ""
