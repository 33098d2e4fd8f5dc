"""A memory plan on its road: chosen by `check`, kept in the signed verdict, applied wherever the model runs."""

import base64
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from changeover_registry.records.memory import MemoryPlan
from changeover_registry.records.scores import ScoreTask
from changeover_registry.records.verdict import Verdict
from changeover_validators.runtimes import process
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.sandbox import available

pytestmark = pytest.mark.skipif(available().name is None, reason="nothing isolates a child on this machine")


@pytest.fixture(scope="module")
def requests() -> Iterator[list[RunRequest]]:
    """Every request with which a child was really started."""
    seen: list[RunRequest] = []
    begin = process.ModelProcess.__enter__

    def enter(self: Any) -> Any:
        if type(self) is process.ModelProcess:
            seen.append(self._request)
        return begin(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process.ModelProcess, "__enter__", enter)
        yield seen


@pytest.fixture(scope="module")
def road(module_golden_set: Any, requests: list[RunRequest]) -> Any:
    """A first release checked, promoted and installed; a second one written as tasks for a farm."""
    world = module_golden_set
    world.without_mlflow()
    world.publish("1.0.0")
    code, out, err = world.run("check", "tiny-roto@1.0.0", "--set", "hero", "--json")
    assert code == 0, out + err
    envelope = json.loads((world.site.verdicts / f"{json.loads(out)['verdict']}.json").read_bytes())
    verdict = Verdict.from_bytes(base64.b64decode(envelope["payload"]), where="the verdict")
    checked = list(requests)
    world.ok("promote", "tiny-roto@1.0.0", "--reason", "the first")
    world.ok("update")
    installed = requests[len(checked) :]
    world.publish("1.1.0")
    folder = world.root / "tasks"
    world.run("check", "tiny-roto@1.1.0", "--set", "hero", "--tasks", str(folder))
    tasks = [ScoreTask.from_bytes(path.read_bytes(), where=str(path)) for path in (folder / "tasks").glob("*.json")]
    return SimpleNamespace(world=world, verdict=verdict, checked=checked, installed=installed, tasks=tasks)


def plan_of(verdict: Verdict) -> MemoryPlan:
    plan = verdict.points[0].memory_plan
    assert plan is not None
    return plan


def test_the_verdict_keeps_the_plan_and_the_prediction_under_it(road: Any) -> None:
    report = road.verdict.points[0]

    assert report.memory_plan != MemoryPlan()
    assert report.memory_answer.key.plan == report.memory_plan
    assert report.memory_answer.key.runtime == "onnxruntime"
    at_plate = next(p for p in report.memory if (p.width, p.height) == (4096, 2160))
    assert at_plate.bytes == report.memory_answer.total_bytes


def test_golden_shots_noise_speed_and_smoke_ran_under_it(road: Any) -> None:
    plans = {request.memory_plan for request in road.checked}

    assert plans == {plan_of(road.verdict)}


def test_the_station_smokes_under_it_and_its_generation_names_it(road: Any) -> None:
    (request,) = road.installed

    assert request.memory_plan == plan_of(road.verdict)
    (release,) = road.world.station.in_use().releases
    answers = [answer for answer in release.answers if answer.path]
    assert answers
    for answer in answers:
        assert len(answer.memory_plans) == len(answer.tiles)
        assert answer.memory_plans[0] == plan_of(road.verdict)


def test_a_task_for_the_farm_carries_the_plans_of_candidate_and_current(road: Any) -> None:
    assert road.tasks
    for task in road.tasks:
        assert task.candidate_plan is not None
        assert task.current_plan == plan_of(road.verdict)
