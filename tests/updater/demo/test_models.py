from pathlib import Path

import pytest

from changeover_registry.errors import TrustError
from changeover_updater.demo.models import FOLDER, read_model, read_note
from changeover_updater.demo.models.__main__ import main
from changeover_updater.demo.net import PLANS, parameters
from changeover_updater.demo.recipes import LIVE, RELEASES


@pytest.mark.parametrize("version", sorted(RELEASES))
def test_committed_model_is_small_and_made_by_the_recipe_of_its_release(version: str) -> None:
    recipe, note = RELEASES[version].recipe, read_note(version)

    assert note.size == len(read_model(version)) < 300_000
    assert (note.plan, note.seed, note.steps, note.pictures) == (
        recipe.plan,
        recipe.seed,
        recipe.steps,
        recipe.pictures,
    )
    assert (note.kinds, note.batch, note.crop) == (recipe.kinds, recipe.batch, recipe.crop)
    assert (note.learning_rate, note.storage) == (str(recipe.learning_rate), RELEASES[version].storage)
    assert note.parameters == parameters(PLANS[recipe.plan])


def test_folder_holds_nothing_but_models_of_releases() -> None:
    assert (
        {path.stem for path in FOLDER.glob("*.onnx")} == {path.stem for path in FOLDER.glob("*.json")} == set(RELEASES)
    )
    assert LIVE in RELEASES


def test_changed_model_is_refused_with_both_digests(tmp_path: Path) -> None:
    data = bytearray(read_model("1.1.0"))
    data[1000] ^= 1
    (tmp_path / "1.1.0.onnx").write_bytes(data)
    (tmp_path / "1.1.0.json").write_bytes((FOLDER / "1.1.0.json").read_bytes())

    with pytest.raises(TrustError, match="1.1.0.onnx") as caught:
        read_model("1.1.0", tmp_path)

    assert read_note("1.1.0").sha256 in caught.value.expected


def test_version_without_a_recipe_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["9.9.9"], tmp_path) == 2

    assert "9.9.9" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
