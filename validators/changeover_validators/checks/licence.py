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


def check_licence(release: Release, policy: Policy, show: str | None = None) -> tuple[Finding, ...]:
    """One finding, or one for each statement that the policy refuses; for a `show` its own list of weights holds."""
    licences, lists, (weights, where) = release.licences, policy.licence, _weights(policy, show)
    if release.adopted is not None:
        detail = "unknown: the studio had these weights before it had Changeover; ask whoever made them"
        return (NotApplicable(check="licence", rule="adopted", detail=detail),)
    refused: list[Finding] = []
    if not _allowed(licences.weights, frozenset(name.casefold() for name in weights)):
        refused.append(_refused("weights licence", f"one of {', '.join(weights)}", licences.weights, "weights", where))
    if licences.training_data.casefold() in {name.casefold() for name in lists.refuse_training_data}:
        expected = f"a statement other than {', '.join(lists.refuse_training_data)}"
        refused.append(_refused("training data", expected, licences.training_data, "refuse_training_data", "licence"))
    detail = f"weights {licences.weights}, training data {licences.training_data}"
    return tuple(refused) or (Passed(check="licence", detail=detail),)


def _weights(policy: Policy, show: str | None) -> tuple[tuple[str, ...], str]:
    """The licences of weights that may be used, and the section of the policy that lists them."""
    terms = (policy.shows or {}).get(show) if show else None
    if terms is None or terms.weights is None:
        return policy.licence.weights, "licence"
    return terms.weights, f"shows.{show}"


def _allowed(statement: str, allowed: frozenset[str]) -> bool:
    text = statement.strip().casefold()
    if text in allowed:
        return True
    for word, decide in ((" or ", any), (" and ", all)):
        parts = text.split(word)
        if len(parts) > 1 and "(" not in text:
            return decide(_allowed(part, allowed) for part in parts)
    return False


def _refused(rule: str, expected: str, actual: str, key: str, section: str) -> Refused:
    return Refused(
        check="licence",
        rule=rule,
        expected=expected,
        actual=actual,
        remedy=f"ask the vendor for other terms, or change `{key}` under [{section}] in policy.toml",
    )
