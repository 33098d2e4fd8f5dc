"""A .cat that is named is measured inside a licensed Nuke of the host; a program stands in for Nuke."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from changeover_registry.errors import InvalidInputError, UndecidedError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import HostFacts, NukeInstall
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import (
    Contract,
    FileEntry,
    Interface,
    Licences,
    Port,
    Release,
    Requires,
    TensorIn,
    TensorOut,
    Variant,
)
from changeover_updater.cli.measure import _cat_object
from changeover_updater.measure import Wish, cat_of, measure_cat
from changeover_updater.subjects import Subject
from changeover_validators.runtimes.sandbox import available

ROOT = Path(__file__).parents[3]
RGB = ("rgba.red", "rgba.green", "rgba.blue")
WISH = Wish(variant="nuke-cat-torch2.1", runs=1)


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    (tmp_path / "Roto.cat").write_text("red", encoding="utf-8")
    digest = "ab" * 32
    cat = Variant(
        id="nuke-cat-torch2.1",
        runtime="nuke-cat",
        precision="fp32",
        loaders=("nuke-inference",),
        entry="Roto.cat",
        files=(FileEntry(path="Roto.cat", size=3, sha256=digest, blocks=(digest,)),),
        contract=Contract(
            evaluation="stateless",
            inputs=(TensorIn(name="image", port="plate", channels=RGB),),
            output=TensorOut(name="matte", port="matte", rule="as-is"),
            colour="scene-linear",
        ),
        requires=Requires(torch_line="2.1.1"),
    )
    release = Release(
        model="acme/roto",
        version="1.0.0",
        summary="s",
        changes="c",
        licences=Licences(code="MIT", weights="MIT", training_data="none"),
        interface=Interface(
            inputs=(Port(name="plate", channels=RGB, colour="scene-linear"),),
            outputs=(Port(name="matte", channels=("rgba.alpha",), colour="raw"),),
        ),
        variants=(cat,),
    )
    return Subject("acme/roto@1.0.0", release, lambda _: tmp_path)


@pytest.fixture
def policy() -> Policy:
    found = Policy()
    return found.model_copy(update={"vram": found.vram.model_copy(update={"plate": (64, 32)})})


def facts(*nukes: NukeInstall) -> HostFacts:
    unknown = Unknown(unknown="not asked")
    return HostFacts(
        host="ws-01",
        os="linux",
        kernel="6.1",
        cpu_level=unknown,
        cores=2,
        ram_mib=unknown,
        gpus=(),
        runtimes=(),
        nukes=nukes,
    )


def cat(subject: Subject) -> Variant:
    found = cat_of(subject, WISH)
    assert found is not None
    return found


def test_only_a_cat_that_is_named_is_one(subject: Subject) -> None:
    assert cat(subject).id == "nuke-cat-torch2.1"
    assert cat_of(subject, Wish()) is None
    assert cat_of(subject, Wish(variant="onnx-fp32")) is None


def test_without_a_licensed_nuke_it_is_not_run(subject: Subject, policy: Policy) -> None:
    with pytest.raises(UndecidedError):
        measure_cat(subject, cat(subject), WISH, facts(NukeInstall(version="15.1v3", torch_line="2.1.1")), policy)


def test_a_tile_that_it_does_not_have_is_invalid(subject: Subject, policy: Policy) -> None:
    with pytest.raises(InvalidInputError, match="a tile of nuke-cat"):
        measure_cat(subject, cat(subject), Wish(variant=WISH.variant, tile=512), facts(), policy)


@pytest.mark.skipif(available().name != "bubblewrap", reason="no bubblewrap on this machine")
def test_a_licensed_nuke_tells_what_it_holds(subject: Subject, policy: Policy, tmp_path: Path) -> None:
    folder = tmp_path / "Nuke15.1v3"
    folder.mkdir()
    shutil.copy(ROOT / "tests" / "validators" / "runtimes" / "nuke" / "standin.py", folder)
    shutil.copy(ROOT / "tests" / "plugins" / "nuke" / "standin" / "nuke.py", folder)
    program = folder / "Nuke15.1"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I {folder}/standin.py "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    reads = (str(ROOT), sys.prefix, sys.base_prefix)
    nuke = NukeInstall(version="15.1v3", torch_line="2.1.1", path=str(program), reads=reads)

    found = measure_cat(subject, cat(subject), WISH, facts(nuke), policy)

    told = json.loads(json.dumps(_cat_object(found)))
    assert told["nuke"] == "Nuke 15.1v3"
    assert told["resident"] > 10 << 20
    assert "on the CPU" in told["steady"]["unknown"]
    assert "on the CPU" in told["model_bytes"]["unknown"]
