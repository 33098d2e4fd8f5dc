import time
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.canonical import digest
from changeover_registry.errors import InvalidInputError, RefusedError, UndecidedError
from changeover_registry.records.base import Unknown
from changeover_registry.records.facts import Gpu, HostFacts
from changeover_registry.records.farm import FarmLock, LockedNode
from changeover_registry.records.station import Answer, Generation, GenerationRelease, InstalledFile
from changeover_updater.ensure import device_problem, lacking, read_lock

IDENTITY = digest(b"roto 1.0.0")
CAT = InstalledFile(path="releases/acme/roto/x/cat/m.cat", size=9, sha256=digest(b"cat"))
ONNX = InstalledFile(path="releases/acme/roto/x/onnx/m.onnx", size=9, sha256=digest(b"onnx"))


def generation(**changes: Any) -> Generation:
    served = Answer(loader="nuke-inference", nuke_line="15.1", variant="cat", path=CAT.path, files=(CAT,))
    python = Answer(loader="python", variant="onnx", path=ONNX.path, files=(ONNX,))
    none = Answer(loader="nuke-inference", nuke_line="14.0", unavailable="not available in Nuke 14.0: torch")
    held = GenerationRelease(
        key=f"acme/roto@1.0.0-{IDENTITY[:12]}",
        model="acme/roto",
        version="1.0.0",
        digest=IDENTITY,
        answers=(served, python, none),
    ).model_copy(update=changes)
    return Generation(
        number=3, station="r1", made_at="2026-11-22T13:45:00Z", why="a test", site="/site", releases=(held,)
    )


def line(**changes: Any) -> LockedNode:
    made = LockedNode(
        model="acme/roto", version="1.0.0", digest=IDENTITY, node="I", nuke_line="15.1", variant="cat", files=(CAT,)
    )
    return made.model_copy(update=changes)


def lack(one: LockedNode, made: Generation | None, *missing: InstalledFile) -> list[tuple[str, str]]:
    found = lacking(FarmLock(releases=(one,)), made, lambda file: file not in missing)
    return [(entry.what, entry.why) for entry in found]


def test_what_is_here_lacks_nothing() -> None:
    assert lack(line(), generation()) == []
    assert lack(line(), generation(), ONNX) == [], "what another loader has is not this job's"


def test_a_release_that_the_station_does_not_keep_is_absent() -> None:
    told = f"acme/roto@1.0.0-{IDENTITY[:12]} is not kept by this station"
    other = line(digest=IDENTITY[:12] + "0" * 52)

    assert lack(line(), None) == [("absent", told)]
    assert lack(other, generation()) == [("absent", told)], "a digest that only begins alike is another release"


def test_a_lock_of_thirty_thousand_nodes_is_read_and_one_of_them_twice_is_found(tmp_path: Path) -> None:
    """Comparing each node with each other one took minutes, so this needs no exact bound."""
    whole = FarmLock(releases=tuple(line(node=f"I{number}") for number in range(30_000)))
    (tmp_path / "job.lock").write_bytes(whole.to_bytes())
    began = time.process_time()

    assert len(read_lock(tmp_path / "job.lock").releases) == 30_000
    assert time.process_time() - began < 30
    with pytest.raises(ValueError, match="expected each node once, found I7 twice"):
        FarmLock(releases=(*whole.releases, line(node="I7")))


def test_a_file_that_is_missing_is_gone() -> None:
    assert lack(line(), generation(), CAT) == [("gone", f"{CAT.path} is missing")]


def test_a_line_for_no_nuke_line_needs_all_that_the_release_has_here() -> None:
    assert lack(line(nuke_line=None, files=()), generation(), ONNX) == [("gone", f"{ONNX.path} is missing")]
    assert lack(line(nuke_line=None, files=()), generation()) == []


def test_what_this_host_loads_must_be_what_was_frozen() -> None:
    frozen = line(files=(CAT.model_copy(update={"sha256": "0" * 64}),), variant="cat-fp16")

    assert lack(frozen, generation()) == [("other", "Nuke 15.1 gets the variant cat here, and the lock froze cat-fp16")]
    assert lack(line(nuke_line="14.0"), generation()) == [("other", "not available in Nuke 14.0: torch")]
    assert lack(line(nuke_line="17.0"), generation()) == [("other", "this station prepares nothing for Nuke 17.0")]


def facts(gpus: Any, **changes: Any) -> HostFacts:
    return HostFacts(
        host="r1",
        os="linux",
        kernel="6.1",
        cpu_level="x86_64_v3",
        cores=2,
        ram_mib=1,
        gpus=gpus,
        runtimes=(),
        **changes,
    )


GPU = Gpu(name="RTX", uuid="GPU-1", compute_capability="8.9", display=False, total_mib=100, reserved_mib=1, free_mib=90)


def test_a_worker_is_stopped_only_where_a_gpu_is_wanted_and_none_is_there() -> None:
    assert device_problem(wanted=False, facts=facts(())) is None
    assert device_problem(wanted=True, facts=facts((GPU,))) is None
    assert isinstance(device_problem(wanted=True, facts=facts(())), RefusedError)
    assert isinstance(device_problem(wanted=True, facts=facts(Unknown(unknown="no answer"))), UndecidedError)
    assert isinstance(device_problem(wanted=True, facts=facts((GPU,), nuke_gpu="GPU-9")), UndecidedError)


def test_a_lock_that_cannot_be_read_is_invalid_input(tmp_path: Path) -> None:
    path = tmp_path / "job.lock"
    with pytest.raises(InvalidInputError, match="no such file"):
        read_lock(path)

    path.write_bytes(FarmLock(releases=(line(),)).to_bytes())
    assert read_lock(path).releases == (line(),)

    path.write_bytes(b'{"schema":"changeover.lock/1"}')
    with pytest.raises(InvalidInputError, match="releases"):
        read_lock(path)


def test_a_lock_that_names_a_node_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="expected each node once, found I twice"):
        FarmLock(releases=(line(), line(version="1.1.0")))


@pytest.mark.parametrize("root", ["store", "/my store", "/a/../b", "C:store", "/st%ore", ""])
def test_a_root_that_farms_would_misread_is_refused(root: str) -> None:
    from changeover_registry.records.farm import OsPaths

    with pytest.raises(ValueError, match="expected an absolute path"):
        OsPaths(linux=root)
