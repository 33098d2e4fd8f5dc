"""What holds for one show alone: which licences its client allows, and what its client agreed to. Pure.

A show's policy may ask that nothing goes to it before its client agreed; the agreement stands in the show's own signed
choice, with who, when and where it is written. It is asked of what is chosen for the show: its channel, a share of it,
its pins. A channel of the site is everybody's, so a show that asks should have a release of its own of each model.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from changeover_registry.records.choice import Choice, ClientApproval
from changeover_registry.records.findings import Finding, Passed, Refused
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import ReleaseRef

__all__ = ["CLIENT_APPROVAL", "ShowTerms", "check_client_approval", "terms_of", "without_their_own"]

CLIENT_APPROVAL = "client-approval"
"""The rule of a finding that a client's approval is missing; its check is ``licence``."""


@dataclass(frozen=True, slots=True)
class ShowTerms:
    """A show, and what its client agreed to by its signed choice."""

    show: str
    approvals: tuple[ClientApproval, ...] = ()

    def approval(self, release: ReleaseRef) -> ClientApproval | None:
        """The client's agreement to a release, if there is one."""
        return next((one for one in self.approvals if one.release == release), None)


def terms_of(choices: Iterable[Choice], scope: str) -> ShowTerms | None:
    """The show whose scope it is; None for the site."""
    if scope == "site":
        return None
    approvals = next((choice.client_approvals for choice in choices if choice.scope == scope), None)
    return ShowTerms(scope.removeprefix("shows/"), approvals or ())


def check_client_approval(release: ReleaseRef, terms: ShowTerms | None, policy: Policy) -> tuple[Finding, ...]:
    """Check 2, for a show whose policy asks for its client's agreement; nothing for any other."""
    asked = (policy.shows or {}).get(terms.show) if terms else None
    if terms is None or asked is None or not asked.client_approval:
        return ()
    subject, found = "client approval", terms.approval(release)
    if found is not None:
        detail = f"{found.by} agreed at {found.when}: {found.evidence}"
        return (Passed(check="licence", subject=subject, detail=detail),)
    others = ", ".join(one.release.version for one in terms.approvals if one.release.model == release.model)
    return (
        Refused(
            check="licence",
            subject=subject,
            rule=CLIENT_APPROVAL,
            expected=f"the agreement of the client of show {terms.show} to {release}",
            actual=f"its agreement to {others} alone" if others else "none",
            remedy=(
                f"once the client agreed: changeover show approve {terms.show} {release.model}@{release.version} "
                "--by NAME --evidence WHERE --reason ..."
            ),
        ),
    )


def without_their_own(choices: tuple[Choice, ...], policy: Policy, model: str) -> tuple[str, ...]:
    """The shows that ask for their client's agreement and have no release of a model of their own.

    Their unstamped nodes get what the site's channel has, to which nobody's client was asked to agree.
    """
    asking = (show for show, terms in sorted((policy.shows or {}).items()) if terms.client_approval)
    own = {choice.scope for choice in choices for pointer in choice.channels if pointer.release.model == model}
    return tuple(show for show in asking if f"shows/{show}" not in own)
