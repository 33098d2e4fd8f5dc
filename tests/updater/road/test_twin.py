"""A .cat at ``check``: by its twin under the torch line that the Nuke embeds, inside a licensed Nuke, or not at all."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.records.facts import NukeInstall, RuntimeFacts
from changeover_updater.vendor import smoke
from changeover_validators.runtimes.sandbox import available

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.skipif(available().name is None, reason="nothing isolates a child on this machine"),
]

ROOT = Path(__file__).parents[3]
LINE = version("torch").partition("+")[0]
TOML = """\
schema = "changeover.release-toml/1"
model = "acme/edge-roto"
version = "1.0.0"
summary = "A file for Nuke and its twin."
changes = "first"
[licences]
code = "Apache-2.0"
weights = "CC-BY-4.0"
training_data = "CC0-1.0"
[[interface.inputs]]
name = "plate"
channels = ["R", "G", "B"]
colour = "scene-linear"
[[interface.outputs]]
name = "matte"
channels = ["A"]
colour = "raw"
[[variants]]
id = "torchscript"
runtime = "torchscript"
precision = "fp32"
loaders = ["python"]
[variants.contract]
evaluation = "stateless"
colour = "scene-linear"
[[variants.contract.inputs]]
name = "image"
[variants.contract.output]
name = "matte"
[variants.requires]
torch_line = "1.12.1"
[[variants]]
id = "nuke-cat"
runtime = "nuke-cat"
precision = "fp32"
loaders = ["nuke-inference"]
derived_from = "torchscript"
[variants.contract]
evaluation = "stateless"
colour = "scene-linear"
[[variants.contract.inputs]]
name = "image"
[variants.contract.output]
name = "matte"
[variants.requires]
torch_line = "1.12.1"
"""


@dataclass
class Judged:
    """The exit code and the report of the .cat's operating point."""

    code: int
    point: dict[str, Any]

    def jaccard(self) -> list[float]:
        """Of the candidate, shot by shot."""
        return [float(s["candidate"]) for s in self.point["scores"] if s["metric"].startswith("jaccard:")]

    def finding(self, check: str) -> dict[str, Any]:
        return next(f for f in self.point["findings"] if f["check"] == check)


@pytest.fixture(scope="module")
def release_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red as a matte: one archive, as the twin and as what stands for a .cat."""
    folder = tmp_path_factory.mktemp("edge")
    module: Any = type("Red", (torch.jit.ScriptModule,), {})()
    module.define(
        "def forward(self, x):\n    return torch.sigmoid((x[:, :1] - (x[:, 1:2] + x[:, 2:]) / 2 - 0.3) * 14.)\n"
    )
    for place in ("torchscript/model.pt", "nuke-cat/Edge.cat"):
        (folder / place).parent.mkdir()
        module.save(str(folder / place))
    (folder / "release.toml").write_text(TOML, encoding="utf-8")
    smoke(folder, interpreter=sys.executable)
    return folder


@pytest.fixture
def judge(
    make_world: Callable[..., Any], add_shots: Callable[..., None], release_folder: Path
) -> Callable[..., Judged]:
    """Checks the release in a studio whose machine has torch, and whatever Nukes the test says."""
    world = make_world(executable=True)
    here = RuntimeFacts(name="torch", version=version("torch"), interpreter=sys.executable, providers=("cpu",))
    world.facts = world.facts.model_copy(update={"runtimes": (here,)})
    world.without_mlflow()
    add_shots(world, "hero", [2, 2])

    def judged(*nukes: NukeInstall) -> Judged:
        world.has_nukes(*nukes)
        code, out, err = world.run("check", "edge-roto@1.0.0", "--set", "hero", "--json")
        assert out, err
        (point,) = [p for p in json.loads(out)["points"] if p["point"]["variant"] == "nuke-cat"]
        return Judged(code, point)

    world.publish(str(release_folder))
    return judged


@pytest.fixture
def licensed(tmp_path: Path) -> NukeInstall:
    """A program that stands in for Nuke; the script that it runs is the real one."""
    if available().name != "bubblewrap":
        pytest.skip("no bubblewrap on this machine")
    folder = tmp_path / "Nuke15.1v3"
    folder.mkdir()
    shutil.copy(ROOT / "tests" / "validators" / "runtimes" / "nuke" / "standin.py", folder)
    shutil.copy(ROOT / "tests" / "plugins" / "nuke" / "standin" / "nuke.py", folder)
    program = folder / "Nuke15.1"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I {folder}/standin.py "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    reads = (str(ROOT), sys.prefix, sys.base_prefix)
    return NukeInstall(version="15.1v3", torch_line="2.1.1", path=str(folder), reads=reads)


def test_the_twin_is_evidence_under_the_line_that_the_nuke_embeds_and_under_no_other(
    judge: Callable[..., Judged],
) -> None:
    other = judge(NukeInstall(version="15.1v3", torch_line="2.1.1"))
    same = judge(NukeInstall(version="99.1v1", torch_line=LINE))

    not_run = other.finding("golden")
    assert other.code == 4
    assert (not_run["outcome"], not_run["remedy"]) == ("not-run", "make one: changeover runtimes add torch==2.1.1")
    assert not other.point.get("scores")
    assert (same.point["evidence"], same.point["runtime_version"]) == ("twin", version("torch"))
    assert same.jaccard() == pytest.approx([1, 1], abs=0.1)


def test_a_licensed_nuke_goes_before_the_twin_and_the_file_itself_is_scored(
    judge: Callable[..., Judged], licensed: NukeInstall
) -> None:
    inside = judge(licensed)

    assert inside.point["evidence"] == "nuke"
    assert inside.point["runtime_version"] == "Nuke 15.1v3"
    assert inside.jaccard() == pytest.approx([1, 1], abs=0.1)
