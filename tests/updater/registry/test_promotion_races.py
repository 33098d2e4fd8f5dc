"""Eight promoters who saw the same choice: one of them moves the channel, the others are told who did."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import pytest

from changeover_registry import clock
from changeover_registry.errors import LostRaceError
from changeover_updater import signed
from changeover_updater.cli._context import Invocation
from changeover_updater.permitted import permission_of
from changeover_updater.settings import load_settings
from changeover_updater.studio import choice_history

RACERS, ROUNDS = 8, 20


@pytest.fixture
def studio(world: Any) -> Any:
    world.without_mlflow()
    first = world.served("1.0.0")
    world.accept(world.publish("1.1.0"), current=first)
    return world


def call_of(world: Any, who: str) -> Invocation:
    settings = load_settings({}, config=world.config, station="vm1")
    return Invocation(replace(settings, who=who), clock.now())


def head_of(world: Any) -> Any:
    return [choice for choice in choice_history(world.site) if choice.scope == "site"][-1]


def race(world: Any, act: Callable[[Invocation], Any]) -> list[Any]:
    """Let all racers act at once; each answers with what it wrote, or with the error that it lost by."""
    barrier = Barrier(RACERS)

    def run(number: int) -> Any:
        call = call_of(world, f"racer{number}")
        barrier.wait()
        try:
            return act(call)
        except LostRaceError as error:
            return error

    with ThreadPoolExecutor(RACERS) as pool:
        return list(pool.map(run, range(RACERS)))


def test_of_eight_promoters_who_expect_the_same_choice_exactly_one_wins_in_each_of_twenty_rounds(studio: Any) -> None:
    for number in range(ROUNDS):
        before = head_of(studio)
        release = ("tiny-roto@1.1.0", "tiny-roto@1.0.0")[number % 2]

        def act(call: Invocation, release: str = release, expect: int = before.number) -> Any:
            return signed.promote(call, release, None, "race", expect=expect)

        answers = race(studio, act)

        after = head_of(studio)
        winners = [answer for answer in answers if not isinstance(answer, LostRaceError)]
        losers = [answer for answer in answers if isinstance(answer, LostRaceError)]
        assert (len(winners), len(losers)) == (1, RACERS - 1)
        assert winners[0].choice == after
        assert (after.number, after.previous) == (before.number + 1, before.digest())
        for lost in losers:
            assert f"found choice {after.number} by {after.entry.who} at" in str(lost)
            assert lost.exit_code == 7
    studio.ok("update")


def test_without_an_expectation_no_promotion_rests_on_a_choice_that_is_no_longer_the_newest(studio: Any) -> None:
    """Whoever comes later may win too, but only on what the one before wrote; every number has one author."""
    before = head_of(studio)

    answers = race(studio, lambda call: signed.promote(call, "tiny-roto@1.1.0", None, f"by {call.settings.who}"))

    written = [c for c in choice_history(studio.site) if c.scope == "site" and c.number > before.number]
    winners = [answer.choice for answer in answers if not isinstance(answer, LostRaceError)]
    assert sorted(c.entry.why for c in written) == sorted(c.entry.why for c in winners)
    assert [c.number for c in written] == list(range(before.number + 1, before.number + 1 + len(written)))


def test_somebody_who_chose_between_the_reading_and_the_writing_is_named(
    studio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release was judged against what the channel had; now it has something else."""
    name = "changeover_updater.signed.permission_of"

    def slowly(*case: Any) -> Any:
        monkeypatch.setattr(name, permission_of)
        signed.promote(call_of(studio, "eve"), "tiny-roto@1.1.0", None, "quicker")
        return permission_of(*case)

    monkeypatch.setattr(name, slowly)

    code, _, err = studio.run("promote", "tiny-roto@1.0.0", "--reason", "slow")

    assert (code, "by eve at" in err) == (7, True), err
    assert "on which this was decided" in err
    assert head_of(studio).entry.why == "quicker"


def test_eight_processes_that_expect_the_same_choice_have_one_winner(studio: Any) -> None:
    head = head_of(studio).number
    command = [sys.executable, "-m", "changeover_updater", "--config", str(studio.config), *studio.extra, "promote"]
    line = [*command, "tiny-roto@1.1.0", "--expect", str(head), "--reason", "race"]

    racers = [subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(8)]
    answers = [(racer.communicate(timeout=120)[1], racer.returncode) for racer in racers]

    assert sorted(code for _, code in answers) == [0, *[7] * 7], answers
    assert all("found choice" in err for err, code in answers if code == 7)
    assert head_of(studio).number == head + 1


def test_an_expectation_of_another_choice_is_7_and_changes_nothing(studio: Any) -> None:
    before = [choice.digest() for choice in choice_history(studio.site)]
    number = head_of(studio).number

    code, _, err = studio.run("promote", "tiny-roto@1.1.0", "--expect", str(number - 1), "--reason", "late")
    policy = studio.run("promote", "--policy", "--expect", "1", "--reason", "x")

    assert (code, f"found choice {number} by {head_of(studio).entry.who} at" in err) == (7, True), err
    assert policy[0] == 2
    assert [choice.digest() for choice in choice_history(studio.site)] == before
    studio.ok("promote", "tiny-roto@1.1.0", "--channel", "show/atlas", "--expect", "0", "--reason", "its first")
