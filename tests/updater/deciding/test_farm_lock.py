from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.canonical import digest
from changeover_registry.errors import RefusedError, UndecidedError
from changeover_registry.names import release_folder
from changeover_registry.records.farm import FarmLock, OsPaths
from changeover_registry.records.station import (
    Answer,
    Generation,
    GenerationChannel,
    GenerationPin,
    GenerationRelease,
    InstalledFile,
    ScopeRules,
)
from changeover_updater.farm_lock import NODE_CLASSES, Job, answers_module, freeze
from changeover_updater.nuke_script import parse_script

STORE = "/mnt/store"


def release(model: str, version: str, **changes: Any) -> GenerationRelease:
    identity = digest(f"{model}{version}".encode())
    path = f"releases/{model}/{release_folder(version, identity)}/nuke-cat/m.cat"
    files = (InstalledFile(path=path, size=9, sha256=digest(path.encode())),)
    served = Answer(
        loader="nuke-inference",
        nuke_line="15.1",
        variant="nuke-cat",
        precision="fp16",
        tiles=("1024+64", "none"),
        path=path,
        files=files,
    )
    other = Answer(loader="nuke-inference", nuke_line="14.0", unavailable="not available in Nuke 14.0: torch")
    key = f"{model}@{version}-{identity[:12]}"
    return GenerationRelease(
        key=key, model=model, version=version, digest=identity, answers=(served, other)
    ).model_copy(update=changes)


OLD, NEW, FOG = release("acme/roto", "1.0.0"), release("acme/roto", "1.1.0"), release("acme/fog", "2.0.0")


def generation(*pins: GenerationPin, **fields: Any) -> Generation:
    """The channel serves 1.1.0 of roto, and 1.0.0 is kept."""
    named = {
        "releases": (OLD, NEW, FOG),
        "channels": tuple(
            GenerationChannel(channel="stable", model=entry.model, key=entry.key) for entry in (NEW, FOG)
        ),
        **fields,
    }
    return Generation(
        number=7,
        station="ws01",
        made_at="2026-11-22T13:45:00Z",
        why="a test",
        site="/site",
        nuke_lines=("14.0", "15.1"),
        pins=pins,
        **named,
    )


def pin(entry: GenerationRelease, **scope: str) -> GenerationPin:
    return GenerationPin(model=entry.model, key=entry.key, **scope)


def job(made: Generation | None = None, **changes: Any) -> Job:
    return replace(Job(made or generation(), STORE, "15.1", {}), **changes)


def node(name: str, entry: GenerationRelease | str | None = None, **knobs: str) -> str:
    """Script text of one node: stamped, of a model without a stamp, or none of ours."""
    if isinstance(entry, GenerationRelease):
        knobs = {
            "changeover_model": entry.model,
            "changeover_version": entry.version,
            "changeover_digest": entry.digest,
            **knobs,
        }
    elif entry:
        knobs = {"changeover_model": entry, **knobs}
    lines = "".join(f" {knob} {value}\n" for knob, value in knobs.items())
    return f"Inference {{\n name {name}\n{lines}}}\n"


def script(*nodes: str, root: str = "", path: str = "/shows/atlas/010/comp.nk") -> Any:
    text = f"version 15.1 v3\nRoot {{\n name x\n{root}}}\n" + "".join(nodes)
    return parse_script(text.encode(), path, NODE_CLASSES)


def test_a_stamped_node_is_locked_to_its_stamp_and_one_that_follows_to_what_its_channel_answers_now() -> None:
    inside = f"Group {{\n name Group1\n}}\n{node('Inference1', OLD)}end_group\n"

    found = freeze(script(inside, node("Inference2", "acme/roto"), node("Inference3", "fog")), job())

    assert [(line.node, line.ref(), line.source) for line in found.lines] == [
        ("Group1.Inference1", OLD.ref(), "stamp"),
        ("Inference2", NEW.ref(), "channel stable"),
        ("Inference3", FOG.ref(), "channel stable"),
    ]


def test_a_line_says_what_rendering_depends_on() -> None:
    text = node("Inference1", OLD, tileSize="1024", tileOverlap="64", halfPrecision="true")
    paths = OsPaths(linux="/net/store", windows="Z:\\store\\")

    (line,) = freeze(script(text), job(generation(farm_device="gpu"), paths=paths)).lines

    (answer, _) = OLD.answers
    assert (line.variant, line.precision, line.tile, line.half) == ("nuke-cat", "fp16", "1024+64", True)
    assert (line.nuke_line, line.device, line.files) == ("15.1", "gpu", answer.files)
    assert line.paths == {"linux": f"/net/store/{answer.path}", "windows": f"Z:/store/{answer.path}"}


def test_without_paths_the_lock_has_the_one_of_this_system() -> None:
    (line,) = freeze(script(node("Inference1", OLD)), job(system="macos")).lines

    assert line.paths == {"macos": f"{STORE}/{OLD.answers[0].path}"}


def test_a_tile_that_is_animated_is_not_told_and_one_that_was_not_proven_is_noted() -> None:
    animated = node("Inference1", OLD, tileSize="{{curve}}")
    unproven = node("Inference2", OLD, tileSize="4096")

    found = freeze(script(animated, unproven), job())

    assert [line.tile for line in found.lines] == [None, "4096+64"]
    assert found.notes == (f"Inference2: tile 4096+64 was not proven for {OLD.key} here; proven are 1024+64, none",)


def test_a_node_that_loads_a_file_of_a_release_is_adopted_as_the_plug_in_would_by_any_systems_path() -> None:
    climbing = f"{STORE}/stations/ws01/generations/7/nuke/15.1/Cattery/x/../../../../../../../../{OLD.answers[0].path}"
    windows = f'"Z:\\\\store\\\\{NEW.answers[0].path}"'

    found = freeze(
        script(node("Inference1", modelFile=climbing), node("Inference2", modelFile=windows)),
        job(paths=OsPaths(windows="Z:/store")),
    )

    assert [(line.node, line.ref(), line.source) for line in found.lines] == [
        ("Inference1", OLD.ref(), "stamp"),
        ("Inference2", NEW.ref(), "stamp"),
    ]


def test_a_node_that_is_none_of_ours_is_told_and_not_locked() -> None:
    found = freeze(script(node("Inference1", modelFile="/home/jane/mine.cat"), node("Inference2")), job())

    assert (found.lines, found.foreign) == ((), (("Inference1", "/home/jane/mine.cat"), ("Inference2", "")))


def test_a_withdrawn_release_is_locked_and_noted() -> None:
    gone = OLD.model_copy(update={"withdrawn": "leaks hair"})

    found = freeze(script(node("Inference1", OLD)), job(generation(releases=(gone, NEW, FOG))))

    assert found.notes == (f"Inference1: {OLD.key} was withdrawn by its vendor: leaks hair",)


MISSING = release("acme/roto", "0.9.0")
REFUSED: dict[str, tuple[str, Job, str]] = {
    "a stamp that the station does not keep": (
        node("Inference1", MISSING),
        job(),
        f"{MISSING.key}, which this node was made with, is not on this machine",
    ),
    "a stamp that was edited": (
        node("Inference1", OLD, changeover_digest="12"),
        job(),
        "acme/roto@1.0.0-12, which this node was made with, is not on this machine",
    ),
    "a model that nobody chose": (node("Inference1", "acme/grass"), job(), "no release of acme/grass is chosen"),
    "a model that nobody knows by that name": (node("Inference1", "grass"), job(), "no model grass is known"),
    "a Nuke that the release is not for": (
        node("Inference1", OLD),
        job(nuke_line="14.0"),
        "not available in Nuke 14.0: torch",
    ),
    "a Nuke that the station does not know": (
        node("Inference1", OLD),
        job(nuke_line="17.0"),
        "this station prepares models for 14.0, 15.1",
    ),
    "a file of the store that no release has": (
        node("Inference1", modelFile=f"{STORE}/{MISSING.answers[0].path}"),
        job(),
        "which is none of its files, and no stamp",
    ),
    "a file that failed by name": (
        node("Inference1", modelFile=f"{STORE}/not-available/acme/roto.cat"),
        job(),
        "which is none of its files, and no stamp",
    ),
    "a file that is gone": (node("Inference1", OLD), job(there=lambda _: False), "is not on this machine"),
    "a node that is kept from the GPU where the policy wants one": (
        node("Inference1", OLD, useGPUIfAvailable="false"),
        job(generation(farm_device="gpu")),
        "which the policy wants, found Use GPU if available is off",
    ),
    "a node that is kept from the GPU where the job wants one": (
        node("Inference1", OLD, useGPUIfAvailable="false"),
        job(device="gpu"),
        "which the job wants, found Use GPU if available is off",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_node_that_cannot_be_answered_for_is_refused_by_name(name: str) -> None:
    text, asked, sentence = REFUSED[name]

    with pytest.raises(RefusedError) as caught:
        freeze(script(text), asked)

    assert "Inference1" in str(caught.value)
    assert sentence in str(caught.value)


def test_every_node_that_cannot_be_answered_for_is_named_in_one_line() -> None:
    nodes = [node(f"Inference{number}", MISSING) for number in range(1, 4)]

    with pytest.raises(RefusedError) as caught:
        freeze(script(*nodes, node("Inference9", OLD)), job())

    assert "Inference1" in caught.value.where
    assert str(caught.value).count("and 2 more: Inference2, Inference3") == 1


def test_a_node_that_is_kept_from_the_gpu_on_purpose_is_locked_to_the_cpu() -> None:
    (line,) = freeze(script(node("Inference1", OLD, useGPUIfAvailable="false")), job()).lines

    assert line.device == "cpu"


UNKNOWN: dict[str, tuple[str, Job, str]] = {
    "a pin of a show": (node("I", OLD), job(generation(pin(NEW, show="atlas"))), "a pin for show atlas may apply"),
    "a pin of a shot in a known show": (
        node("I", OLD),
        job(generation(pin(NEW, show="atlas", sequence="010", shot="0020")), scope=("atlas", None, None)),
        "a pin for show atlas, sequence 010, shot 0020 may apply",
    ),
    "a show's channel": (
        node("I", "acme/roto"),
        job(
            generation(
                channels=(
                    GenerationChannel(channel="stable", model="acme/roto", key=NEW.key),
                    GenerationChannel(channel="show/atlas", model="acme/roto", key=OLD.key),
                )
            )
        ),
        "channel show/atlas may apply",
    ),
    "a show that follows": (
        node("I", OLD),
        job(generation(follow=("borea",))),
        "show borea, whose nodes follow their channel, may be this one",
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_scope_that_is_not_known_is_undecided_where_it_could_change_the_answer(name: str) -> None:
    text, asked, sentence = UNKNOWN[name]

    with pytest.raises(UndecidedError) as caught:
        freeze(script(text), asked)

    assert sentence in str(caught.value)
    assert "give --show" in str(caught.value)


def test_a_scope_that_is_not_known_and_changes_nothing_is_passed_over() -> None:
    made = generation(pin(FOG, show="atlas"), pin(OLD))

    (line,) = freeze(script(node("I", NEW)), job(made)).lines

    assert (line.ref(), line.source) == (OLD.ref(), "pin")


@pytest.mark.parametrize("source", ["environment", "path", "knobs", "flags"])
def test_the_scope_comes_from_where_the_generation_says_and_a_pin_of_it_is_locked(source: str) -> None:
    made = generation(pin(OLD, show="atlas"), pin(NEW, show="borea"), scope=ScopeRules(path=r"/shows/(?P<show>[^/]+)/"))
    asked = job(
        made,
        environment={"SHOW": "atlas"} if source == "environment" else {},
        scope=("atlas", None, None) if source == "flags" else None,
    )
    path = "/shows/atlas/x.nk" if source in {"path", "environment"} else "/home/x.nk"
    root = " changeover_show atlas\n" if source == "knobs" else ""

    (line,) = freeze(script(node("I", NEW), root=root, path=path), asked).lines

    assert (line.ref(), line.source) == (OLD.ref(), "pin")


def test_graph_scope_variables_that_are_asked_first_leave_the_scope_unknown() -> None:
    rules = ScopeRules(order=("gsv", "environment"))
    asked = job(generation(pin(OLD, show="atlas"), scope=rules), environment={"SHOW": "borea"})
    without = script(node("I", NEW))

    assert freeze(without, asked).lines[0].ref() == NEW.ref()
    with pytest.raises(UndecidedError, match="Graph Scope Variables, which only Nuke can read"):
        freeze(script(node("I", NEW), root=" gsv {{default {show atlas}}}\n"), asked)


names = st.sampled_from(["acme/roto", "roto", "acme/fog", "fog", "none"])
stamps = st.sampled_from([None, OLD, NEW, FOG, MISSING])
shows = st.sampled_from([None, "atlas", "borea"])
pins = st.lists(
    st.builds(pin, st.sampled_from([OLD, NEW, FOG]), show=st.sampled_from(["atlas", "borea"])),
    max_size=2,
    unique_by=lambda entry: (entry.model, entry.show),
)


@given(names, stamps, shows, pins, st.booleans())
@settings(deadline=None)
def test_the_lock_says_of_every_node_what_the_plug_in_says(
    name: str, stamp: GenerationRelease | None, show: str | None, chosen: list[GenerationPin], follows: bool
) -> None:
    made = generation(*chosen, follow=("atlas",) if follows else ())
    module = answers_module()
    frozen = module.Frozen(STORE, made.model_dump(mode="json", exclude_none=True))
    kept = module.Release(stamp.model, stamp.version, stamp.digest) if stamp else None
    asked = module.Question(
        stamp.model if stamp else name, "nuke-inference", "15.1", module.Scope(show), kept, "Inference1"
    )
    text = script(node("Inference1", stamp or name))
    expected = module.resolve(frozen, asked, None)

    try:
        (line,) = freeze(text, job(made, scope=(show, None, None))).lines
    except RefusedError:
        assert expected.path is None
    except UndecidedError:
        assert show is None
    else:
        assert line.ref().digest == expected.release.digest
        lock = FarmLock(releases=(line,))
        entry = module.LockEntry(module.Release(line.model, line.version, line.digest), line.node)
        assert FarmLock.from_bytes(lock.to_bytes(), where="here") == lock
        assert module.resolve(frozen, asked, [entry]).release == expected.release


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The plug-in's own reader of locks, with nothing but its folder on the path."""
    from importlib import import_module

    from changeover_updater.plugin import plugin_folder

    monkeypatch.syspath_prepend(str(plugin_folder()))
    return lambda: import_module("changeover_nuke_store")


def test_the_plug_in_reads_what_is_written(plugged: Any, tmp_path: Any) -> None:
    found = freeze(script(node("Inference1", OLD), node("Inference2", "roto")), job(generation(farm_device="gpu")))
    path = tmp_path / "job.lock"
    path.write_bytes(FarmLock(releases=found.lines, script="x.nk", generation=7).to_bytes())

    entries = plugged().read_lock({"CHANGEOVER_LOCK": str(path)})

    assert [(entry.release.key, entry.node, entry.device, entry.line) for entry in entries] == [
        (OLD.key, "Inference1", "gpu", "15.1"),
        (NEW.key, "Inference2", "gpu", "15.1"),
    ]
    assert entries[0].files == tuple((file.path, file.sha256) for file in OLD.answers[0].files)
