from collections.abc import Callable

import pytest

from changeover_registry.records.findings import Passed, Refused
from changeover_registry.records.policy import LicencePolicy, Policy
from changeover_registry.records.release import Licences, Release
from changeover_validators.checks.licence import check_licence

Make = Callable[..., Release]


def release_with(make_release: Make, weights: str, training: str = "LicenseRef-Acme") -> Release:
    return make_release(licences=Licences(code="GPL-3.0-only", weights=weights, training_data=training))


@pytest.mark.parametrize("weights", ["MIT", "mit", "MIT OR GPL-3.0-only", "MIT AND Apache-2.0"])
def test_weights_on_the_list_pass(make_release: Make, weights: str) -> None:
    (found,) = check_licence(release_with(make_release, weights), Policy())

    assert isinstance(found, Passed)


@pytest.mark.parametrize("weights", ["GPL-3.0-only", "MIT AND GPL-3.0-only", "(MIT OR X)", "MIT-0"])
def test_weights_off_the_list_are_refused_with_both_sides_named(make_release: Make, weights: str) -> None:
    (found,) = check_licence(release_with(make_release, weights), Policy())

    assert isinstance(found, Refused)
    assert (found.rule, found.actual) == ("weights licence", weights)
    assert "Apache-2.0" in found.expected


def test_expression_that_stands_on_the_list_as_it_is_passes(make_release: Make) -> None:
    policy = Policy(licence=LicencePolicy(weights=("(MIT OR X)",)))

    (found,) = check_licence(release_with(make_release, "(mit or x)"), policy)

    assert isinstance(found, Passed)


def test_both_refusals_are_reported_at_once(make_release: Make) -> None:
    found = check_licence(release_with(make_release, "X", "Unknown"), Policy())

    assert [item.rule for item in found if isinstance(item, Refused)] == ["weights licence", "training data"]
