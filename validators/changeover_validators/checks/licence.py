"""Check 2, licence: the weights' licence is on the policy's list, and the training data is not on its refused one.

Both are statements of the vendor, compared as SPDX compares identifiers (without case). An expression with ``OR``
passes if one side does, with ``AND`` if both do; anything more involved has to stand on the list as it is. Of what a
studio adopted nobody stated anything; it has it already, and that is said in place of an answer. What this leaves out:
whether the statement is true.
"""

from changeover_registry.records.findings import Finding, NotApplicable, Passed, Refused
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release

__all__ = ["check_licence"]


def check_licence(release: Release, policy: Policy) -> tuple[Finding, ...]:
    """One finding, or one for each statement that the policy refuses."""
    licences, lists = release.licences, policy.licence
    if release.adopted is not None:
        detail = "unknown: the studio had these weights before it had Changeover; ask whoever made them"
        return (NotApplicable(check="licence", rule="adopted", detail=detail),)
    refused: list[Finding] = []
    if not _allowed(licences.weights, frozenset(name.casefold() for name in lists.weights)):
        refused.append(_refused("weights licence", f"one of {', '.join(lists.weights)}", licences.weights, "weights"))
    if licences.training_data.casefold() in {name.casefold() for name in lists.refuse_training_data}:
        expected = f"a statement other than {', '.join(lists.refuse_training_data)}"
        refused.append(_refused("training data", expected, licences.training_data, "refuse_training_data"))
    detail = f"weights {licences.weights}, training data {licences.training_data}"
    return tuple(refused) or (Passed(check="licence", detail=detail),)


def _allowed(statement: str, allowed: frozenset[str]) -> bool:
    text = statement.strip().casefold()
    if text in allowed:
        return True
    for word, decide in ((" or ", any), (" and ", all)):
        parts = text.split(word)
        if len(parts) > 1 and "(" not in text:
            return decide(_allowed(part, allowed) for part in parts)
    return False


def _refused(rule: str, expected: str, actual: str, key: str) -> Refused:
    return Refused(
        check="licence",
        rule=rule,
        expected=expected,
        actual=actual,
        remedy=f"ask the vendor for other terms, or change `{key}` under [licence] in policy.toml",
    )
