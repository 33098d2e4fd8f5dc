"""The command ``measure``: a release of the site, a file, and what cannot be measured."""

import json
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.mlflow_adapter.registry import Registry
from changeover_updater.memory import measurements
from changeover_validators.runtimes.sandbox import available

pytestmark = pytest.mark.skipif(available().name is None, reason="no isolation on this machine")
PLATE = ("--plate", "256x144", "--runs", "1")


def test_a_release_is_measured_kept_and_told_to_mlflow_beside_its_prediction(world: Any) -> None:
    world.publish("1.0.0")

    code, out, err = world.run("measure", "tiny-roto@1.0.0", *PLATE, "--json")

    assert code == 0, out + err
    told = json.loads(out)
    (kept,) = measurements(world.site, "acme/tiny-roto")
    assert told["kept"] == str(next((world.site.root / "memory" / "acme" / "tiny-roto").iterdir()))
    assert told["steady"] == kept.steady.model_dump()
    assert (told["key"]["width"], told["key"]["height"], told["key"]["provider"]) == (256, 144, "cpu")
    assert kept.predicted is not None
    assert (told["alarm"], told["error"]) == (False, kept.error)
    registry = Registry(world.site.mlflow_uri(), world.site.root / "mlflow" / "artifacts")
    with registry._session() as client:
        experiment = client.get_experiment_by_name("changeover.acme.tiny-roto")
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id], f"tags.`changeover.memory` = '{kept.digest()}'")
    assert run.data.metrics["memory/measured/steady_arena_bytes"] == kept.steady.arena_bytes
    assert run.data.metrics["memory/predicted/range_high_bytes"] == kept.predicted.range.high_bytes


def test_measuring_again_takes_the_older_measurements_place(world: Any) -> None:
    world.without_mlflow()
    world.publish("1.0.0")
    for _ in range(2):
        code, out, err = world.run("measure", "tiny-roto@1.0.0", *PLATE, "--own-settings")
        assert code == 0, out + err
    assert "MLflow was not told" in err
    assert len(measurements(world.site, "acme/tiny-roto")) == 1


def test_a_file_is_measured_without_a_site_and_kept_nowhere(world: Any, tmp_path: Path, release_folders: Path) -> None:
    code, out, err = world.run("measure", str(release_folders / "1.0.0" / "onnx-fp32" / "model.onnx"), *PLATE)

    assert code == 0, out + err
    assert "predicted: " in out
    assert "kept: " not in out
    assert not (world.site.root / "memory").exists()


def test_a_variant_that_only_nuke_runs_is_a_wrong_wish(make_world: Any) -> None:
    world = make_world(executable=True, nuke="15.1v3")
    world.publish("cat")
    code, _, err = world.run("measure", "edge-roto@1.0.0", *PLATE)
    assert code == 2
    assert "a variant that runs outside Nuke" in err


@pytest.mark.parametrize(
    ("wish", "said"), [(("--tile", "777"), "a tile of onnx-fp32"), (("--variant", "onnx-fp16"), "of onnx-fp32")]
)
def test_what_the_release_does_not_have_is_a_wrong_wish(world: Any, wish: tuple[str, ...], said: str) -> None:
    world.publish("1.0.0")
    code, _, err = world.run("measure", "tiny-roto@1.0.0", *PLATE, *wish)
    assert code == 2
    assert said in err


def test_a_gpu_that_is_asked_for_and_not_there_could_not_be_measured(world: Any) -> None:
    """It ends with 8, and never with the figures of a run on the CPU."""
    world.publish("1.0.0")
    code, out, err = world.run("measure", "tiny-roto@1.0.0", *PLATE, "--provider", "cuda")
    assert code in {4, 8}
    assert out == ""
    assert "CUDAExecutionProvider" in err or "cuda" in err
    assert measurements(world.site, "acme/tiny-roto") == ()
