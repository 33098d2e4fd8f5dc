"""What an answer must not leave out: an uncounted changeover, a plan of another plate, a size that is fixed."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.records.base import Unknown
from changeover_registry.records.memory import MemoryAnswer, MemoryPlan
from changeover_registry.records.policy import Policy, VramPolicy
from changeover_updater.fits import Answered, answer_object, not_counted, plan_note, plate_of, range_note
from changeover_updater.fleet import cell_of, named_apart
from changeover_updater.subjects import Subject
from changeover_validators.fits import judge_points
from changeover_validators.probe import forged_host
from changeover_validators.vram.footprint import Footprint

NOTHING = Unknown(unknown="nothing is known of zoo/unet@0.9.0")


@pytest.fixture
def answered(recorded: Any, zoo: Any) -> Answered:
    net, release = zoo["mobilenet"]
    facts = forged_host("h200-141gib")
    found = judge_points(release, facts, Policy(), partial(recorded, net))
    return Answered(Subject("mobilenet", release, lambda _: Path()), facts, Policy(), found)


def memory(answered: Answered) -> MemoryAnswer:
    assert answered.fits.chosen is not None
    assert answered.fits.chosen.answer is not None
    return answered.fits.chosen.answer


def test_changeover_beside_a_release_of_which_nothing_is_known_is_said_to_be_left_out(answered: Answered) -> None:
    first = Policy(vram=VramPolicy(changeover="unload-first"))
    cases = {
        "unknown": replace(answered, old=NOTHING),
        "known": replace(answered, old=Footprint(1, 1)),
        "none in use": answered,
        "unload first": replace(answered, old=NOTHING, policy=first),
    }

    said = {case for case, one in cases.items() if not_counted(one)}

    assert said == {"unknown"}
    assert cell_of(cases["unknown"]).notes == (f"the changeover is not counted: {NOTHING.unknown}",)
    assert answer_object(cases["unknown"])["changeover_note"] == f"the changeover is not counted: {NOTHING.unknown}"


def test_plan_of_another_plate_than_the_policys_is_said_where_the_tensor_is_another(answered: Answered) -> None:
    other, same = replace(answered, usual=(1920, 1080)), replace(answered, usual=answered.policy.vram.plate)

    assert "1920x1080" in (plan_note(other) or "")
    assert cell_of(other).plan_note == plan_note(other)
    assert plan_note(same) is None
    assert plan_note(answered) is None


def test_width_of_a_range_is_of_cudnn_only_where_nobody_measured_and_it_may_take_all(answered: Answered) -> None:
    found = memory(answered)
    bounded = found.key.model_copy(update={"plan": MemoryPlan(cudnn_max_workspace=False)})
    others = ({"label": "calibrated"}, {"key": bounded}, {"key": found.key.model_copy(update={"provider": "cpu"})})

    assert "cuDNN" in (range_note(found) or "")
    assert [range_note(found.model_copy(update=other)) for other in others] == [None] * 3


def test_parts_of_the_json_add_up_and_what_rests_stands_beside_them(answered: Answered) -> None:
    body = answer_object(answered)

    assert sum(part["bytes"] for part in body["parts"]) == body["total_bytes"]
    assert body["resting_bytes"] == memory(answered).part("resting")


def test_hosts_of_one_name_are_told_apart_by_their_files() -> None:
    one, two = forged_host("no-gpu"), forged_host("unknown-gpus")
    twin = two.model_copy(update={"host": one.host})

    def names(*hosts: Any) -> list[str]:
        return [facts.host for facts in named_apart([(Path(f"{at}.json"), host) for at, host in enumerate(hosts)])]

    assert names(one, two) == [one.host, two.host]
    assert names(one, twin, two) == [f"{one.host} (0.json)", f"{one.host} (1.json)", two.host]


def test_plate_is_read_with_either_letter() -> None:
    assert plate_of("4096X2160") == plate_of("4096x2160") == (4096, 2160)
