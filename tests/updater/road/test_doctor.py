"""``doctor`` and the impact that ``check --host`` tells: a real site, its verdicts, and the command line."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.clock import format_time
from changeover_registry.records.base import Unknown
from changeover_updater.judged_facts import judged_facts, keep_facts
from changeover_validators.probe import forged_host
from changeover_validators.runtimes.sandbox import available


@pytest.fixture(scope="module")
def studio(module_world: Any) -> Any:
    """A studio whose station serves 1.0.0 by a verdict on facts that were kept."""
    keep_facts(module_world.site, module_world.facts)
    module_world.served("1.0.0")
    return module_world


def told(world: Any, *arguments: str) -> tuple[int, Any]:
    code, out, err = world.run("doctor", *arguments, "--json")
    assert out, err
    return code, json.loads(out)


def facts_file(folder: Path, world: Any, **changes: object) -> str:
    path = folder / "facts.json"
    path.write_bytes(world.facts.model_copy(update=changes).to_bytes())
    return str(path)


def runtime(world: Any, version: str) -> tuple[Any, ...]:
    return (world.facts.runtimes[0].model_copy(update={"version": version}),)


def test_doctor_tells_settings_the_set_and_that_nothing_changed_since_the_verdict(studio: Any, tmp_path: Path) -> None:
    code, found = told(studio, "--host", facts_file(tmp_path, studio))

    assert code == 0
    origins = {setting["name"]: setting["origin"] for setting in found["settings"]}
    assert origins["site"] == str(studio.config)
    assert origins["station"] == "flag"
    assert found["runtime_set"] is None
    assert found["since"]["impact"] == {"changes": [], "effects": [], "same_class": True}
    assert [one["runs"] for one in found["runtimes"]] == [True]


def test_runtime_that_was_updated_since_the_verdict_is_told_with_what_it_re_opens(studio: Any, tmp_path: Path) -> None:
    before = studio.station.in_use()
    path = facts_file(tmp_path, studio, runtimes=runtime(studio, "1.26.0"))

    code, found = told(studio, "--host", path)
    text = studio.ok("doctor", "--host", path)

    assert code == 0
    effects = found["since"]["impact"]["effects"]
    assert {effect["kind"] for effect in effects} == {"reopens"}
    assert {effect["release"] for effect in effects} == {"acme/tiny-roto@1.0.0"}
    assert "re-opens: golden shots and speed were judged in another class" in text
    assert studio.station.in_use() == before


def test_planned_update_that_breaks_what_is_in_use_is_refused_before_it_bites(studio: Any, tmp_path: Path) -> None:
    own = facts_file(tmp_path, studio)
    (tmp_path / "planned").mkdir()
    after = facts_file(tmp_path / "planned", studio, cpu_level="x86_64")

    code, out, _ = studio.run("doctor", "--host", own, "--after", after)

    assert code == 3
    assert "if the host's facts became those" in out
    assert "breaks: CPU level: expected x86_64_v2 or higher" in " ".join(out.split())
    assert "it stays in use as installed" in " ".join(out.split())


def test_planned_loss_of_memory_breaks_what_no_longer_has_room(studio: Any, tmp_path: Path) -> None:
    own = facts_file(tmp_path, studio)
    (tmp_path / "planned").mkdir()
    after = facts_file(tmp_path / "planned", studio, ram_mib=200)

    code, found = told(studio, "--host", own, "--after", after)

    assert code == 3
    assert {effect["code"] for effect in found["planned"]["effects"]} == {"over-budget"}
    assert all("allowed before" in effect["why"] for effect in found["planned"]["effects"])


def test_unknown_fact_is_told_with_how_to_learn_it(studio: Any, tmp_path: Path) -> None:
    code, out, _ = studio.run("doctor", "--host", facts_file(tmp_path, studio, gpus=Unknown(unknown="no library")))

    assert code == 4
    assert "unknown: gpus: no library; name an interpreter with the extra run" in " ".join(out.split())


def test_facts_of_the_verdict_that_were_not_kept_leave_the_host_class_to_compare(studio: Any, tmp_path: Path) -> None:
    other = forged_host("no-gpu").model_copy(update={"host": "vm1"})
    studio.accept(studio.publish("1.1.0"), facts=other.digest(), made_at=format_time(studio.now + timedelta(seconds=1)))

    _, found = told(studio, "--host", facts_file(tmp_path, studio))

    assert found["since"]["note"] == "the facts of then were not kept; the host class is the same"
    assert "the facts of then were not kept" in studio.ok("doctor", "--host", facts_file(tmp_path, studio))


def test_doctor_works_without_a_site_and_looks_at_a_shipped_host(tmp_path: Path, studio: Any) -> None:
    from changeover_updater.cli.main import run

    assert run(["--config", str(tmp_path / "none.toml"), "doctor", "--host", "rtx-4090-24gib"]) == 0
    planned = ["--host", "quadro-p4000-8gib", "--after", "rtx-4090-24gib"]
    assert run(["--config", str(tmp_path / "none.toml"), "doctor", *planned]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "lines"),
    [
        (("--host", "rtx-5090-compiled-32gib"), 0, ("runtime set: cuda12", "set CUDA_CACHE_MAXSIZE=4294967296")),
        (("--host", "quadro-m6000-24gib"), 0, ("no set suits this driver and these GPUs: cuda13: GPU architecture",)),
        (("--host", "old-driver-16gib"), 3, ("runtime set: cuda12", "expected driver 580.65.06 or newer")),
        (
            ("--host", "rtx-4090-24gib", "--after", "rtx-a4000-16gib"),
            0,
            ("breaking change: CUDA 13 becomes CUDA 12", "driver: 580.65.06 -> 570.133.07"),
        ),
        (("--host", "no-gpu", "--after", "no-gpu"), 0, ("nothing that a check reads has changed",)),
    ],
)
def test_what_a_person_reads_names_the_set_the_cost_and_the_breaking_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, lines: tuple[str, ...]
) -> None:
    from changeover_updater.cli.main import run

    assert run(["--config", str(tmp_path / "none.toml"), "doctor", *arguments]) == code

    out = " ".join(capsys.readouterr().out.split())
    assert [line for line in lines if line not in out] == []


def test_site_that_cannot_be_read_is_one_line_and_the_rest_is_told(studio: Any, tmp_path: Path) -> None:
    code, out, _ = studio.run("--site", str(tmp_path / "gone"), "doctor", "--host", facts_file(tmp_path, studio))

    assert code == 2
    assert "no such folder" in out
    assert "settings" in out


def test_kept_facts_are_found_by_their_digest_alone(studio: Any) -> None:
    digest = keep_facts(studio.site, studio.facts)
    path = studio.site.root / "facts" / f"{digest}.json"

    assert judged_facts(studio.site, digest) == studio.facts
    assert judged_facts(studio.site, "0" * 64) is None
    (path.parent / f"{'1' * 64}.json").write_bytes(path.read_bytes())
    assert judged_facts(studio.site, "1" * 64) is None
    (path.parent / f"{'2' * 64}.json").write_bytes(b"{")
    assert judged_facts(studio.site, "2" * 64) is None


@pytest.mark.skipif(available().name is None, reason="nothing isolates a child on this machine")
def test_check_for_another_host_tells_what_would_break_and_keeps_the_facts_that_it_judged(
    studio: Any, tmp_path: Path
) -> None:
    studio.without_mlflow()
    path = facts_file(tmp_path, studio, host="vm2", cpu_level="x86_64")

    code, out, err = studio.run("check", "tiny-roto@1.0.0", "--set", "", "--host", path, "--json")

    assert code == 3, err
    answer = json.loads(out)
    assert {effect["release"] for effect in answer["impact"]["effects"]} == {"acme/tiny-roto@1.0.0"}
    assert {effect["code"] for effect in answer["impact"]["effects"]} == {"cpu-level-too-low"}
    assert judged_facts(studio.site, answer["facts"]) is not None
