from pathlib import Path

import pytest

from changeover_registry.errors import TrustError, UnreachableError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts
from changeover_updater.doctor import diagnose, gaps_of, settings_of
from changeover_updater.settings import Settings, load_settings
from changeover_validators.checks.impact import Effect, Impact
from changeover_validators.probe import forged_host, forged_hosts

UNKNOWN = Unknown(unknown="not asked")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({}, config=tmp_path / "host.toml")


def unknowns(value: object) -> int:
    """How many facts of a record's JSON are unknown: the slow way to count."""
    if isinstance(value, dict):
        return int(set(value) == {"unknown"}) + sum(map(unknowns, value.values()))
    return sum(map(unknowns, value)) if isinstance(value, list) else 0


def an_impact(kind: str) -> Impact:
    effect = Effect("acme/x@1.0.0", "onnx-fp32/cuda", kind, "why", "remedy")  # type: ignore[arg-type]
    return Impact((), (effect,), same_class=False)


@pytest.mark.parametrize("name", forged_hosts())
def test_every_unknown_fact_is_a_gap_with_its_place_and_how_to_learn_it(name: str) -> None:
    facts = forged_host(name)

    found = list(gaps_of(facts))

    assert len(found) == unknowns(facts.model_dump(mode="json"))
    assert all(gap.why and gap.learn for gap in found)


def test_gap_within_a_gpu_a_runtime_or_a_nuke_says_which() -> None:
    facts = forged_host("two-unlike-gpus")
    assert isinstance(facts.gpus, tuple)
    assert isinstance(facts.runtimes, tuple)
    gpus = (facts.gpus[0], facts.gpus[1].model_copy(update={"display": UNKNOWN}))
    runtimes = (facts.runtimes[0].model_copy(update={"cudnn": UNKNOWN}), *facts.runtimes[1:])

    found = gaps_of(facts.model_copy(update={"gpus": gpus, "runtimes": runtimes}))

    assert {gap.fact for gap in found} == {"gpus[1].display", "runtimes[0].cudnn"}


def test_each_setting_has_its_origin(tmp_path: Path) -> None:
    config = tmp_path / "host.toml"
    config.write_text(
        'schema = "changeover.host/1"\nstore = "/store"\nnuke_gpu = "GPU-1"\n[runtimes]\nrun = "/run/python"\n'
        '[keys]\nverdict = "/keys/v.pem"\n[[nukes]]\nversion = "15.1v3"\n',
        encoding="utf-8",
    )

    found = load_settings({"CHANGEOVER_SITE": "/site"}, config=config, station="vm1")

    origins = {setting.name: (setting.value, setting.origin) for setting in settings_of(found)}
    assert origins["host.toml"] == (str(config), "read")
    assert origins["site"] == ("/site", "CHANGEOVER_SITE")
    assert origins["store"] == ("/store", str(config))
    assert origins["station"] == ("vm1", "flag")
    assert origins["nuke_gpu"] == ("GPU-1", str(config))
    assert origins["runtimes.run"] == ("/run/python", str(config))
    assert origins["keys.verdict"] == ("/keys/v.pem", str(config))
    assert origins["nukes"] == ("15.1v3", str(config))


def test_setting_that_nothing_names_says_so_and_a_file_that_is_not_there_too(settings: Settings) -> None:
    origins = {setting.name: (setting.value, setting.origin) for setting in settings_of(settings)}

    assert origins["host.toml"][1] == "not there"
    assert origins["site"] == ("none", "named nowhere")
    assert origins["station"][1] == "host"
    assert origins["runtimes"] == ("none", "named nowhere")


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("rtx-a4000-16gib", 0),
        ("rtx-5090-compiled-32gib", 0),
        ("no-gpu", 0),
        ("old-driver-16gib", 3),
        ("unknown-gpus", 4),
    ],
)
def test_exit_code_says_whether_a_runtime_here_runs(settings: Settings, host: str, code: int) -> None:
    assert diagnose(settings, forged_host(host)).exit_code == code


def test_driver_that_is_not_known_is_undecided_and_not_refused(settings: Settings) -> None:
    facts = forged_host("rtx-a4000-16gib").model_copy(update={"driver": UNKNOWN})

    assert diagnose(settings, facts).exit_code == 4


@pytest.mark.parametrize(("kind", "code"), [("breaks", 3), ("unknown", 4), ("reopens", 0), ("mends", 0)])
def test_planned_change_that_breaks_is_refused_and_one_that_re_opens_is_told(
    settings: Settings, kind: str, code: int
) -> None:
    assert diagnose(settings, forged_host("rtx-a4000-16gib"), planned=an_impact(kind)).exit_code == code


def test_site_that_cannot_be_read_has_its_own_code_unless_something_breaks(settings: Settings) -> None:
    about = {"where": "site", "expected": "a", "actual": "b", "remedy": "c"}
    troubles = (TrustError("choice", **about), UnreachableError("vendor", **about))
    facts = forged_host("rtx-a4000-16gib")

    assert diagnose(settings, facts, troubles=troubles).exit_code == 6
    assert diagnose(settings, facts, troubles=troubles, planned=an_impact("breaks")).exit_code == 3


def test_installed_runtime_is_named_with_its_set_and_what_speaks_against_it(settings: Settings) -> None:
    found = diagnose(settings, forged_host("old-driver-16gib"))

    (only,) = found.installed
    assert (only.set_name, only.runs) == ("cuda13", False)
    assert [problem.reason.value for problem in only.problems] == ["driver-too-old"]
    assert found.advice.name == "cuda12"


def test_runtime_without_cuda_is_not_held_to_its_rules(settings: Settings) -> None:
    facts: HostFacts = forged_host("no-gpu")

    (only,) = diagnose(settings, facts).installed

    assert only.problems == ()
