"""``check``: real models on real frames, each way in which a verdict may end, and what is left behind."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import OpenEXR
import pytest
from onnx import TensorProto, helper

from changeover_registry import signing
from changeover_registry.records.policy import Policy, VramPolicy
from changeover_registry.records.verdict import Verdict
from changeover_validators.checks.budget import Budget, budget
from changeover_validators.probe import forged_host
from changeover_validators.runtimes.sandbox import available

pytestmark = pytest.mark.skipif(available().name is None, reason="nothing isolates a child on this machine")


def judged(world: Any, *arguments: str) -> tuple[int, Any]:
    """Run ``check`` and return its exit code and its answer."""
    code, out, err = world.run("check", *arguments, "--json")
    assert out, f"{arguments}: exit {code}: {err}"
    return code, json.loads(out)


@pytest.fixture(scope="module")
def studio(module_golden_set: Any) -> Any:
    """A studio that checked 1.0.0 with its MLflow, serves it, and checked 1.1.0 and 1.2.0 against it."""
    world = module_golden_set
    world.publish("1.0.0")
    first = judged(world, "tiny-roto@1.0.0", "--set", "hero")
    world.ok("promote", "tiny-roto@1.0.0", "--reason", "the first")
    world.ok("update")
    world.without_mlflow()
    world.publish("1.1.0")
    world.publish("1.2.0")
    return SimpleNamespace(
        world=world,
        first=first,
        better=judged(world, "tiny-roto@1.1.0", "--set", "hero"),
        worse=judged(world, "tiny-roto@1.2.0", "--set", "hero", "--full"),
        in_use=world.station.in_use(),
    )


@pytest.fixture
def world(studio: Any) -> Iterator[Any]:
    """The studio's world; whatever a check finds, nothing is changed over to."""
    before = (studio.world.station.in_use(), choices(studio.world))
    yield studio.world
    assert (studio.world.station.in_use(), choices(studio.world)) == before


def choices(world: Any) -> list[str]:
    return sorted(path.name for path in (world.site.choice / "metadata").iterdir())


def test_first_release_is_accepted_by_floors_alone_and_promoted(studio: Any) -> None:
    code, verdict = studio.first

    assert code == 0
    assert verdict["decision"] == "accept"
    assert "current" not in verdict
    assert verdict["channel"] == "stable"
    speed = next(f for f in verdict["points"][0]["findings"] if f["check"] == "speed")
    assert (speed["outcome"], speed["rule"]) == ("not-applicable", "no-baseline")
    assert studio.in_use.channels[0].key == str_of(verdict["candidate"])


def test_verdict_is_filed_signed_and_mlflow_has_a_copy_with_a_metric_for_each_shot(studio: Any) -> None:
    from mlflow import MlflowClient

    world, (_, answer) = studio.world, studio.first
    envelope = (world.site.verdicts / f"{answer['verdict']}.json").read_bytes()
    key = signing.verdict_key(signing.load_signer(world.root / "keys" / "online" / "verdict.pem"), "td@vm1")

    payload, signer = signing.open_envelope(envelope, "verdict", [key], where="test")
    verdict = Verdict.from_bytes(payload, where="test")
    client = MlflowClient(f"sqlite:///{world.site.root / 'mlflow' / 'mlflow.db'}")
    runs = [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]
    golden = [name for name in runs[0].data.metrics if "/jaccard.davis2017/sh" in name]

    assert signer.owner == "td@vm1"
    assert verdict.decision == "accept"
    assert {score.shot for score in verdict.points[0].scores} == {f"sh{n}" for n in range(6)}
    assert len(runs) == 1
    assert len(golden) == 6, sorted(runs[0].data.metrics)


def test_sharper_release_is_accepted_against_the_one_in_use(studio: Any) -> None:
    code, verdict = studio.better

    assert code == 0
    assert str_of(verdict["current"]) == studio.in_use.channels[0].key
    metrics = {m["metric"]: m for m in verdict["points"][0]["metrics"]}
    assert float(metrics["mad:rvm"]["lower"]) > 0
    assert all(s["current"] for s in verdict["points"][0]["scores"])


def test_blind_release_is_rejected_with_3_and_the_reason_names_a_shot(studio: Any) -> None:
    code, verdict = studio.worse

    assert code == 3
    assert verdict["decision"] == "reject"
    assert re.search(r"found shot-\d: (Jaccard|boundary F) 0\.0000", verdict["reason"]), verdict["reason"]


def test_what_was_accepted_and_promoted_is_the_bar_for_what_comes_after(studio: Any) -> None:
    broken = [f for f in studio.worse[1]["points"][0]["findings"] if f.get("rule") == "ratchet"]

    assert broken, "1.0.0 was accepted on these shots and promoted"
    assert all("1.0.0" in finding["actual"] for finding in broken if "Jaccard" in finding["expected"])


def test_rejected_release_cannot_be_promoted_and_the_line_says_why(world: Any) -> None:
    code, _, err = world.run("promote", "tiny-roto@1.2.0", "--reason", "test")

    assert code == 3
    assert err.count("\n") == 1
    assert "reject" in err
    assert "golden" in err


def test_no_golden_set_named_is_undecided_with_4_and_names_the_flag(world: Any) -> None:
    code, verdict = judged(world, "tiny-roto@1.1.0")

    assert code == 4
    assert "no golden set is named" in verdict["reason"]
    assert any("--set" in f.get("remedy", "") for f in verdict["points"][0]["findings"])


def test_too_few_shots_are_inconclusive_with_4(world: Any) -> None:
    world.ok("golden", "set", "create", "few")
    for shot in ("sh0", "sh1"):
        folder = world.root / "shots" / shot
        world.ok(
            *("golden", "add", "few", shot, "--plate", str(folder / "plate.####.exr")),
            *("--matte", str(folder / "matte.####.exr"), "--channel", "A", "--colour", "scene-linear"),
            *("--approved-by", "Jane Doe"),
        )

    code, verdict = judged(world, "tiny-roto@1.1.0", "--set", "few")

    assert code == 4
    assert "golden: too few shots: 2 of 5" in verdict["reason"]


def test_set_that_is_not_there_is_2_and_leaves_no_verdict(world: Any) -> None:
    before = sorted(world.site.verdicts.iterdir())

    code, out, err = world.run("check", "tiny-roto@1.1.0", "--set", "nowhere")

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "hero" in err
    assert sorted(world.site.verdicts.iterdir()) == before


@pytest.mark.parametrize("kind", ["truncated", "changed", "gone"])
def test_golden_frame_that_is_not_what_was_approved_is_an_error_with_8(world: Any, kind: str) -> None:
    frame = world.site.golden / "hero" / "sh3" / "1" / "matte" / "matte.1002.exr"

    with spoilt(frame, kind), without_scores(world):
        code, verdict = judged(world, "tiny-roto@1.1.0", "--set", "hero")

    assert code == 8
    assert verdict["decision"] == "error"
    assert "sh3" in verdict["reason"]
    assert "1002" in verdict["reason"]


@contextmanager
def without_scores(world: Any) -> Iterator[None]:
    """Have nothing be scored yet for the length of a block."""
    aside = world.site.scores.with_name("scores-aside")
    world.site.scores.rename(aside)
    try:
        yield
    finally:
        shutil.rmtree(world.site.scores)
        aside.rename(world.site.scores)


@contextmanager
def spoilt(frame: Path, kind: str) -> Iterator[None]:
    """Spoil a file of a golden shot for the length of a block."""
    data, folder = frame.read_bytes(), frame.parent
    folder.chmod(0o755)
    frame.unlink()
    try:
        if kind == "truncated":
            frame.write_bytes(data[: len(data) // 2])
        if kind == "changed":
            OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION}, {"A": np.ones((96, 128), np.float16)}).write(
                str(frame)
            )
        yield
    finally:
        frame.write_bytes(data)


@pytest.mark.parametrize(
    ("host", "code", "words"),
    [
        ("old-driver-16gib", 3, ("refused", "535.216.01")),
        ("no-gpu", 4, ("passed", "served on the CPU")),
        ("unknown-gpus", 4, ("not-run", "the GPUs of this host are unknown")),
    ],
)
def test_facts_of_another_host_decide_checks_1_to_6(world: Any, host: str, code: int, words: tuple[str, ...]) -> None:
    found, verdict = judged(world, "tiny-roto@1.1.0", "--host", host)

    hardware = [finding for finding in verdict["findings"] if finding["check"] == "hardware"]
    assert found == code, verdict["reason"]
    assert all(word in json.dumps(hardware) for word in words)
    assert verdict["host"] == "vm1"


def test_facts_of_another_host_may_come_from_a_file(world: Any, tmp_path: Path) -> None:
    facts = tmp_path / "facts.json"
    facts.write_bytes(world.facts.model_copy(update={"ram_mib": 4}).to_bytes())

    code, verdict = judged(world, "tiny-roto@1.1.0", "--host", str(facts))

    assert code == 3
    assert "RAM budget" in verdict["reason"]


@pytest.mark.parametrize("content", [None, "not facts", "[]", '{"schema": "changeover.facts/1"}', '{"schema": "x"}'])
def test_host_that_is_neither_a_file_nor_a_shipped_name_is_2(world: Any, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "facts.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")

    code, out, err = world.run("check", "tiny-roto@1.1.0", "--host", str(path))

    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert str(path) in err


def test_eight_gib_card_gets_the_tile_that_fits_and_a_smaller_budget_is_refused_with_the_largest(
    make_world: Callable[..., Any],
) -> None:
    world = make_world()
    world.without_mlflow()
    world.publish("1.0.0")

    whole, tile = _needed(judged(world, "tiny-roto@1.0.0", "--host", "rtx-2070-8gib")[1])
    without_nuke = Policy(vram=VramPolicy(nuke_baseline_mib=0))
    found = budget(forged_host("rtx-2070-8gib"), without_nuke, "cuda")
    assert isinstance(found, Budget)
    left = found.allowed_bytes // 2**20
    assert whole > tile + 2
    few = _with_baseline(world, left - tile - 1)
    none = _with_baseline(world, left - tile + 1)

    fitting = {str_of_point(p["point"]): outcomes(p, "vram") for p in few[1]["points"]}
    assert fitting["onnx-fp32/0+0/cuda"] == ["refused"]
    assert fitting["onnx-fp32/1024+64/cuda"] == ["passed"]
    assert none[0] == 3
    assert "VRAM budget" in none[1]["reason"]
    assert "the largest operating point that fits is" in none[1]["reason"]


def _needed(verdict: Any) -> tuple[int, int]:
    """MiB that two instances take at the whole frame and at the tile, the context once."""
    answers = [point["memory_answer"] for point in verdict["points"] if point["point"]["provider"] == "cuda"]
    context = [sum(p["bytes"] for p in answer["parts"] if p["name"] == "context") for answer in answers]
    need = [shared + 2 * (answer["total_bytes"] - shared) for answer, shared in zip(answers, context, strict=True)]
    return -(-need[0] // 2**20), -(-need[1] // 2**20)


def _with_baseline(world: Any, mib: int) -> tuple[int, Any]:
    """Check on a card of 8 GiB under a policy that keeps `mib` of it for Nuke."""
    path = world.site.root / "policy.toml"
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [f"nuke_baseline_mib = {mib}" if line.startswith("nuke_baseline") else line for line in lines]
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")
    world.ok("promote", "--policy", "--reason", "a heavy script")
    return judged(world, "tiny-roto@1.0.0", "--host", "rtx-2070-8gib")


def test_older_gpu_than_the_release_needs_is_refused_with_both_numbers(world: Any, tmp_path: Path) -> None:
    variant_of(world, tmp_path, "2.0.0", requires='compute_capability = "8.0"')

    code, verdict = judged(world, "tiny-roto@2.0.0", "--host", "quadro-p4000-8gib")

    assert code == 3
    assert "8.0" in verdict["reason"]
    assert "6.1" in verdict["reason"]


def test_licence_that_the_policy_does_not_list_is_refused_before_anything_runs(world: Any, tmp_path: Path) -> None:
    variant_of(world, tmp_path, "2.1.0", licence="CC-BY-NC-4.0")

    code, verdict = judged(world, "tiny-roto@2.1.0", "--set", "hero")

    assert code == 3
    assert "CC-BY-NC-4.0" in verdict["reason"]
    assert verdict["points"] == []


def test_model_that_answers_nan_is_an_error_with_8(world: Any, tmp_path: Path) -> None:
    variant_of(world, tmp_path, "2.2.0", model=model_of("NaN"))

    code, verdict = judged(world, "tiny-roto@2.2.0", "--set", "hero")

    assert code == 8
    assert "finite" in verdict["reason"]


def test_model_that_fails_while_it_runs_is_an_error_with_8(world: Any, tmp_path: Path) -> None:
    variant_of(world, tmp_path, "2.3.0", model=model_of("fails"))

    code, verdict = judged(world, "tiny-roto@2.3.0", "--set", "hero")

    assert code == 8
    assert "onnx-fp32" in verdict["reason"]


def test_shown_to_a_person_a_verdict_starts_with_its_decision_and_has_no_colour_codes(studio: Any) -> None:
    out = studio.world.ok("verdict", "show", studio.worse[1]["verdict"][:16])

    assert out.startswith("reject acme/tiny-roto@1.2.0")
    assert "\x1b" not in out
    assert re.search(r"shot-1 \(sh\d\)", out)
    assert "shot shot-" not in out
    assert "golden: worst shot: 9 more; --json tells all" in out
    assert out.count("worst shot") == 5


def test_report_of_a_reject_begins_with_the_sign_of_a_reject(studio: Any, tmp_path: Path) -> None:
    out = studio.world.ok("report", studio.worse[1]["verdict"][:16], "--out", str(tmp_path / "page.html"))

    assert out.startswith("✗ reject acme/tiny-roto@1.2.0")


def test_accept_ends_with_the_line_that_promotes_it_on_the_channel_that_was_checked(studio: Any) -> None:
    out = studio.world.ok("check", "tiny-roto@1.1.0", "--set", "hero", "--channel", "beta")

    assert out.endswith('next: changeover promote acme/tiny-roto@1.1.0 --channel beta --reason "..."\n')
    assert "positive is better" in out


def test_verdicts_are_listed_newest_first(studio: Any) -> None:
    listed = json.loads(studio.world.ok("verdict", "list", "tiny-roto@1.2.0", "--json"))

    assert [v["verdict"] for v in listed] == [studio.worse[1]["verdict"]]
    assert listed[0]["signer"] == "td@vm1"


def test_verdict_on_a_shot_that_lacks_a_thousand_frames_can_be_read_again(world: Any, tmp_path: Path) -> None:
    shots = world.root / "shots" / "sh0"
    for number, source in ((1001, 1001), (2900, 1002)):
        for kind in ("plate", "matte"):
            shutil.copy(shots / f"{kind}.{source}.exr", tmp_path / f"{kind}.{number}.exr")
    world.ok("golden", "set", "create", "gaps")
    world.ok(
        *("golden", "add", "gaps", "g1", "--plate", str(tmp_path / "plate.####.exr"), "--allow-missing"),
        *("--matte", str(tmp_path / "matte.####.exr"), "--channel", "A", "--colour", "scene-linear"),
        *("--approved-by", "Jane Doe"),
    )

    code, verdict = judged(world, "tiny-roto@1.1.0", "--set", "gaps")

    assert code == 4
    assert "1010, 1011 and 1888 more are missing" in verdict["points"][0]["warnings"][0]
    assert "gaps" in world.ok("report", "--json")


def str_of(ref: Any) -> str:
    return f"{ref['model']}@{ref['version']}-{ref['digest'][:12]}"


def str_of_point(point: Any) -> str:
    return f"{point['variant']}/{point['tile']['size']}+{point['tile']['overlap']}/{point['provider']}"


def outcomes(report: Any, check: str) -> list[str]:
    return [finding["outcome"] for finding in report["findings"] if finding["check"] == check]


def variant_of(
    world: Any,
    folder: Path,
    number: str,
    *,
    licence: str = "CC-BY-4.0",
    requires: str = "",
    model: onnx.ModelProto | None = None,
) -> None:
    """Publish 1.0.0 again under another number, with one thing changed."""
    shutil.copytree(world.folders / "1.0.0", folder / number)
    path = folder / number / "release.toml"
    text = path.read_text(encoding="utf-8").replace("1.0.0", number).replace('"CC-BY-4.0"', f'"{licence}"')
    path.write_text(text + (f"[variants.requires]\n{requires}\n" if requires else ""), encoding="utf-8")
    if model is not None:
        onnx.save(model, folder / number / "onnx-fp32" / "model.onnx")
    kept, world.folders = world.folders, folder
    world.publish(number)
    world.folders = kept


def model_of(kind: str) -> onnx.ModelProto:
    """A net that answers the logarithm of a negative number, or one that asks for the 999th channel."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "H", "W"])
    matte = helper.make_tensor_value_info("matte", TensorProto.FLOAT, [1, 1, "H", "W"])
    mean = helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1], keepdims=1)
    if kind == "NaN":
        below = helper.make_tensor("below", TensorProto.FLOAT, [], [-9.0])
        nodes = [mean, helper.make_node("Add", ["mean", "below"], ["x"]), helper.make_node("Log", ["x"], ["matte"])]
        constants = [below]
    else:
        far = helper.make_tensor("far", TensorProto.INT64, [1], [999])
        zero = helper.make_tensor("zero", TensorProto.INT64, [1], [0])
        nodes = [
            mean,
            helper.make_node("Shape", ["mean"], ["shape"]),
            helper.make_node("ReduceMax", ["shape"], ["most"], axes=[0], keepdims=1),
            helper.make_node("Add", ["most", "far"], ["index"]),
            helper.make_node("Gather", ["mean", "index"], ["matte"], axis=1),
        ]
        constants = [far, zero][:1]
    graph = helper.make_graph(nodes, kind.lower(), [image], [matte], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model
