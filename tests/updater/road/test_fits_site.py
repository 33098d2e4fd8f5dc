"""fits and fleet about releases of the site, and about a vendor's release folder."""

import json
from typing import Any

from changeover_registry.records.findings import NotRun, Passed
from changeover_updater.bench import Bench, Watch
from changeover_updater.points import points_of
from changeover_updater.studio import read_studio
from changeover_validators.probe import forged_host


def asked(world: Any, *arguments: str) -> tuple[int, Any]:
    code, out, err = world.run(*arguments, "--json")
    return code, json.loads(out) if out.startswith("{") else err


def test_release_of_the_site_is_found_as_check_finds_it_and_asked_under_its_policy(world: Any) -> None:
    release = world.publish("1.0.0")

    code, found = asked(world, "fits", "tiny-roto@1.0.0", "--host", "rtx-a4000-16gib")
    unknown, why = asked(world, "fits", "tiny-roto@9.9.9", "--host", "rtx-a4000-16gib")

    assert (code, found["model"]) == (0, f"{release.model}@1.0.0")
    assert found["chosen"] == "onnx-fp32/none/cuda"
    assert found["plate"] == [4096, 2160]
    assert unknown == 2
    assert "1.0.0" in why


def test_release_in_use_counts_beside_the_one_that_is_asked_about(world: Any) -> None:
    first = world.served("1.0.0")
    world.publish("1.1.0")

    alone = asked(world, "fits", "tiny-roto@1.0.0", "--provider", "cpu", "--host", "no-gpu")[1]["need"]
    beside = asked(world, "fits", "tiny-roto@1.1.0", "--provider", "cpu", "--host", "no-gpu")[1]["need"]

    assert first.version == "1.0.0"
    assert alone["changeover_bytes"] is None
    # The verdict of the release in use says 128 MiB, less than the new one takes: the last node's move is the worst.
    assert beside["changeover_bytes"] == beside["alone_bytes"] + 2**27
    assert beside["bytes"] == beside["changeover_bytes"]


def test_release_in_use_without_a_verdict_of_that_provider_is_predicted_and_counted(world: Any) -> None:
    first = world.served("1.0.0")
    second = world.publish("1.1.0")

    # The verdict of 1.0.0 is of the CPU, and the question is about a GPU.
    code, found = asked(world, "fits", "tiny-roto@1.1.0", "--gpu", "RTX A4000")

    need, parts = found["need"], {part["name"]: part["bytes"] for part in found["parts"]}
    assert (code, found["changeover_note"]) == (0, None)
    # Both releases are one net, so the worst moment holds one instance more.
    assert need["changeover_bytes"] == need["alone_bytes"] + found["total_bytes"] - parts["context"]
    assert need["bytes"] == need["changeover_bytes"]

    studio = read_studio(world.site, world.station)
    bench = Bench(world.site, world.station, studio, world.facts, Watch.silent())
    reports = points_of(bench, second, forged_host("rtx-a4000-16gib"), first)
    details = [finding.detail for report in reports for finding in report.findings if isinstance(finding, Passed)]
    assert details
    assert all("2 instances and the release in use" in detail for detail in details)


def test_release_folder_is_asked_about_before_it_is_published(world: Any) -> None:
    code, found = asked(world, "fits", str(world.folders / "1.0.0"), "--host", "rtx-a4000-16gib", "--plate", "512x512")

    assert (code, found["chosen"], found["plate"]) == (0, "onnx-fp32/none/cuda", [512, 512])


def test_fleet_without_names_shows_what_the_channels_point_at(world: Any) -> None:
    world.served("1.0.0")

    code, found = asked(world, "fleet", "--host", "rtx-a4000-16gib", "--host", "unknown-gpus")

    assert code == 0
    assert found["releases"] == ["acme/tiny-roto@1.0.0"]
    assert [row["cells"][0]["answer"] for row in found["classes"]] == ["fits", "unknown"]


def test_every_point_of_a_check_keeps_its_curve_and_its_answer(world: Any) -> None:
    release = world.publish("1.0.0")
    studio = read_studio(world.site, world.station)
    bench = Bench(world.site, world.station, studio, world.facts, Watch.silent())
    bench.install(release, release.variants)
    facts = forged_host("rtx-a4000-16gib")

    reports = tuple(points_of(bench, release, facts))

    assert [len(report.memory) for report in reports] == [4, 4]
    assert all(report.memory_answer is not None for report in reports)
    assert not any(isinstance(finding, NotRun) for report in reports for finding in report.findings)
