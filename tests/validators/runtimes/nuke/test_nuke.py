"""A .cat through ``nuke -t``, with a program that stands in for Nuke; the script that runs in it is the real one."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from changeover_registry.errors import ChangeoverError, MeasurementError, UndecidedError
from changeover_registry.records.release import Contract, Port, State, TensorIn, TensorOut, Tile
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.nuke import NukeProcess
from changeover_validators.runtimes.nuke_request import NukeRequest, environment, executable_of, exr_name, licence_line
from changeover_validators.runtimes.process import ModelProcess
from changeover_validators.runtimes.sandbox import Isolation, available

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
Make = Callable[..., NukeRequest]
RGB = ("rgba.red", "rgba.green", "rgba.blue")
PORTS = (Port(name="plate", channels=RGB, colour="scene-linear"),)
OUTPUTS = (Port(name="matte", channels=("rgba.alpha",), colour="raw"),)

pytestmark = pytest.mark.skipif(available().name != "bubblewrap", reason="no bubblewrap on this machine")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The folder of a Nuke that is none."""
    folder = tmp_path / "Nuke15.1v3"
    folder.mkdir()
    shutil.copy(HERE / "standin.py", folder)
    shutil.copy(ROOT / "tests" / "plugins" / "nuke" / "standin" / "nuke.py", folder)
    program = folder / "Nuke15.1"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I {folder}/standin.py "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return folder


@pytest.fixture
def cat_contract() -> Contract:
    return Contract(
        evaluation="stateless",
        inputs=(TensorIn(name="image", port="plate", channels=RGB),),
        output=TensorOut(name="matte", port="matte", rule="as-is"),
        colour="scene-linear",
    )


@pytest.fixture
def ask(installed: Path, tmp_path: Path, cat_contract: Contract) -> Make:
    """A request for a file of the given content that stands for a .cat, with whatever the test changes."""

    def make(cat: bytes | str, **changes: Any) -> NukeRequest:
        folder = tmp_path / "variant"
        folder.mkdir(exist_ok=True)
        (folder / "Roto.cat").write_bytes(cat.encode() if isinstance(cat, str) else cat)
        fields: dict[str, Any] = {
            "nuke": installed / "Nuke15.1",
            "script": ROOT / "plugins" / "nuke" / "score.py",
            "folder": folder,
            "entry": "Roto.cat",
            "contract": cat_contract,
            "tile": Tile(size=0),
            "half": False,
            "provider": "cpu",
            "wall_seconds": 60.0,
            "start_seconds": 60.0,
            "ram_mib": 4096,
            "ports": PORTS,
            "outputs": OUTPUTS,
            "visible": (ROOT, Path(sys.prefix), Path(sys.base_prefix)),
        }
        return NukeRequest(**(fields | changes))

    return make


def failed(request: NukeRequest, plate: Any) -> ChangeoverError:
    with pytest.raises(ChangeoverError) as caught, NukeProcess(request) as model:
        model.infer({"plate": plate}, reset=True)
    return caught.value


def test_a_matte_comes_back_from_nuke_frame_by_frame_with_what_ran_it(ask: Make, plate: Any) -> None:
    with NukeProcess(ask("red")) as model:
        first = model.infer({"plate": plate}, reset=True)
        second = model.infer({"plate": plate[::-1]}, reset=False)
        work = model._running.work if model._running else None

    np.testing.assert_array_equal(first.matte, plate[..., 0])
    np.testing.assert_array_equal(second.matte, plate[::-1, :, 0])
    assert first.frame_us > 0
    assert (model.started.provider_ran, model.started.runtime_version) == ("cpu", "Nuke 15.1v3")
    assert model.started.first_load_us > model.started.load_us
    assert model.peak_rss_bytes > 0
    assert work is not None
    assert not work.exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_cat_and_its_twin_in_the_child_give_the_same_matte(
    ask: Make, request_for: Callable[..., RunRequest], cat_contract: Contract, plate: Any, tmp_path: Path
) -> None:
    """What the contract does to a frame is the same here and there: normalised, padded, cropped."""
    torch = pytest.importorskip("torch")
    module: Any = type("Net", (torch.jit.ScriptModule,), {})()
    module.define("def forward(self, x):\n    return torch.sigmoid(x[:, 0:1] * 3.0 - x[:, 1:2] + 0.1)\n")
    module.save(str(tmp_path / "net.pt"))
    image = TensorIn(name="image", port="plate", channels=RGB, mean=("0.5",) * 3, scale=("2", "3", "4"))
    contract = cat_contract.model_copy(update={"inputs": (image,), "multiple": 16})
    twin = request_for(folder=tmp_path, entry="net.pt", runtime="torchscript", contract=contract, ports=PORTS)

    with NukeProcess(ask((tmp_path / "net.pt").read_bytes(), contract=contract)) as inside:
        in_nuke = inside.infer({"plate": plate}, reset=True).matte
    with ModelProcess(twin) as child:
        in_child = child.infer({"plate": plate}, reset=True).matte

    np.testing.assert_allclose(in_nuke, in_child, atol=1e-6)


def test_the_operating_point_becomes_the_nodes_knobs(ask: Make, installed: Path, plate: Any) -> None:
    (installed / "gpu").touch()
    request = ask("knobs", tile=Tile(size=2048, overlap=64), half=True, provider="cuda")

    with NukeProcess(request) as model:
        told = model.infer({"plate": plate[:4]}, reset=True).matte[:, 0]

    assert told.tolist() == pytest.approx([1, 1, 1, 0.64])
    assert model.started.provider_ran == "cuda"


@pytest.mark.parametrize(
    ("deed", "rule", "said"),
    [
        ("crash", "crash", "SIGSEGV"),
        ("sleep", "hang", "within 2 s"),
        ("error MLPlanarIop -> Unknown Error", "unknown", "MLPlanarIop -> Unknown Error"),
        ("error CUDA out of memory", "out of device memory", "CUDA out of memory"),
        ("missing", "crash", "a matte for every frame"),
        ("nan", "not finite", "1200 of 1200 values"),
        ("small", "output", "[1, 1, 15, 20]"),
        ("memory", "out of host memory", "at most 600 MiB"),
    ],
)
def test_what_goes_wrong_in_nuke_has_a_name(ask: Make, plate: Any, deed: str, rule: str, said: str) -> None:
    bounds = {"sleep": ("wall_seconds", 2.0), "memory": ("ram_mib", 600)}

    error = failed(ask(deed, **dict([bounds[deed]] if deed in bounds else [])), plate)

    assert isinstance(error, MeasurementError)
    assert error.rule == rule
    assert said in str(error)


def test_no_licence_is_undecided_and_not_the_models_fault(ask: Make, installed: Path, plate: Any) -> None:
    (installed / "no-licence").touch()

    error = failed(ask("red"), plate)

    assert isinstance(error, UndecidedError)
    assert error.rule == "licence"
    assert "no licenses of nuke_r" in error.actual


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("Failed to obtain a license: no licenses of nuke_r found", True),
        ("RLM error -5: cannot connect to the server", True),
        ("A licence could not be found.", True),
        ("/opt/licensed/nuke: exec: not found", False),
        ("Licensed to Example Films.", False),
        ("error: no such node", False),
    ],
)
def test_only_a_line_that_misses_a_licence_is_one(text: str, missing: bool) -> None:
    assert licence_line(f"Nuke 15.1\n{text}\n") == (text if missing else "")


def test_a_nuke_that_does_not_start_is_ended(ask: Make, installed: Path, plate: Any) -> None:
    (installed / "no-start").touch()

    error = failed(ask("red", start_seconds=1.0), plate)

    assert error.rule == "hang"


def test_a_gpu_that_nuke_does_not_use_is_an_error_and_no_run_on_the_cpu(ask: Make, plate: Any) -> None:
    error = failed(ask("red", provider="cuda"), plate)

    assert error.rule == "provider"
    assert "Not available" in error.actual


def test_what_runs_in_nuke_writes_nothing_outside_its_folder_and_reads_no_home(
    ask: Make, tmp_path: Path, plate: Any
) -> None:
    (tmp_path / "variant").mkdir()
    secret = tmp_path / "secret"
    secret.write_text("a key", encoding="utf-8")
    places = [str(secret), str(tmp_path / "planted"), str(tmp_path / "variant" / "planted"), str(ROOT / "planted")]

    with NukeProcess(ask("plant " + json.dumps(places))) as model:
        seen = model.infer({"plate": plate}, reset=True).matte

    assert secret.read_text(encoding="utf-8") == "a key"
    assert not any(Path(place).exists() for place in places[1:])
    assert [path.name for path in (tmp_path / "variant").iterdir()] == ["Roto.cat"]
    assert seen.shape == plate.shape[:2]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tile": Tile(size=512)}, "a tile of 0, 1024, 2048, 4096"),
        ({"entry": "Gone.cat"}, "the .cat in its folder"),
        ({"nuke": Path("/nowhere/Nuke15.1")}, "nothing at /nowhere/Nuke15.1"),
    ],
)
def test_what_the_node_cannot_do_is_not_run(ask: Make, plate: Any, changes: dict[str, Any], said: str) -> None:
    error = failed(ask("red", **changes), plate)

    assert isinstance(error, UndecidedError)
    assert said in str(error)


def test_a_contract_that_the_node_cannot_honour_is_not_run(ask: Make, cat_contract: Contract, plate: Any) -> None:
    two = (*cat_contract.inputs, TensorIn(name="trimap", port="plate", channels=("rgba.red",)))
    several = cat_contract.model_copy(update={"inputs": two})
    remembering = cat_contract.model_copy(update={"evaluation": "sequence", "states": (State(input="s", output="t"),)})

    assert "one tensor in" in str(failed(ask("red", contract=several), plate))
    assert "no states" in str(failed(ask("red", contract=remembering), plate))


def test_without_bubblewrap_nuke_is_not_started(ask: Make) -> None:
    with pytest.raises(UndecidedError, match="not run"), NukeProcess(ask("red"), Isolation("namespaces", "x", "/u")):
        pytest.fail("it ran")


def test_nukes_environment_keeps_the_licence_and_none_of_our_secrets(tmp_path: Path) -> None:
    outer = {"foundry_LICENSE": "4101@lic", "AWS_SECRET_ACCESS_KEY": "x", "CHANGEOVER_SITE": "/s", "PYTHONPATH": "/p"}

    inner = environment(outer, tmp_path)

    assert inner["foundry_LICENSE"] == "4101@lic"
    assert not {"AWS_SECRET_ACCESS_KEY", "CHANGEOVER_SITE", "PYTHONPATH"} & set(inner)
    assert inner["HOME"] == str(tmp_path / "home")


def test_the_program_is_found_by_its_folder_or_by_itself(installed: Path) -> None:
    program = installed / "Nuke15.1"

    assert executable_of(str(installed), "15.1") == executable_of(str(program), "15.1") == program
    assert executable_of(str(installed), "16.0") is None
    assert executable_of(None, "15.1") is None


@pytest.mark.parametrize(
    ("channel", "name"),
    [("rgba.red", "R"), ("rgba.alpha", "A"), ("G", "G"), ("blue", "B"), ("depth.Z", "depth.Z"), ("mask.a", "mask.a")],
)
def test_channels_have_the_names_that_nuke_writes(channel: str, name: str) -> None:
    assert exr_name(channel) == name
