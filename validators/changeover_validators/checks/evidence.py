"""What in a variant's files shows each of its needs, in words: so that a refusal names the fact beside the claim.

The inspection says what it saw; what raises the version of a TorchScript archive is looked up in the table of torch's
own list. What this leaves out: comparing (`format`, and the vendor's side).
"""

from collections.abc import Mapping, Sequence

from changeover_registry.inspect.inspection import Inspection
from changeover_validators import tables

__all__ = ["evidence_of", "version_setters", "with_evidence"]


def evidence_of(found: Inspection) -> Mapping[str, str]:
    """For each requirement by name what shows it, where there is something to say."""
    requires, said = found.requires, {name: text for name, text in found.evidence.items() if text}
    if requires.torchscript_version is not None:
        setters = version_setters(requires.operators, requires.torchscript_version)
        if setters:
            said["torchscript_version"] = f"by {', '.join(setters)}"
    return said


def version_setters(operators: Sequence[str], version: int) -> tuple[str, ...]:
    """Which of `operators` (``aten::gelu``) make torch write an archive with `version`, sorted."""
    raised = {name.partition(".")[0] for name, least in tables.torchscript_operators().items() if least == version}
    return tuple(sorted(raised & set(operators)))


def with_evidence(expected: str, field: str, evidence: Mapping[str, str]) -> str:
    """What is expected of a field, with what shows it."""
    text = evidence.get(field)
    return f"{expected} ({text})" if text else expected
