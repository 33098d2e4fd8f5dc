"""Asking whether something fits: files, release folders and releases of the site, on hosts that are not here."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from changeover_updater.cli.main import run
from changeover_validators.probe import forged_host
from changeover_validators.vram.zoo import architectures


def asked(capsys: Any, *arguments: str) -> tuple[int, Any]:
    """Exit code and the JSON of one command that needs no site."""
    code = run([*arguments, "--json"])
    out = capsys.readouterr().out
    return code, json.loads(out) if out.startswith("{") else out


def shown(capsys: Any, *arguments: str) -> tuple[int, str]:
    code = run(list(arguments))
    both = capsys.readouterr()
    return code, both.out + both.err


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No site, no store and no host.toml: what needs none must ask for none."""
    for name in ("CHANGEOVER_SITE", "CHANGEOVER_STORE", "CHANGEOVER_STATION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CHANGEOVER_CONFIG", str(tmp_path / "none.toml"))


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("net") / "mobilenet.onnx"
    next(one for one in architectures() if one.name == "mobilenet").build(path)
    return str(path)


def test_file_is_answered_for_a_shipped_card_without_site_store_or_gpu(net: str, capsys: Any) -> None:
    code, found = asked(capsys, "fits", net, "--plate", "1920x1080", "--gpu", "RTX A4000")

    assert (code, found["exit_code"], found["answer"]) == (0, 0, "fits")
    assert found["host"] == "rtx-a4000-16gib"
    assert found["chosen"] == "onnx/none/cuda"
    assert found["runtime"] == "onnxruntime 1.26.0"
    assert found["provider"] == "cuda"
    assert set(found["options"]) >= {"extend", "initial_chunk_bytes", "pattern", "shrink", "freeze"}
    assert 0 < found["steady"]["in_use_bytes"] <= found["steady"]["arena_bytes"]
    assert found["range"]["low_bytes"] <= found["steady"]["arena_bytes"] <= found["range"]["high_bytes"]
    parts = {part["name"]: part["bytes"] for part in found["parts"]}
    assert parts["context"] == 400 << 20
    assert sum(parts.values()) == found["total_bytes"]
    assert 0 < found["resting_bytes"] <= found["total_bytes"]
    assert "cuDNN" in found["range_note"]
    assert found["need"]["alone_bytes"] == parts["context"] + 2 * (found["total_bytes"] - parts["context"])
    assert found["key"]["width"] == 1920
    assert found["key"]["gpu"] == "NVIDIA RTX A4000"
    assert found["budget"]["allowed_bytes"] == found["budget"]["total_bytes"] - sum(found["budget"]["kept"].values())


def test_over_budget_is_3_and_names_every_point_with_its_reason_and_figure(
    net: str, tmp_path: Path, capsys: Any
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('schema = "changeover.policy/1"\n[vram]\nnuke_baseline_mib = 5900\n', encoding="utf-8")

    code, found = asked(capsys, "fits", net, "--gpu", "rtx 2070", "--policy", str(policy))

    assert (code, found["answer"], found["chosen"]) == (3, "over-budget", None)
    assert found["reasons"] == ["over-budget"]
    assert len(found["passed_over"]) == len(found["points"]) == 4
    assert all("MiB at 4096x2160" in one["why"] for one in found["passed_over"])
    assert found["need"]["bytes"] > found["budget"]["allowed_bytes"]
    assert found["point"] == min(found["points"], key=lambda one: one["need"]["bytes"])["point"]


def test_incompatible_is_3_and_unknown_is_4_each_with_its_code(net: str, capsys: Any) -> None:
    old, unknown, none = (
        asked(capsys, "fits", net, "--host", host) for host in ("old-driver-16gib", "unknown-gpus", "no-gpu")
    )

    assert (old[0], old[1]["answer"], old[1]["reasons"]) == (3, "incompatible", ["driver-too-old"])
    assert (unknown[0], unknown[1]["answer"], unknown[1]["reasons"]) == (4, "unknown", ["gpus-unknown"])
    assert (none[0], none[1]["answer"]) == (3, "incompatible")
    assert old[1]["steady"] is None


def test_cpu_is_answered_for_its_arena_and_the_hosts_ram(net: str, capsys: Any) -> None:
    code, found = asked(capsys, "fits", net, "--gpu", "A4000", "--provider", "cpu", "--plate", "1920x1080")

    facts = forged_host("rtx-a4000-16gib")
    assert (code, found["chosen"], found["provider"]) == (0, "onnx/none/cpu", "cpu")
    assert found["budget"]["name"] == "RAM"
    assert found["budget"]["allowed_bytes"] == facts.ram_mib * 2**20 // 2  # type: ignore[operator]


def test_solve_tile_names_the_largest_and_the_next_larger_one_with_their_figures(net: str, capsys: Any) -> None:
    code, found = asked(capsys, "fits", net, "--host", "gtx-980-4gib", "--solve", "tile")

    assert code == 0
    (solved,) = found["solve"]
    best, larger = solved["allowed"]["best"], solved["allowed"]["larger"]
    limit = found["budget"]["allowed_bytes"]
    assert best["need_bytes"] <= 0.97 * limit
    assert larger["fits"] is False
    assert larger["need_bytes"] > 0.97 * limit or larger["conservative"]
    sizes = [int(solved["any_size"][which]["tile"].split("+")[0]) for which in ("best", "larger")]
    assert sizes[1] - sizes[0] == 8
    assert solved["any_size"]["best"]["need_bytes"] >= best["need_bytes"]


def test_table_tells_parts_budget_points_and_that_no_gpu_measured_it(net: str, capsys: Any) -> None:
    code, text = shown(capsys, "fits", net, "--gpu", "RTX A4000")
    refused, why = shown(capsys, "fits", net, "--host", "old-driver-16gib", "--solve", "variant")

    assert (code, refused) == (0, 3)
    for words in ("fits", "context", "weights", "fragmentation", "2 instances", "budget:", "chosen"):
        assert words in text
    assert "not measured on a GPU" in text
    assert "what to do: update the driver" in why
    assert "driver: expected" in why


def test_explaining_says_why_a_point_that_would_do_is_behind(net: str, capsys: Any) -> None:
    code, text = shown(capsys, "fits", net, "--gpu", "H200", "--solve", "variant")

    assert code == 0
    assert "the whole frame has no seams" in " ".join(text.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--gpu", "RTX 9999"), "RTX 9999"),
        (("--gpu", "RTX"), "which is"),
        (("--gpu", "A4000", "--host", "no-gpu"), "--host and --gpu"),
        (("--gpu", "A4000", "--plate", "4096"), "4096x2160"),
        (("--gpu", "A4000", "--plate", "99999x1"), "4096x2160"),
    ],
)
def test_usage_that_cannot_be_meant_is_2_and_says_what_is_meant(
    net: str, capsys: Any, arguments: tuple[str, ...], words: str
) -> None:
    code, text = shown(capsys, "fits", net, *arguments)

    assert code == 2
    assert words in text


def test_file_that_is_none_or_no_model_is_2_and_one_that_takes_no_image_is_4(tmp_path: Path, capsys: Any) -> None:
    broken, vector = tmp_path / "broken.onnx", tmp_path / "vector.onnx"
    broken.write_bytes(b"no model")
    items = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", items[:1], items[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), vector)

    codes = [shown(capsys, "fits", str(path), "--gpu", "A4000")[0] for path in (tmp_path / "no.onnx", broken, vector)]

    assert codes == [2, 2, 4]


def test_multiple_is_found_where_the_file_does_not_say_it(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "unet.onnx"
    next(one for one in architectures() if one.name == "unet").build(path)

    _, found = asked(capsys, "fits", str(path), "--gpu", "H200", "--plate", "1921x1081")

    assert found["key"]["width"] % 16 == 0
    assert found["key"]["height"] % 16 == 0


def test_fixed_file_has_one_size_and_no_tile_to_solve_for(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "fixed.onnx"
    next(one for one in architectures() if one.name == "mobilenet").build(path, 512, 256)

    code, found = asked(capsys, "fits", str(path), "--gpu", "A4000")
    solved, text = shown(capsys, "fits", str(path), "--gpu", "A4000", "--solve", "tile")

    assert (code, solved) == (0, 0)
    assert (found["key"]["width"], found["key"]["height"]) == (512, 256)
    assert found["fixed_tensor"] == [512, 256]
    assert "the file takes 512x256 only" in text.splitlines()[0]
    assert "4096x2160" not in text
    assert "no tile can be solved for: the tensor is 512x256 whatever the tile" in text
    assert "next larger" not in text


def test_fits_imports_no_torch_and_answers_for_a_net_of_300_nodes(tmp_path: Path) -> None:
    path = tmp_path / "deep.onnx"
    dims: list[str | int | None] = [1, 3, "h", "w"]
    names = ["x", *(f"t{number}" for number in range(299)), "y"]
    nodes = [
        helper.make_node("Relu" if number % 2 else "Sigmoid", [source], [target])
        for number, (source, target) in enumerate(pairwise(names))
    ]
    items = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "deep", items[:1], items[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    script = (
        "import sys; from changeover_updater.cli.main import run; "
        "code = run(['fits', sys.argv[1], '--gpu', 'A4000']); print(code, 'torch' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)

    assert len(nodes) == 300
    assert done.stdout.splitlines()[-1] == "0 False"


def test_fleet_shows_each_class_once_with_what_limits_it(net: str, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "hosts"
    folder.mkdir()
    for name in ("rtx-a4000-16gib", "old-driver-16gib"):
        (folder / f"{name}.json").write_bytes(forged_host(name).to_bytes())
    twin = forged_host("rtx-a4000-16gib").model_copy(update={"host": "ws-043", "kernel": "other"})
    (folder / "ws-043.json").write_bytes(twin.to_bytes())

    code, found = asked(capsys, "fleet", net, "--host", str(folder), "--host", "unknown-gpus")

    assert code == 0
    rows = {tuple(row["hosts"]): row["cells"][0] for row in found["classes"]}
    assert set(rows) == {("old-driver-16gib",), ("rtx-a4000-16gib", "ws-043"), ("unknown-gpus",)}
    assert [rows[key]["answer"] for key in sorted(rows)] == ["incompatible", "fits", "unknown"]
    assert rows["old-driver-16gib",]["code"] == "driver-too-old"
    assert rows["rtx-a4000-16gib", "ws-043"]["point"] == "onnx/none/cuda"
    assert found["releases"] == ["mobilenet.onnx"]


def test_fleet_in_words_counts_what_fits_and_without_a_host_asks_for_one(net: str, tmp_path: Path, capsys: Any) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()

    code, text = shown(capsys, "fleet", net, "--host", "rtx-a4000-16gib", "--host", "no-gpu", "--plate", "512x512")
    none, why = shown(capsys, "fleet", net)
    folder, nothing = shown(capsys, "fleet", net, "--host", str(empty))

    assert code == 0
    assert "1 fit" in text
    assert "1 do not" in text
    assert (none, folder) == (2, 2)
    assert "facts --json" in why
    assert "no .json file" in nothing
