from pathlib import Path

import pytest

from changeover_registry.records.base import Unknown
from changeover_validators.installs import installed_nukes
from changeover_validators.probe import nuke_found, probe, probe_key


def install(place: Path, version: str, program: str | None = None) -> Path:
    """A folder as Nuke's installer leaves it, with a program in it; an empty name leaves the program out."""
    folder = place / f"Nuke{version}"
    folder.mkdir(parents=True)
    name = f"Nuke{version.split('v', maxsplit=1)[0]}" if program is None else program
    if name:
        (folder / name).write_text("", encoding="utf-8")
    return folder


def test_nukes_are_found_oldest_first_as_numbers_order_them(tmp_path: Path) -> None:
    for version in ("15.10v1", "15.2v12", "15.2v9", "9.0v1"):
        install(tmp_path, version)

    assert [version for version, _ in installed_nukes([str(tmp_path)])] == ["9.0v1", "15.2v9", "15.2v12", "15.10v1"]


@pytest.mark.parametrize("program", ["Nuke15.1", "Nuke15.1.exe", "Nuke15.1v3.app"])
def test_program_of_each_system_makes_a_folder_an_installation(tmp_path: Path, program: str) -> None:
    folder = install(tmp_path, "15.1v3", program)

    assert installed_nukes([str(tmp_path)]) == (("15.1v3", str(folder)),)


def test_folder_without_the_program_and_folders_of_others_are_no_nuke(tmp_path: Path) -> None:
    install(tmp_path, "15.1v3", "")
    install(tmp_path, "15.2v1", "Nuke15.1")
    for name in ("Nuke", "Nuke15.1", "NukeStudio15.1v3", "Nuke15.1v3.old", "nuke-plugins"):
        (tmp_path / name).mkdir()
    (tmp_path / "Nuke16.0v1").write_text("a file", encoding="utf-8")

    assert installed_nukes([str(tmp_path)]) == ()


def test_place_that_is_not_there_has_none_and_the_first_place_counts(tmp_path: Path) -> None:
    first = install(tmp_path / "a", "15.1v3")
    install(tmp_path / "b", "15.1v3")
    places = [str(tmp_path / "nowhere"), str(tmp_path / "a"), str(tmp_path / "b")]

    assert installed_nukes(places) == (("15.1v3", str(first)),)


def test_found_nuke_says_where_and_one_that_host_toml_names_is_not_found_again(tmp_path: Path) -> None:
    install(tmp_path, "15.1v3")
    other = install(tmp_path, "16.0v2")

    facts = probe({}, ("15.1v3",), {"15.1v3": ("/named", "/tools")}, places=[str(tmp_path)])

    named, found = facts.nukes
    assert (named.version, named.path, named.reads, named.found) == ("15.1v3", "/named", ("/tools",), None)
    assert (found.version, found.path, found.found) == ("16.0v2", None, str(other))
    assert found.torch_line == "2.1.1"


def test_found_nuke_that_the_tables_do_not_know_has_an_unknown_torch() -> None:
    assert isinstance(nuke_found("99.1v1", "/x").torch_line, Unknown)


def test_key_changes_when_a_nuke_is_installed_or_taken_away(tmp_path: Path) -> None:
    places = [str(tmp_path)]
    before = probe_key({}, places=places)
    folder = install(tmp_path, "15.1v3")
    with_one = probe_key({}, places=places)
    (folder / "Nuke15.1").unlink()

    assert with_one != before
    assert probe_key({}, places=places) == before


def test_gpu_that_host_toml_names_for_nuke_is_a_fact() -> None:
    assert probe({}, nuke_gpu="GPU-1", places=()).nuke_gpu == "GPU-1"
    assert probe({}, places=()).nuke_gpu is None
