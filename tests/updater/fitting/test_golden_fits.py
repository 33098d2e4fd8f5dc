"""Every release of the zoo on every forged host under two policies: the choice, its figures, every point passed over.

Golden files change on purpose only: ``pytest tests/updater/fitting --update-goldens``, and a look at what changed.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.records.facts import HostFacts
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release
from changeover_validators.checks.budget import Budget, mib
from changeover_validators.fits import Fits, Judged, codes, judge_points
from changeover_validators.probe import forged_host, forged_hosts

GOLDEN = Path(__file__).parent / "golden"
NAMES = (
    *("unet", "resnet-aspp", "vit", "convgru", "mobilenet", "separable"),
    *("two-precisions", "brain-float", "new-opset", "nuke", "whole-frame"),
)


def judged(
    recorded: Any, zoo: Any, name: str, facts: HostFacts, policy: Policy, release: Release | None = None
) -> Fits:
    net, own = zoo[name]
    return judge_points(release or own, facts, policy, partial(recorded, net))


def line(one: Judged) -> str:
    need = f" {mib(one.need.bytes)} MiB" if one.need else ""
    return " ".join((one.outcome, *codes(one))) + need


def told(found: Fits) -> dict[str, Any]:
    budget = f"{found.budget.allowed_bytes >> 20} MiB" if isinstance(found.budget, Budget) else found.budget.unknown
    chosen = str(found.chosen.point) if found.chosen else None
    points = {str(one.point): line(one) for one in found.points}
    return {"answer": found.outcome, "chosen": chosen, "budget": budget, "points": points}


@pytest.mark.parametrize("name", NAMES)
def test_choice_and_its_reasons_are_those_of_the_golden_file(
    recorded: Any, zoo: Any, policies: dict[str, Policy], updating: bool, name: str
) -> None:
    found = {
        host: {
            rules: told(judged(recorded, zoo, name, forged_host(host), policy)) for rules, policy in policies.items()
        }
        for host in forged_hosts()
    }
    path = GOLDEN / f"{name}.json"
    if updating:
        path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    assert found == json.loads(path.read_text(encoding="utf-8"))


def test_golden_files_hold_at_least_200_cases_with_every_kind_of_answer(zoo: Any, policies: dict[str, Policy]) -> None:
    files = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in GOLDEN.glob("*.json")}
    cases = [case for hosts in files.values() for rules in hosts.values() for case in rules.values()]

    assert set(files) == set(zoo) == set(NAMES)
    assert len(files) * len(forged_hosts()) >= 200
    assert len(cases) == len(files) * len(forged_hosts()) * len(policies)
    assert {case["answer"] for case in cases} == {"fits", "over-budget", "incompatible", "unknown"}
    assert all(case["chosen"] is not None for case in cases if case["answer"] == "fits")
    assert all(text.split()[1:] for case in cases for text in case["points"].values() if not text.startswith("fits"))
