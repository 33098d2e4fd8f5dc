"""The studio's own model: from a real MLflow run by a draft to a published release that names what it descends from."""

import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from changeover_updater.own_vendor import home_of
from changeover_updater.release_folder import read_release
from changeover_updater.vendor_home import open_home

mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")

ANSWERS = {
    'summary = ""': 'summary = "hair, tuned on our plates"',
    'code = ""': 'code = "MIT"',
    'weights = ""': 'weights = "CC-BY-4.0"',
    'training_data = ""': 'training_data = "none"',
    'colour = ""': 'colour = "srgb"',
}


@pytest.fixture(scope="module")
def trained(module_world_at: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A studio that adopted ``studio/hair`` 0.1.0, and the MLflow of its own vendor, in which runs were logged."""
    world = module_world_at(tmp_path_factory.mktemp("studio"), nuke="15.1v3")
    world.without_mlflow()
    cat = world.root / "hair.cat"
    cat.write_bytes(b"what the studio had")
    world.ok("adopt", str(cat), "--reason", "it was there")
    world.registry = open_home(home_of(world.config, "studio")).registry()
    world.registry.versions("studio/none")
    return world


def home(world: Any) -> str:
    return str(home_of(world.config, "studio"))


def logged(world: Any, files: dict[str, Path], *, model: dict[str, Path] | None = None, end: str = "FINISHED") -> str:
    """Log a run as a training script does: files of the run itself, and of a model that it logged."""
    from mlflow.entities import LoggedModelOutput

    with world.registry._session() as client:
        run = client.create_run("0", run_name="Hair, tuned", tags={"mlflow.source.git.commit": "c0ffee"})
        for path, local in files.items():
            client.log_artifact(run.info.run_id, str(local), path or None)
        if model:
            made = client.create_logged_model("0", name="onnx-model", source_run_id=run.info.run_id)
            for path, local in model.items():
                client.log_model_artifact(made.model_id, str(local), path or None)
            client.log_outputs(run.info.run_id, models=[LoggedModelOutput(made.model_id, 0)])
        client.set_terminated(run.info.run_id, status=end)
        return str(run.info.run_id)


def onnx_of(world: Any) -> Path:
    return Path(world.folders, "1.0.0", "onnx-fp32", "model.onnx")


def draft(world: Any, run: str, folder: Path, *more: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(
        world.ok("vendor", "draft", str(folder), "--run", run, "--home", home(world), "--json", *more)
    )
    return made


def test_run_becomes_a_release_that_names_what_it_descends_from(trained: Any, tmp_path: Path) -> None:
    plot = tmp_path / "loss.png"
    plot.write_bytes(b"png")
    run = logged(trained, {"plots": plot}, model={"": onnx_of(trained)})
    folder = tmp_path / "release"

    made = draft(trained, run, folder, "--model", "hair")

    assert (made["variants"], made["left"]) == (["onnx-fp32"], ["plots/loss.png"])
    assert (folder / "onnx-fp32" / "model.onnx").read_bytes() == onnx_of(trained).read_bytes()
    toml = folder / "release.toml"
    body = tomllib.loads(toml.read_text())
    assert (body["provenance"]["mlflow_run"], body["provenance"]["source_revision"]) == (run, "c0ffee")
    code, _, line = trained.run("vendor", "smoke", str(folder))
    assert (code, "summary" in line) == (2, True)

    text = toml.read_text().replace("[provenance]", '[provenance]\nparent_release = "studio/hair@0.1.0"')
    for empty, filled in ANSWERS.items():
        text = text.replace(empty, filled)
    toml.write_text(text)
    trained.ok("vendor", "smoke", str(folder))
    out = trained.ok("vendor", "register", str(folder), "--home", home(trained))
    assert "it descends from studio/hair@0.1.0" in out
    trained.ok("vendor", "publish", "hair@1.0.0", "--home", home(trained))
    out = trained.ok("sync")
    assert "descends from studio/hair@0.1.0" in " ".join(out.split())


def test_parent_that_was_never_published_stops_the_release_and_nothing_is_registered(
    trained: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "release"
    shutil.copytree(Path(trained.folders, "1.0.0"), folder)
    text = (folder / "release.toml").read_text().replace("acme/tiny-roto", "studio/edge")
    (folder / "release.toml").write_text(f'{text}\n[provenance]\nparent_release = "studio/hair@0.9.0"\n')

    code, _, line = trained.run("vendor", "register", str(folder), "--home", home(trained))

    assert code == 2
    assert "provenance.parent_release" in line
    assert trained.registry.versions("studio/edge") == ()
    assert not (folder / "release.json").exists()


def test_model_files_of_the_run_itself_are_variants_and_one_may_be_named(trained: Any, tmp_path: Path) -> None:
    cat = tmp_path / "hair.cat"
    cat.write_bytes(b"opaque")
    run = logged(trained, {"export": onnx_of(trained), "nuke": cat})

    both = draft(trained, run, tmp_path / "both")
    one = draft(trained, run, tmp_path / "one", "--artifact", "export/model.onnx", "--model", "studio/beard")

    assert (both["variants"], both["model"]) == (["onnx-fp32", "nuke-cat"], "studio/hair-tuned")
    assert (one["variants"], one["left"], one["model"]) == (["onnx-fp32"], ["nuke/hair.cat"], "studio/beard")


def test_run_that_did_not_finish_is_said_to_have_not(trained: Any, tmp_path: Path) -> None:
    run = logged(trained, {"": onnx_of(trained)}, end="KILLED")

    _, _, line = trained.run("vendor", "draft", str(tmp_path / "d"), "--run", run, "--home", home(trained))

    assert "KILLED" in line


def test_what_cannot_be_a_release_is_refused_and_leaves_no_folder(trained: Any, tmp_path: Path) -> None:
    checkpoint = tmp_path / "weights.pt"
    checkpoint.write_bytes(__import__("pickle").dumps({"state": [1, 2]}, protocol=2))
    text = tmp_path / "notes.txt"
    text.write_text("no model")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    good = logged(trained, {"": onnx_of(trained)})

    def refused(run: str, folder: str, *more: str) -> tuple[int, str]:
        before = sorted(str(path) for path in tmp_path.rglob("*"))
        code, out, line = trained.run(
            "vendor", "draft", str(tmp_path / folder), "--run", run, "--home", home(trained), *more
        )
        assert (out, sorted(str(path) for path in tmp_path.rglob("*"))) == ("", before)
        return code, line

    assert refused(logged(trained, {"": checkpoint}), "d")[0] == 3
    assert refused(logged(trained, {"": text}), "d")[0] == 2
    assert refused("f" * 32, "d")[0] == 2
    assert "model.onnx" in refused(good, "d", "--artifact", "model.pt")[1]
    assert refused(good, "full")[0] == 2


def test_mlflow_that_is_not_there_is_one_clear_line(trained: Any, tmp_path: Path) -> None:
    code, _, line = trained.run(
        *("vendor", "draft", str(tmp_path / "d"), "--run", "a" * 32, "--home", home(trained)),
        *("--mlflow", "http://127.0.0.1:9"),
    )

    assert (code, line.count("\n")) == (6, 1)


def test_draft_is_read_as_the_release_it_becomes(trained: Any, tmp_path: Path) -> None:
    run = logged(trained, {"m": onnx_of(trained)})
    draft(trained, run, tmp_path / "d")
    toml = tmp_path / "d" / "release.toml"
    text = toml.read_text()
    for empty, filled in ANSWERS.items():
        text = text.replace(empty, filled)
    toml.write_text(text)

    release = read_release(tmp_path / "d")

    assert release.provenance.mlflow_run == run
