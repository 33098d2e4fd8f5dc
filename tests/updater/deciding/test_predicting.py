"""Who predicts, with which interpreter: by the names of installed packages, without starting any of them."""

from pathlib import Path
from typing import Any

import pytest

from changeover_registry.errors import UndecidedError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import RuntimeFacts
from changeover_registry.records.memory import Calibration
from changeover_registry.records.policy import Policy
from changeover_updater.predicting import Builder, Made, Predictors, builders_in, builders_of, nearest
from changeover_validators.probe import forged_host
from changeover_validators.vram.onnx_predictor import OnnxPredictor
from changeover_validators.vram.predictor import Target
from changeover_validators.vram.torch_predictor import TorchPredictor

OLD = Builder("onnxruntime", "1.20.1", "/old")
LINE = Builder("onnxruntime", "1.26.1", "/line")
NEW = Builder("onnxruntime", "1.31.1", "/new")
TORCH = Builder("torch", "2.1.1+cpu", "/torch")


@pytest.mark.parametrize(
    ("version", "found"), [("1.20.1", "/old"), ("1.26.0", "/line"), ("1.23.0", "/new"), ("nonsense", "/new")]
)
def test_interpreter_of_the_same_version_is_nearest_then_of_the_same_line_then_the_newest(
    version: str, found: str
) -> None:
    for order in ((OLD, LINE, NEW, TORCH), (TORCH, NEW, LINE, OLD)):
        assert nearest(order, "onnxruntime", version) == found


def test_local_part_of_a_version_does_not_make_it_another_and_none_is_none() -> None:
    other = Builder("torch", "2.7.1", "/other")

    assert nearest((other, TORCH), "torch", "2.1.1+cu121") == "/torch"
    assert nearest((OLD,), "torch", "2.1.1") is None


def test_builders_are_read_off_the_folder_of_packages(tmp_path: Path) -> None:
    packages = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    for name in ("onnxruntime_gpu-1.31.1", "torch-2.13.0+cpu", "torchvision-0.1", "onnx-1.23.2"):
        (packages / f"{name}.dist-info").mkdir(parents=True)
    python = str(tmp_path / "env" / "bin" / "python")

    assert builders_in((python, python, "/nowhere/bin/python")) == (
        Builder("onnxruntime", "1.31.1", python),
        Builder("torch", "2.13.0+cpu", python),
    )


def test_builders_of_this_machine_are_its_probed_runtimes(build: Any) -> None:
    assert builders_of(build.facts()) == (Builder("onnxruntime", "1.23.2", "/python"),)
    unknown = build.facts(runtimes=Unknown(unknown="the probe was killed"))
    assert builders_of(unknown) == ()


def predictors(host: str, **changes: Any) -> Predictors:
    return Predictors(
        forged_host(host), Policy(), (NEW, TORCH), lambda _, variant: Path("/models") / variant.id, **changes
    )


def test_target_is_the_hosts_runtime_card_and_driver_built_by_the_nearest_interpreter(build: Any) -> None:
    release = build.release()

    target = predictors("rtx-a4000-16gib").target(release.variants[0], "cuda")

    assert (target.runtime, target.version, target.provider) == ("onnxruntime", "1.26.0", "cuda")
    assert (target.gpu, target.driver) == ("NVIDIA RTX A4000", "570.133.07")
    assert (target.interpreter, target.context_bytes) == ("/new", 400 << 20)


def test_target_on_the_cpu_has_no_card_and_no_context_of_the_policy(build: Any) -> None:
    target = predictors("no-gpu").target(build.release().variants[0], "cpu")

    assert (target.gpu, target.driver, target.context_bytes) == (None, None, 0)


def test_host_without_a_runtime_for_a_variant_is_undecided(build: Any) -> None:
    facts = forged_host("rtx-a4000-16gib").model_copy(update={"runtimes": ()})
    without = Predictors(facts, Policy(), (), lambda _, __: Path())

    with pytest.raises(UndecidedError, match="a runtime of that host"):
        without.of(build.release(), build.release().variants[0], "cuda")


def cats(build: Any) -> Any:
    twin = build.variant(id="torchscript-fp32", runtime="torchscript", loaders=("python",), entry="model.pt")
    return build.release(variants=(build.cat(derived_from="torchscript-fp32"), twin))


def test_cat_is_answered_by_its_twin_in_the_torch_that_nuke_embeds(build: Any) -> None:
    release = cats(build)
    asked = predictors("rtx-a4000-16gib")

    found = asked.of(release, release.variants[0], "cuda")

    assert isinstance(found, TorchPredictor)
    (key,) = asked.made.predictors
    assert key[1:] == ("torchscript-fp32", "torch 2.1.1 cuda ")


def test_cat_without_a_twin_is_undecided(build: Any) -> None:
    release = build.release(variants=(build.cat(),))

    with pytest.raises(UndecidedError, match="twin"):
        predictors("rtx-a4000-16gib").of(release, release.variants[0], "cuda")


def test_predictor_is_made_once_and_shared_by_hosts_whose_cards_were_not_calibrated(build: Any) -> None:
    release, made = build.release(), Made()
    variant = release.variants[0]
    first = predictors("rtx-a4000-16gib", made=made).of(release, variant, "cuda")

    assert isinstance(first, OnnxPredictor)
    assert predictors("quadro-p4000-8gib", made=made).of(release, variant, "cuda") is first
    assert predictors("rtx-4090-24gib", made=made).of(release, variant, "cuda") is not first


def test_calibrated_card_has_a_predictor_of_its_own(build: Any) -> None:
    release, made = build.release(), Made()

    def measured(target: Target) -> Calibration | None:
        return Calibration(
            gpu=str(target.gpu),
            compute_capability="8.6",
            driver=str(target.driver),
            runtime="onnxruntime",
            version=target.version,
            made_at="2026-11-22T12:00:00Z",
            context_bytes=300 << 20,
            libraries_bytes=0,
            source="test",
        )

    found = [
        predictors(host, made=made, calibration=measured).of(release, release.variants[0], "cuda")
        for host in ("rtx-a4000-16gib", "quadro-p4000-8gib", "rtx-a4000-16gib")
    ]

    assert found[0] is found[2]
    assert found[0] is not found[1]


def test_runtime_of_another_name_is_not_asked_of_torch() -> None:
    facts = RuntimeFacts(name="torch", version="2.1.1", interpreter="/t", providers=("cuda",))

    assert nearest((Builder(facts.name, facts.version, facts.interpreter),), "onnxruntime", "1.26.0") is None
