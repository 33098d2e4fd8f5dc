"""What a command says to do next: the words that a person may type as they stand."""

from datetime import timedelta
from typing import Any

import pytest

from changeover_registry.clock import format_time
from changeover_registry.records.findings import Refused
from changeover_updater.cli.main import run


@pytest.fixture
def line(capsys: pytest.CaptureFixture[str]) -> Any:
    def of(*arguments: str) -> str:
        assert run(arguments) == 2
        return capsys.readouterr().err

    return of


def test_usage_error_names_the_command_whose_help_to_read(line: Any) -> None:
    assert "Try: changeover golden add --help" in line("golden", "add", "hair")
    assert "Try: changeover --help" in line("rolback")


def test_words_that_the_shell_split_are_asked_for_in_quotes(line: Any) -> None:
    assert "quote words with spaces, and patterns of frames" in line("hold", "--reason", "final", "renders")


def test_policy_without_a_reason_is_told_how_a_policy_is_signed(world: Any) -> None:
    code, _, err = world.run("promote", "--policy")

    assert (code, err.count("\n")) == (2, 1)
    assert 'found no --reason; write: changeover promote --policy --reason "..."' in err


@pytest.mark.parametrize("text", ["2w", "3", "tomorrow", "Friday T 9"])
def test_a_time_that_cannot_be_read_is_shown_as_it_was_typed(world: Any, text: str) -> None:
    code, _, err = world.run("hold", "--reason", "x", "--until", text)

    assert (code, err.count("\n")) == (2, 1)
    assert f"days such as 14d, a date such as 2026-12-24, or UTC such as 2026-12-24T18:00:00Z, found {text!r}" in err
    assert world.station.hold() is None


def test_further_machine_of_a_site_is_sent_on_to_plan_and_gets_no_keys(world: Any, tmp_path: Any) -> None:
    config, store = tmp_path / "second" / "host.toml", tmp_path / "second" / "store"

    where = ("--config", str(config), "--site", str(world.site.root), "--store", str(store))
    out = world.ok(*where, "init", "--nuke-json", "none")

    assert "no keys are made for a site that is there already; next: changeover plan" in out
    assert not (config.parent / "keys").exists()


def test_site_that_follows_another_is_sent_on_to_the_bundle(world: Any, tmp_path: Any) -> None:
    root, away = world.site.choice / "metadata" / "1.root.json", tmp_path / "away"

    where = ("--config", str(away / "host.toml"), "--site", str(away / "site"), "--store", str(away / "store"))
    out = world.ok(*where, "init", "--nuke-json", "none", "--choice-root", str(root))

    assert "next: changeover trust add VENDOR BUNDLE --root ROOT.json, then: changeover import BUNDLE" in out
    assert not (away / "keys").exists()


def test_channel_that_holds_nothing_has_no_way_back_and_those_that_do_are_named(world: Any) -> None:
    world.served("1.0.0")

    code, _, err = world.run("rollback", "--channel", "sable", "--reason", "x")

    assert (code, err.count("\n")) == (2, 1)
    assert "expected a channel that holds a release: stable, found one that holds nothing" in err


def test_generation_in_use_is_none_to_go_back_to(world: Any) -> None:
    world.served("1.0.0")

    assert "generations to go back to: none" in world.ok("status")


def test_promotion_that_lacks_a_verdict_names_the_channel_flag(world: Any) -> None:
    world.publish("1.0.0")

    code, _, err = world.run("promote", "tiny-roto@1.0.0", "--channel", "show/atlas", "--reason", "x")

    assert (code, err.count("\n")) == (4, 1)
    assert "with the same --channel" in err


def worse(point: Any) -> Any:
    """The report of an operating point that five shots speak against."""
    told = {"check": "golden", "rule": "worst shot", "subject": str(point.point), "expected": "0.03", "remedy": "stay"}
    shots = tuple(Refused.model_validate({**told, "actual": f"shot-{n}"}) for n in range(5))
    return point.model_copy(update={"findings": shots})


def test_plan_says_that_what_is_installed_stays_though_the_only_verdict_left_refuses_it(world: Any) -> None:
    release = world.served("1.0.0")
    for named in world.site.verdicts.glob("*.json"):
        named.unlink()
    points = tuple(worse(world.point(release, tile)) for tile in release.variants[0].contract.tiles)
    later = format_time(world.now + timedelta(minutes=1))
    world.accept(release, decision="reject", made_at=later, points=points)

    out = world.ok("plan")

    assert f"stays {release.ref()}" in out
    assert "python: as installed; judged anew: not available in the loader python here" in out
    assert "more; --json tells all" in out
