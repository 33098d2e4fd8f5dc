"""The same facts said in another order give the same choice, the same figures and the same reasons."""

import json
import random
from functools import partial
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release
from changeover_updater.fits import Answered
from changeover_updater.fleet import cell_of, fleet_object, fleet_of
from changeover_updater.subjects import Subject
from changeover_validators.fits import Fits, codes, judge_points, passed_over
from changeover_validators.probe import forged_host, forged_hosts

SETTINGS = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def mixed(items: Any, by: random.Random) -> Any:
    """A tuple in another order; what is no tuple stays."""
    return tuple(by.sample(items, len(items))) if isinstance(items, tuple) else items


def mixed_keys(value: Any, by: random.Random) -> Any:
    """A JSON document whose objects say their keys in another order."""
    if isinstance(value, dict):
        return {key: mixed_keys(value[key], by) for key in by.sample(sorted(value), len(value))}
    return [mixed_keys(item, by) for item in value] if isinstance(value, list) else value


def mixed_facts(facts: HostFacts, by: random.Random) -> HostFacts:
    runtimes = facts.runtimes
    if isinstance(runtimes, tuple):
        runtimes = tuple(
            one.model_copy(
                update={"providers": mixed(one.providers, by), "architectures": mixed(one.architectures, by)}
            )
            for one in mixed(runtimes, by)
        )
    gpus = facts.gpus
    if isinstance(gpus, tuple):
        gpus = tuple(one.model_copy(update={"instances": mixed(one.instances, by)}) for one in mixed(gpus, by))
    changed = facts.model_copy(update={"runtimes": runtimes, "gpus": gpus, "nukes": mixed(facts.nukes, by)})
    return HostFacts.from_object(mixed_keys(json.loads(changed.to_bytes()), by), where="facts")


def mixed_release(release: Release, by: random.Random) -> Release:
    variants = tuple(
        one.model_copy(
            update={
                "files": mixed(one.files, by),
                "loaders": mixed(one.loaders, by),
                "contract": one.contract.model_copy(update={"tiles": mixed(one.contract.tiles, by)}),
                "requires": one.requires.model_copy(
                    update={"operators": mixed(one.requires.operators, by), "dtypes": mixed(one.requires.dtypes, by)}
                ),
            }
        )
        for one in mixed(release.variants, by)
    )
    changed = release.model_copy(update={"variants": variants})
    return Release.from_object(mixed_keys(json.loads(changed.to_bytes()), by), where="release")


def seen(found: Fits) -> Any:
    """All that a program is told, and why each point is passed over."""
    budget = found.budget if isinstance(found.budget, Unknown) else found.budget.allowed_bytes
    points = [(one.point, one.outcome, one.need, codes(one)) for one in found.points]
    # A reason may list what it was told in the order in which it was told; its letters are the same.
    why = [sorted(text) for _, text in passed_over(found)]
    return found.outcome, found.chosen and found.chosen.point, budget, points, why


@SETTINGS
@given(host=st.sampled_from(forged_hosts()), name=st.integers(0, 99), chance=st.integers(0, 2**32), lean=st.booleans())
def test_order_of_everything_that_is_said_changes_no_choice(
    recorded: Any, zoo: Any, policies: Any, host: str, name: int, chance: int, *, lean: bool
) -> None:
    by, facts, policy = random.Random(chance), forged_host(host), policies["lean" if lean else "default"]
    net, release = zoo[sorted(zoo)[name % len(zoo)]]
    predict = partial(recorded, net)

    first = judge_points(release, facts, policy, predict)
    second = judge_points(mixed_release(release, by), mixed_facts(facts, by), policy, predict)

    assert seen(second) == seen(first)


@SETTINGS
@given(host=st.sampled_from(forged_hosts()), free=st.integers(0, 2**20), label=st.text("abc", min_size=1, max_size=5))
def test_what_is_free_now_and_what_a_host_is_called_change_no_choice(
    recorded: Any, zoo: Any, host: str, free: int, label: str
) -> None:
    facts = forged_host(host)
    net, release = zoo["two-precisions"]
    gpus = facts.gpus
    if isinstance(gpus, tuple):
        gpus = tuple(one.model_copy(update={"free_mib": free}) for one in gpus)
    other = facts.model_copy(update={"gpus": gpus, "host": label, "kernel": label})

    first = judge_points(release, facts, Policy(), partial(recorded, net))

    assert seen(judge_points(release, other, Policy(), partial(recorded, net))) == seen(first)


@SETTINGS
@given(order=st.permutations(forged_hosts()))
def test_order_of_hosts_changes_nothing_of_the_fleet(recorded: Any, zoo: Any, order: list[str]) -> None:
    chosen = order[:6]
    net, release = zoo["unet"]

    def ask(facts: HostFacts) -> list[Answered]:
        found = judge_points(release, facts, Policy(), partial(recorded, net))
        return [Answered(Subject("unet", release, lambda _: None), facts, Policy(), found)]  # type: ignore[arg-type, return-value]

    first, second = (
        fleet_of([forged_host(name) for name in names], ("unet",), (4096, 2160), ask)
        for names in (chosen, sorted(chosen))
    )

    assert fleet_object(first) == fleet_object(second)
    assert [cell_of(ask(forged_host(row.hosts[0]))[0]) for row in first.rows] == [row.cells[0] for row in second.rows]
