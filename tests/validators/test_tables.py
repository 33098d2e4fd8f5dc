import tomllib
from datetime import date
from pathlib import Path

import pytest

from changeover_validators import tables
from changeover_validators.vram.rules import memory_rules

FOLDER = Path(tables.__file__).parent


def dated(value: object, given: tuple[str | None, str | None] = (None, None)) -> list[tuple[str | None, str | None]]:
    """The (source, date) of every row of a table, a row's own before its table's."""
    found: list[tuple[str | None, str | None]] = []
    if isinstance(value, dict):
        own = (value.get("source", given[0]), value.get("date", given[1]))
        lists = [item for item in value.values() if isinstance(item, list) and item and isinstance(item[0], dict)]
        return [pair for item in lists for row in item for pair in dated(row, own)] or [own]
    return found


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_row_names_its_source_and_a_day(path: Path) -> None:
    table = tomllib.loads(path.read_text(encoding="utf-8"))

    assert table["schema"] == f"changeover.table.{path.stem}/1"
    for source, day in dated(table):
        assert source
        assert date.fromisoformat(str(day)).year >= 2026


@pytest.mark.parametrize(
    ("line", "floor"), [("11.0", 450), ("11.8", 450), ("12.0", 525), ("12.6", 525), ("12.9", 525), ("13.2", 580)]
)
def test_toolkit_is_answered_by_its_own_or_the_line_before_within_its_major(line: str, floor: int) -> None:
    found = tables.toolkit(line)

    assert found is not None
    assert found.first_driver == floor
    assert found.line.split(".")[0] == line.split(".", maxsplit=1)[0]


@pytest.mark.parametrize("line", ["10.2", "14.0"])
def test_toolkit_of_an_unknown_major_is_not_in_the_table(line: str) -> None:
    assert tables.toolkit(line) is None


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("NVIDIA GeForce RTX 4090", "8.9"),
        ("NVIDIA GeForce RTX 4060 Ti", "8.9"),
        ("Quadro RTX 4000", "7.5"),
        ("NVIDIA RTX 4000 Ada Generation", "8.9"),
        ("NVIDIA RTX A4000", "8.6"),
        ("NVIDIA A100-SXM4-80GB", "8.0"),
        ("NVIDIA A10", "8.6"),
        ("Tesla T4", "7.5"),
        ("NVIDIA L4", "8.9"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "12.0"),
        ("NVIDIA H200", "9.0"),
        ("Quadro P4000", "6.1"),
        ("Tesla V100-PCIE-16GB", "7.0"),
        ("Graphics Device", None),
        ("AMD Radeon PRO W7900", None),
    ],
)
def test_family_follows_from_the_products_name(name: str, capability: str | None) -> None:
    assert tables.capability_of_gpu(name) == capability


@pytest.mark.parametrize(
    ("version", "limits"),
    [
        ("1.17.3", (9, 20, "11.8")),
        ("1.26.0", (13, 26, "12.0")),
        ("1.31.1", (13, 26, "13.0")),
        ("1.23.0rc1", (11, 23, "12.0")),
    ],
)
def test_onnxruntime_release_tells_its_limits(version: str, limits: tuple[int, int, str]) -> None:
    found = tables.runtime_limits(version)

    assert found is not None
    assert (found.max_ir_version, found.max_opset, found.cuda) == limits


@pytest.mark.parametrize("version", ["1.14.0", "1.99.0", "2.0", "nightly"])
def test_onnxruntime_release_that_is_not_in_the_table_is_unknown(version: str) -> None:
    assert tables.runtime_limits(version) is None


def test_torch_build_follows_from_line_and_suffix() -> None:
    assert tables.torch_build("2.7.1+cu128") == tables.TorchBuild("12.8", "7.5", "12.0")
    assert tables.torch_build("2.7.1+cpu") is None
    assert tables.torch_build("2.7.1") is None


def test_nuke_line_tells_torch_python_and_toolkit_or_nothing() -> None:
    assert (tables.nuke_torch_line("15.0"), tables.nuke_python("15.0"), tables.nuke_toolkit("15.0")) == (
        "1.12.1",
        "3.10",
        None,
    )
    assert (tables.nuke_torch_line("17.0"), tables.nuke_toolkit("17.0")) == ("2.7.1", "12.8")
    assert tables.nuke_torch_line("99.0") is None


def test_last_driver_of_an_old_card_is_known() -> None:
    assert tables.driver_ceiling("6.1") == 580
    assert tables.driver_ceiling("7.5") is None


def test_memory_rules_are_read_and_do_not_overlap() -> None:
    rules = memory_rules()

    assert "Relu" in rules.in_place
    assert "Reshape" in rules.alias
    assert not rules.in_place & rules.alias
    assert any("BatchNormalization" in fusion.operators for fusion in rules.fusions)
