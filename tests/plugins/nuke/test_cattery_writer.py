import json
import stat
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.errors import InvalidInputError
from changeover_registry.records.station import Answer
from changeover_updater.writers.cattery import cattery_files


def _menu(cattery: Any, folder: Path, line: str) -> Any:
    major, minor = line.split(".")
    return cattery.menu([str(folder / "nuke" / line)], int(major), int(minor))


def test_every_release_of_the_line_is_in_nukes_menu_and_leads_to_the_one_copy_of_its_file(
    situation: Any, cattery: Any
) -> None:
    old, new = situation.release("acme/roto", "1.0.0"), situation.release("acme/roto", "1.1.0")

    folder = situation.put(situation.generation(1, old, new, stable=(new,)))

    entries = _menu(cattery, folder, "15.1")
    assert sorted(entries) == ["acme_roto_1_0_0", "acme_roto_1_1_0"]
    for release, name in ((old, "acme_roto_1_0_0"), (new, "acme_roto_1_1_0")):
        path = Path(entries[name][0])
        expected = situation.root / next(a.path for a in release.answers if a.path and a.path.endswith(".cat"))
        assert path.samefile(expected)
        assert path.resolve() == expected.resolve()
    assert len(list(situation.root.rglob("*.cat"))) == 2


def test_what_nuke_pastes_has_no_word_more_than_class_file_and_name(situation: Any, cattery: Any, plug: Any) -> None:
    release = situation.release("acme/person-roto", "1.0.0rc1")
    folder = situation.put(situation.generation(1, release, stable=(release,)))
    found = plug(situation.environ())

    for name, (path, text) in _menu(cattery, folder, "15.1").items():
        node = found.nuke.nodePaste(text)

        assert (node["modelFile"].value(), name) == (path, "acme_person_roto_1_0_0rc1")


def test_a_release_that_a_line_cannot_load_is_not_in_the_tree_of_that_line(situation: Any, cattery: Any) -> None:
    release = situation.release("acme/roto", "1.0.0", lines=("15.1", "16.0"))

    folder = situation.put(situation.generation(1, release, stable=(release,)))

    assert _menu(cattery, folder, "15.0") == {}
    assert len(_menu(cattery, folder, "15.1")) == 1
    assert (folder / "nuke" / "15.0" / "Cattery").is_dir()


def test_line_15_10_is_not_shut_out_by_the_float_that_it_is_compared_as(situation: Any, cattery: Any) -> None:
    release = situation.release("acme/roto", "1.0.0", lines=("15.10", "15.2"))

    folder = situation.put(situation.generation(1, release, nuke_lines=("15.10", "15.2"), stable=(release,)))

    assert len(_menu(cattery, folder, "15.10")) == 1
    assert len(_menu(cattery, folder, "15.2")) == 1


def test_the_oracle_does_not_see_a_package_behind_a_link_and_ours_is_a_real_folder(
    situation: Any, cattery: Any, tmp_path: Path
) -> None:
    release = situation.release("acme/roto", "1.0.0")
    folder = situation.put(situation.generation(1, release, stable=(release,)))
    (real,) = (folder / "nuke" / "15.1" / "Cattery").iterdir()
    linked = tmp_path / "linked" / "Cattery"
    linked.mkdir(parents=True)
    (linked / real.name).symlink_to(real)

    assert cattery.packages([str(tmp_path / "linked")], 15, 1) == []
    assert stat.S_ISDIR(real.lstat().st_mode)


def test_names_that_nuke_would_read_as_one_are_told_apart_by_the_digest(situation: Any, cattery: Any) -> None:
    first = situation.release("a-b/c", "1.0.0")
    second = situation.release("a/b-c", "1.0.0")

    folder = situation.put(situation.generation(1, first, second, stable=(first, second)))

    entries = _menu(cattery, folder, "15.1")
    assert sorted(entries) == sorted(f"a_b_c_1_0_0_{release.digest[:12]}" for release in (first, second))


def test_a_vendor_whose_name_starts_with_a_digit_gets_a_name_that_a_node_may_have(situation: Any, cattery: Any) -> None:
    release = situation.release("3d/roto", "1.0.0")

    folder = situation.put(situation.generation(1, release, stable=(release,)))

    assert list(_menu(cattery, folder, "15.1")) == ["_3d_roto_1_0_0"]


def test_the_minimum_is_a_number_and_the_digest_stands_in_the_description(situation: Any) -> None:
    release = situation.release("acme/roto", "1.0.0")

    files = cattery_files(situation.generation(1, release, stable=(release,)))

    bodies = [json.loads(content) for content in files.values()]
    assert [body["minimum_nuke_version_required"] for body in bodies] == [15.0, 15.0, 16.0]
    assert all(release.digest in body["description"] for body in bodies)


def test_an_onnx_file_for_nukes_own_node_is_refused_and_nothing_is_written(situation: Any, tmp_path: Path) -> None:
    release = situation.release("acme/roto", "1.0.0")
    onnx = Answer(loader="nuke-inference", nuke_line="15.1", path="releases/acme/roto/m.onnx")
    generation = situation.generation(1, release.model_copy(update={"answers": (onnx,)}))

    with pytest.raises(InvalidInputError, match=r"expected a \.cat file.*m\.onnx"):
        situation.put(generation)

    assert not (situation.folder / "generations" / "1" / "nuke").exists()


def test_a_file_that_is_not_in_the_store_is_named_and_nothing_is_written(situation: Any) -> None:
    release = situation.release("acme/roto", "1.0.0")
    path = next(a.path for a in release.answers if a.nuke_line == "15.1")
    (situation.root / path).unlink()

    with pytest.raises(InvalidInputError, match="no such file"):
        situation.put(situation.generation(1, release))

    assert not (situation.folder / "generations" / "1" / "nuke").exists()
