import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.version import Version

from changeover_registry.records.release import Requires, Variant
from changeover_validators.checks.reasons import Broken, Open, Reason
from changeover_validators.checks.torchscript import torchscript_problems
from changeover_validators.tables import nuke_torch_line
from changeover_validators.tables.operators import lacking, names_in, operators_of, table_of

# What torch 2.13 puts into a script that calls torch.nn.functional.interpolate with one mode only.
INTERPOLATE = ("aten::_upsample_bilinear2d_aa", "aten::_upsample_lanczos2d_aa", "aten::upsample_bilinear2d")


@pytest.mark.parametrize(
    ("version", "missing", "unknown"),
    [
        ("1.6.0", ("_upsample_bilinear2d_aa", "_upsample_lanczos2d_aa"), ()),
        ("1.12.1", ("_upsample_lanczos2d_aa",), ()),
        ("2.1.1", ("_upsample_lanczos2d_aa",), ()),
        ("2.1.2+cu118", ("_upsample_lanczos2d_aa",), ()),
        ("2.13.0", (), ()),
        ("2.15.0", (), ()),
        ("1.9.0", ("_upsample_lanczos2d_aa",), ("_upsample_bilinear2d_aa",)),
        ("99.0", (), ()),
        ("1.5.1", (), ("_upsample_bilinear2d_aa", "_upsample_lanczos2d_aa", "upsample_bilinear2d")),
        ("nightly", (), ("_upsample_bilinear2d_aa", "_upsample_lanczos2d_aa", "upsample_bilinear2d")),
    ],
)
def test_an_operator_is_missing_where_neither_release_around_has_it(
    version: str, missing: tuple[str, ...], unknown: tuple[str, ...]
) -> None:
    found = lacking(version, (*INTERPOLATE, "prim::RaiseException"))

    assert (found.missing, found.unknown) == (missing, unknown)


def test_nothing_can_be_said_to_be_missing_in_a_torch_newer_than_the_table() -> None:
    assert lacking("99.0", ["aten::invented_tomorrow"]).unknown == ("invented_tomorrow",)


@pytest.mark.parametrize("line", ["13.0", "14.0", "15.0", "15.1", "16.0"])
def test_every_torch_that_a_nuke_embeds_was_read(line: str) -> None:
    torch = nuke_torch_line(line)

    assert torch is None or torch in operators_of()


def test_table_of_the_torch_at_hand_is_what_that_torch_itself_lists() -> None:
    """The oracle: every schema that the running torch has registered."""
    pytest.importorskip("torch")
    code = (
        "import torch; print(torch.__version__.split('+')[0], *{s.name[6:] for s in torch._C._jit_get_all_schemas() "
        "if s.name.startswith('aten::')})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    version, *names = done.stdout.split()
    if version not in operators_of():
        pytest.skip(f"torch {version} is not in the table")
    remote_only = {
        "confirmed_by_owner", "dist_backward", "is_owner", "local_value", "owner", "owner_name", "to_here"
    }  # fmt: skip

    assert set(names) - operators_of()[version] <= remote_only
    assert lacking(version, [f"aten::{name}" for name in set(names) - remote_only]).missing == ()


def test_rows_are_in_order_and_what_is_removed_was_there() -> None:
    versions = [Version(text) for text in operators_of()]

    assert versions == sorted(set(versions))
    assert all(len(names) > 1000 for names in operators_of().values())


LIBRARY = (
    b"\x00\x01gelu(Tensor self, *, str approximate='none') -> Tensor\x00"
    b"aten::full.names(int[] size) -> Tensor\x00"
    b"\n    aten::format(str self, ...) -> str\n    quantized::relu6(Tensor x) -> Tensor\n"
    b"\x00a sentence (with an arrow) that goes -> nowhere\x00if (x) -> y\x00"
)


def test_names_are_those_of_schemas_in_the_bytes_of_a_library() -> None:
    assert names_in(LIBRARY) == {"gelu", "full", "format"}


def test_table_is_written_from_wheels_with_what_each_added_and_removed(tmp_path: Path) -> None:
    first, second = (tmp_path / f"torch-{v}-cp311-none-macosx_11_0_arm64.whl" for v in ("9.0.0", "9.1.0"))
    for path, data in ((first, LIBRARY), (second, LIBRARY.replace(b"gelu", b"silu"))):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("torch/lib/libtorch_cpu.dylib", data)

    text = table_of([first, second])

    assert 'added = [\n    "format", "full", "gelu",\n]\nremoved = []\n' in text
    assert 'version = "9.1.0"' in text
    assert text.endswith('added = [\n    "silu",\n]\nremoved = [\n    "gelu",\n]\n')


def test_wheel_without_torch_is_named(tmp_path: Path) -> None:
    path = tmp_path / "torch-9.0.0-cp311-none-macosx_11_0_arm64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("torch/__init__.py", "")

    with pytest.raises(ValueError, match="libtorch_cpu"):
        table_of([path])


@pytest.fixture
def scripted(make_variant: Callable[..., Variant]) -> Variant:
    """A record with archive version 3, and what interpolate brings along."""
    requires = Requires(torchscript_version=3, operators=INTERPOLATE)
    return make_variant(id="ts", runtime="torchscript", entry="model.pt", requires=requires)


def test_archive_of_version_3_with_an_operator_of_tomorrow_is_refused_for_an_old_torch(scripted: Variant) -> None:
    (problem,) = torchscript_problems(scripted, "2.1.1", "Nuke 15.1", 10)

    assert isinstance(problem, Broken)
    assert problem.reason is Reason.OPERATOR_MISSING
    assert (problem.expected, problem.actual) == (
        "operators that torch 2.1.1 has (Nuke 15.1)", "_upsample_lanczos2d_aa"
    )  # fmt: skip
    assert tuple(torchscript_problems(scripted, "2.13.0", "here", 10)) == ()


def test_operator_of_which_nobody_knows_leaves_the_question_open(scripted: Variant) -> None:
    known = scripted.requires.model_copy(update={"operators": INTERPOLATE[:1]})

    (problem,) = torchscript_problems(scripted.model_copy(update={"requires": known}), "1.9.0", "here", 5)

    assert isinstance(problem, Open)
    assert problem.reason is Reason.OPERATOR_UNKNOWN
