import itertools
import json
import struct
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from datetime import date
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from changeover_registry.errors import UnreachableError
from changeover_validators import tables
from changeover_validators.probe_child import architectures
from changeover_validators.tables import limits, regenerate, wheels
from changeover_validators.tables.binaries import codes, names_of, needed
from changeover_validators.tables.write import comment_of, refreshed, text_of
from changeover_validators.vram.rules import memory_rules

ROOT = Path(__file__).parents[2]
FOLDER = Path(tables.__file__).parent
TABLES = sorted(FOLDER.glob("*.toml"))
NAMES = [path.stem for path in TABLES]


def parsed(name: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def dated(value: object, given: tuple[str | None, str | None] = (None, None)) -> list[tuple[str | None, str | None]]:
    """The (source, date) of every row of a table, a row's own before its table's."""
    found: list[tuple[str | None, str | None]] = []
    if isinstance(value, dict):
        own = (value.get("source", given[0]), value.get("date", given[1]))
        lists = [item for item in value.values() if isinstance(item, list) and item and isinstance(item[0], dict)]
        return [pair for item in lists for row in item for pair in dated(row, own)] or [own]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_row_names_its_source_and_a_day(name: str) -> None:
    table = parsed(name)

    assert table["schema"] == f"changeover.table.{name}/1"
    for source, day in dated(table):
        assert source
        assert date.fromisoformat(str(day)).year >= 2026


@pytest.mark.parametrize("name", NAMES)
def test_every_table_has_a_schema_and_keeps_to_it(name: str) -> None:
    schema = json.loads((FOLDER / "schemas" / f"{name}.json").read_bytes())

    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(parsed(name), schema)


@pytest.mark.parametrize(
    ("table", "array", "change"),
    [
        ("cuda", "toolkit", {"line": "12"}),
        ("cuda", "toolkit", {"maximum": "580"}),
        ("cuda", "last_driver", {"date": "yesterday"}),
        ("onnxruntime", "binary", {"sha256": None}),
        ("onnxruntime", "binary", {"architectures": ["8.6"]}),
        ("onnxruntime", "release", {"max_opset": "26"}),
        ("torch", "wheel", {"origin": "heard"}),
        ("torchscript", "operator", {"name": "gelu"}),
        ("nuke", "line", {"source": ""}),
    ],
)
def test_row_that_lacks_or_bends_a_fact_is_refused_by_its_schema(
    table: str, array: str, change: Mapping[str, object]
) -> None:
    schema = json.loads((FOLDER / "schemas" / f"{table}.json").read_bytes())
    bent = parsed(table)
    row = {**bent[array][0], **change}
    bent[array][0] = {key: value for key, value in row.items() if value is not None}

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bent, schema)


def test_schemas_ship_with_the_tables_and_none_is_left_over() -> None:
    shipped = {item.name for item in resources.files("changeover_validators.tables").joinpath("schemas").iterdir()}

    assert shipped == {f"{name}.json" for name in NAMES}


@pytest.mark.parametrize(
    ("line", "floor"),
    [
        ("11.0", "450.80.02"),
        ("11.8", "450.80.02"),
        ("12.0", "525.60.13"),
        ("12.7", "525.60.13"),
        ("12.9", "525.60.13"),
        ("13.2", "580.65.06"),
    ],
)
def test_toolkit_is_answered_by_its_own_or_the_line_before_within_its_major(line: str, floor: str) -> None:
    found = tables.toolkit(line)

    assert found is not None
    assert found.floor("linux") == floor
    assert found.line.split(".")[0] == line.split(".", maxsplit=1)[0]


def test_toolkit_has_a_floor_of_its_own_on_windows_and_brings_a_newer_driver() -> None:
    found = tables.toolkit("12.8")

    assert found is not None
    assert (found.floor("windows"), found.own("linux"), found.own("windows")) == ("527.41", "570.26", "570.65")


@pytest.mark.parametrize("line", ["10.2", "14.0"])
def test_toolkit_of_an_unknown_major_is_not_in_the_table(line: str) -> None:
    assert tables.toolkit(line) is None


def test_every_ptx_in_a_binary_has_a_toolkit() -> None:
    isas = {row["ptx_isa"] for row in parsed("onnxruntime")["binary"] if "ptx_isa" in row}

    assert isas
    assert all(tables.ptx_toolkit(isa) for isa in isas)
    assert tables.ptx_toolkit("99.0") is None


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
    ("version", "expected"),
    [
        ("1.16.3", (9, 19)),
        ("1.17.3", (9, 20)),
        ("1.26.0", (13, 26)),
        ("1.31.1", (13, 26)),
        ("1.23.0rc1", (11, 23)),
        ("1.32.0", (14, 28)),
    ],
)
def test_onnxruntime_release_tells_its_limits(version: str, expected: tuple[int, int]) -> None:
    found = tables.runtime_limits(version)

    assert found is not None
    assert (found.max_ir_version, found.max_opset) == expected
    assert found.row.startswith("tables/onnxruntime.toml, release ")


@pytest.mark.parametrize("version", ["1.14.0", "1.99.0", "2.0", "nightly"])
def test_onnxruntime_release_that_is_not_in_the_table_is_unknown(version: str) -> None:
    assert tables.runtime_limits(version) is None
    assert tables.onnxruntime_build(version) is None


def test_limits_never_fall_from_one_release_to_the_next() -> None:
    rows = parsed("onnxruntime")["release"]

    assert [row["line"] for row in rows] == [f"1.{minor}" for minor in range(15, 15 + len(rows))]
    for before, after in itertools.pairwise(rows):
        assert before["max_ir_version"] <= after["max_ir_version"]
        assert before["max_opset"] <= after["max_opset"]


def test_default_gpu_wheel_moved_from_cuda_12_to_13_at_one_release_and_dropped_every_card_below_turing() -> None:
    old, new = tables.onnxruntime_build("1.26.0"), tables.onnxruntime_build("1.27.0")

    assert old is not None
    assert new is not None
    assert (old.toolkit, new.toolkit) == ("12.8", "13.0")
    assert {"sm_60", "sm_70"} <= set(old.architectures)
    assert not {"sm_60", "sm_70"} & set(new.architectures)
    assert old.ptx == "12.8"


def test_metadata_and_binary_of_a_gpu_wheel_agree_on_the_cuda_major() -> None:
    told = {row["line"]: row["toolkit"].split(".")[0] for row in parsed("onnxruntime")["gpu"] if "toolkit" in row}
    read = {row["line"]: row["cuda"] for row in parsed("onnxruntime")["binary"] if "cuda" in row}

    assert told
    assert {line: read[line] for line in told} == told


def test_torch_build_follows_from_line_and_suffix() -> None:
    stated, default, read = (tables.torch_build(v) for v in ("2.7.1+cu128", "2.7.1", "2.1.1+cu118"))

    assert stated is not None
    assert default is not None
    assert read is not None
    assert (stated.toolkit, stated.served, stated.cudnn) == ("12.8", ("7.5", "12.0"), None)
    assert (default.toolkit, default.cudnn, default.glibc) == ("12.6", "9.5", "2.28")
    assert read.architectures[-1] == "sm_90"
    assert tables.torch_build("2.7.1+cpu") is None
    assert tables.torch_build("9.9.9") is None


@pytest.mark.parametrize(
    ("torch", "limit"),
    [
        ("1.6.0", 5),
        ("1.12.1", 10),
        ("1.13.1+cu117", 10),
        ("2.13.0+cpu", 10),
        ("1.8.0", None),
        ("1.5.0", None),
        ("x", None),
    ],
)
def test_torchscript_limit_is_known_where_wheels_were_read_or_its_neighbours_agree(
    torch: str, limit: int | None
) -> None:
    assert tables.torchscript_limit(torch) == limit


def test_running_torch_reads_what_its_row_says_and_raises_for_the_operators_of_the_table() -> None:
    pytest.importorskip("torch")
    version, raised = limits.torch_operators()

    assert tables.torchscript_limit(version) == max(raised.values())
    assert dict(tables.torchscript_operators()) == raised
    assert raised["aten::gelu"] == 10


def test_table_of_onnx_is_what_onnx_says() -> None:
    version, known = limits.onnx_versions()
    rows = parsed("onnx")["release"]

    assert version == metadata.version("onnx")
    assert tuple((row["version"], row["ir_version"], row["opset"]) for row in rows) == known


def test_newest_onnx_writes_by_default_what_most_listed_runtimes_refuse() -> None:
    newest = parsed("onnx")["release"][-1]
    refusing = [row["line"] for row in parsed("onnxruntime")["release"] if row["max_ir_version"] < newest["ir_version"]]

    assert refusing[-1] == "1.31"


def test_nuke_line_tells_torch_python_toolkit_and_platform_or_nothing() -> None:
    assert (tables.nuke_torch_line("15.0"), tables.nuke_python("15.0"), tables.nuke_toolkit("15.0")) == (
        "1.12.1",
        "3.10",
        None,
    )
    assert (tables.nuke_torch_line("17.0"), tables.nuke_toolkit("17.0")) == ("2.7.1", "12.8")
    assert tables.nuke_torch_line("99.0") is None
    platform = tables.nuke_platform("16.0")
    assert platform is not None
    assert platform["python"] == tables.nuke_python("16.0") == "3.11"
    assert tables.nuke_platform("17.0") is None


def test_nuke_that_compiles_its_kernels_once_says_so_for_the_cards_that_need_it() -> None:
    found = tables.nuke_jit("13.0", "8.6")

    assert found is not None
    assert (found.minutes, found.cache_gib) == (30, 4)
    assert tables.nuke_jit("13.0", "7.5") is None
    assert tables.nuke_jit("15.1", "8.6") is None


def test_last_driver_and_last_cudnn_of_an_old_card_are_known() -> None:
    found = tables.driver_ceiling("6.1")

    assert found is not None
    assert (found.branch, found.next) == (580, 590)
    assert tables.driver_ceiling("7.5") is None
    last = tables.last_cudnn("6.1")
    assert last is not None
    assert last[0] == "9.10"
    assert tables.last_cudnn("8.6") is None


def test_cpu_below_what_numpy_is_built_for_is_told_and_another_family_is_not_compared() -> None:
    version, level = limits.numpy_baseline()

    assert (tables.cpu_floor().package, tables.cpu_floor().level) == (f"numpy {version}", level)
    assert tables.below_cpu_floor("x86_64")
    assert not tables.below_cpu_floor("x86_64_v3")
    assert not tables.below_cpu_floor("armv8.5a")


def test_memory_rules_are_read_and_do_not_overlap() -> None:
    rules = memory_rules()

    assert "Relu" in rules.in_place
    assert "Reshape" in rules.alias
    assert not rules.in_place & rules.alias
    assert any("BatchNormalization" in fusion.operators for fusion in rules.fusions)


def test_runtime_sets_are_the_extras_of_the_distribution() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]

    assert [one.name for one in tables.runtime_sets()] == sorted(name for name in extras if name.startswith("cuda"))
    for one in tables.runtime_sets():
        asked = {found.name: found for found in map(Requirement, extras[one.name])}
        only = asked["onnxruntime-gpu"]
        assert (only.name, only.extras, only.specifier) == ("onnxruntime-gpu", {"cuda", "cudnn"}, one.onnxruntime)


def test_set_for_old_cards_stops_before_the_cudnn_that_has_no_kernels_for_them() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    cudnn = next(found for found in map(Requirement, extras["cuda12"]) if found.name == "nvidia-cudnn-cu12")
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints-cuda12.txt").read_text().splitlines() if "==" in line
    )
    last = tables.last_cudnn("6.1")

    assert last is not None
    assert pinned["nvidia-cudnn-cu12"].startswith(f"{last[0]}.")
    assert pinned["nvidia-cudnn-cu12"] in cudnn.specifier
    assert "9.11.0" not in cudnn.specifier


def test_constraints_of_the_two_sets_differ_in_the_runtime_and_its_cuda_alone() -> None:
    assert subprocess.run([sys.executable, str(ROOT / ".ci/constraints"), "--check"], check=False).returncode == 0
    for one, name in zip(tables.runtime_sets(), ("constraints-cuda12.txt", "constraints.txt"), strict=True):
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        (pin,) = [line.partition("==")[2] for line in lines if line.startswith("onnxruntime-gpu==")]
        assert pin in one.onnxruntime


def test_no_release_is_in_two_sets_and_every_gpu_row_since_the_first_is_in_the_one_of_its_cuda() -> None:
    for row in parsed("onnxruntime")["gpu"]:
        sets = [one for one in tables.runtime_sets() if row["version"] in one.onnxruntime]
        assert len(sets) <= 1
        for one in sets:
            assert row["toolkit"].split(".")[0] == one.toolkit.split(".")[0]


def container(*entries: bytes) -> bytes:
    body = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def entry(kind: int, architecture: int, *, flags: int = 0, isa: tuple[int, int] = (0, 0), payload: int = 8) -> bytes:
    head = struct.pack("<HHIQ8xHHI8xQ", kind, 257, 64, payload, isa[1], isa[0], architecture, flags)
    return head.ljust(64, b"\0") + b"\1" * payload


def test_gpu_code_of_a_library_is_listed_once_with_its_suffix_and_the_version_of_its_ptx(tmp_path: Path) -> None:
    path = tmp_path / "lib.so"
    first = container(entry(2, 86), entry(2, 90, flags=1 << 20, payload=24), entry(1, 90, isa=(8, 7)))
    path.write_bytes(b"\0" * 7 + first + b"x" * 13 + container(entry(2, 86), entry(2, 120, flags=1 << 21)) + b"\0")

    found = codes(path)

    assert names_of(found) == ("sm_86", "sm_90a", "sm_120f", "compute_90")
    assert [code.isa for code in found] == ["", "", "", "8.7"]


def test_bytes_that_only_begin_like_gpu_code_are_none(tmp_path: Path) -> None:
    path = tmp_path / "lib.so"
    path.write_bytes(container(entry(7, 86)) + struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 1 << 60))

    assert codes(path) == ()
    with pytest.raises(ValueError, match="expected an ELF file"):
        needed(path)


def test_library_of_the_installed_onnxruntime_is_read_as_its_row_says_and_as_the_probe_reads_it() -> None:
    import onnxruntime

    library = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime_providers_cuda.so"), None)
    if library is None:
        pytest.skip("the onnxruntime here is a build without CUDA")
    row = next(row for row in parsed("onnxruntime")["binary"] if onnxruntime.__version__.startswith(row["line"]))

    told = regenerate.read_library(library)

    assert sorted(told["architectures"]) == architectures(library)
    if row["version"] == onnxruntime.__version__:
        assert told == {key: row[key] for key in told}


def test_libraries_that_an_elf_file_asks_for_are_those_that_the_loader_lists() -> None:
    import _ctypes

    asked = needed(Path(_ctypes.__file__))

    assert any(name.startswith("libc.so") for name in asked)
    assert all(".so" in name for name in asked)


@pytest.mark.parametrize(
    ("tag", "glibc"),
    [
        ("manylinux_2_28_x86_64", "2.28"),
        ("manylinux2014_x86_64", "2.17"),
        ("manylinux1_x86_64", "2.5"),
        ("win_amd64", None),
    ],
)
def test_wheel_tag_promises_a_least_glibc(tag: str, glibc: str | None) -> None:
    assert wheels.glibc_of_tag(tag) == glibc


REPORT = {
    "download_info": {
        "url": "https://index.invalid/files/torch-2.10.0-3-cp311-cp311-manylinux_2_28_x86_64.manylinux_2_27_x86_64.whl",
        "archive_info": {"hashes": {"sha256": "0" * 64}},
    },
    "metadata": {
        "name": "torch",
        "version": "2.10.0",
        "requires_python": ">=3.10",
        "requires_dist": [
            "not a requirement!",
            "cuda-bindings==12.9.4",
            "nvidia-cuda-runtime-cu12==12.8.90; platform_system == 'Linux'",
            "nvidia-cudnn-cu12~=9.0; extra == 'cudnn'",
        ],
    },
}


def test_wheel_is_read_from_pips_report() -> None:
    found = wheels.parse(REPORT)

    assert (found.name, found.version, found.python, found.glibc) == ("torch", "2.10.0", ">=3.10", "2.27")
    assert (wheels.cuda_of(found.requires), wheels.cudnn_of(found.requires)) == ("12.8", "9.0")
    assert wheels.cuda_of(("cuda-toolkit[cudart]==13.0.2",)) == "13.0"
    assert wheels.cuda_of(("numpy>=2",)) is None


def test_index_that_does_not_have_a_release_is_named_with_pips_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(tmp_path)), ("PIP_CONFIG_FILE", "/dev/null")):
        monkeypatch.setenv(name, value)

    with pytest.raises(UnreachableError, match="Could not find a version"):
        wheels.wheel("no-such-package-of-ours", "1.0")


def test_newest_final_release_of_each_line_is_taken() -> None:
    versions = ("1.27.0rc1", "1.26.0", "1.25.1", "1.25.0", "1.25.1+cpu", "1.14.0")

    assert regenerate.newest_of_each_line(versions, Version("1.15")) == ("1.25.1", "1.26.0")


def test_refresh_replaces_what_artifacts_told_and_keeps_prose_and_comment(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text('# A comment.\n# And more.\n\nschema = "s"\n', encoding="utf-8")
    old = {"schema": "s", "a": [{"n": 1, "origin": "probe"}, {"n": 2, "origin": "prose"}], "b": [{"n": 3}]}

    table = refreshed(old, {"a": [{"n": 9, "origin": "probe", "list": ["x", "y"], "yes": True}]})
    path.write_text(text_of(comment_of(path), table), encoding="utf-8")

    again = tomllib.loads(path.read_text(encoding="utf-8"))
    assert [row["n"] for row in again["a"]] == [9, 2]
    assert again["a"][0]["list"] == ["x", "y"]
    assert again["b"] == [{"n": 3}]
    assert path.read_text(encoding="utf-8").startswith("# A comment.\n# And more.\n\nschema")


@pytest.mark.parametrize("name", NAMES)
def test_every_table_is_what_the_writer_would_write_of_it(name: str) -> None:
    table = parsed(name)

    assert tomllib.loads(text_of("", table)) == table


def test_writer_refuses_what_a_table_cannot_hold() -> None:
    with pytest.raises(TypeError, match="expected a number"):
        text_of("", {"a": 1.5})


def test_parts_that_need_no_index_are_written_anew_and_say_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("onnx", "cpu"):
        (tmp_path / f"{name}.toml").write_bytes((FOLDER / f"{name}.toml").read_bytes())

    assert regenerate.main(["onnx", "cpu", "--into", str(tmp_path)]) == 0

    assert "wrote" in capsys.readouterr().out
    for name in ("onnx", "cpu"):
        new = tomllib.loads((tmp_path / f"{name}.toml").read_text(encoding="utf-8"))
        array = "release" if name == "onnx" else "floor"
        assert [{**row, "date": ""} for row in new[array]] == [{**row, "date": ""} for row in parsed(name)[array]]


def test_limits_of_the_installed_onnxruntime_are_those_of_its_row() -> None:
    import onnxruntime

    found = limits.onnxruntime_limits(Path(onnxruntime.__file__).parents[1])
    row = tables.runtime_limits(onnxruntime.__version__)

    assert row is not None
    assert (found["max_ir_version"], found["max_opset"]) == (row.max_ir_version, row.max_opset)


def test_header_of_the_installed_torch_says_what_its_row_says(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    import zipfile

    wheel = tmp_path / "torch.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        header = Path(torch.__file__).parent / "include/caffe2/serialize/versions.h"
        archive.write(header, "torch/include/caffe2/serialize/versions.h")

    assert limits.torchscript_limits(wheel) == (1, tables.torchscript_limit(torch.__version__))
    with zipfile.ZipFile(tmp_path / "empty.whl", "w") as archive:
        archive.writestr("x", "")
    with pytest.raises(ValueError, match="versions.h"):
        limits.torchscript_limits(tmp_path / "empty.whl")
