import json
from pathlib import Path
from typing import Any

import pytest

from changeover_updater.writers.nuke_index import INDEX_NAME, nuke_index


@pytest.fixture
def full(situation: Any) -> Any:
    """A generation with two vendors of one name, channels, a show's channel, pins, a follower and a lone channel."""
    ours = [situation.release("acme/roto", version) for version in ("1.0.0", "1.1.0")]
    theirs = situation.release("blur/roto", "2.0.0")
    fog = situation.release("acme/fog", "0.1.0", lines=("16.0",))
    return situation.generation(
        1,
        *ours,
        theirs,
        fog,
        stable=(ours[0], theirs),
        channels=(situation.channel("show/atlas", ours[1]),),
        pins=(situation.pin(ours[0], show="atlas", sequence="010"), situation.pin(fog)),
        follow=("atlas",),
        farm_device="gpu",
    )


QUESTIONS = [
    (model, loader, line, scope, stamp)
    for model in ("acme/roto", "blur/roto", "roto", "fog", "acme/fog", "none", "acme/none")
    for loader in ("nuke-inference", "python")
    for line in ("15.1", "16.0", "14.0")
    for scope in ((None, None, None), ("atlas", None, None), ("atlas", "010", None), ("borea", "010", "0020"))
    for stamp in (None, "1.0.0", "9.0.0")
]


def test_the_index_answers_every_question_as_the_generation_does(situation: Any, full: Any, answers: Any) -> None:
    path = situation.put(full) / INDEX_NAME
    by_file = answers.Frozen(str(situation.root), json.loads((path.parent / "generation.json").read_bytes()))
    first, *_ = path.read_bytes().split(b"\n")
    indexed = answers.Frozen(str(situation.root), json.loads(first), _lines(path).__getitem__)

    for model, loader, line, scope, version in QUESTIONS:
        known = by_file.releases("acme/roto")
        stamp = next((r for r in known if r.version == version), None) if version else None
        asked = answers.Question(model, loader, line, answers.Scope(*scope), stamp, "Inference1")
        lock = [answers.LockEntry(known[1])]
        for frozen_lock in (None, lock):
            assert answers.resolve(by_file, asked, frozen_lock) == answers.resolve(indexed, asked, frozen_lock), asked
    for name in ("models", "number", "station", "channel", "follow", "lines", "rules", "device"):
        one, other = getattr(by_file, name), getattr(indexed, name)
        assert (one() if callable(one) else one) == (other() if callable(other) else other), name
    entry = full.releases[0].answers[0]
    assert by_file.release_at(f"{situation.root}/{entry.path}") == indexed.release_at(f"{situation.root}/{entry.path}")
    assert by_file.release_at("/elsewhere") is indexed.release_at("/elsewhere") is None


def _lines(path: Path) -> dict[str, Any]:
    first, *lines = path.read_bytes().split(b"\n")
    return {model: json.loads(line) for model, line in zip(json.loads(first)["models"], lines, strict=False)}


def test_a_session_reads_the_index_and_parses_only_what_is_asked_for(situation: Any, full: Any, plug: Any) -> None:
    folder = situation.put(full)
    (folder / "generation.json").write_text("damaged")
    index = folder / INDEX_NAME
    index.write_bytes(index.read_bytes().replace(b'"model":"blur/roto"', b'"model":"blur/rot\xff"'))
    found = plug(situation.environ())

    fine = found.main.resolve("acme/roto", "nuke-inference")
    bent = found.main.resolve("blur/roto", "nuke-inference")

    assert fine.release.version == "1.0.0"
    assert (bent.path, bent.error) == (None, True)
    assert "is not as expected" in bent.unavailable


def test_a_line_of_the_index_that_is_nested_too_deep_is_one_sentence(situation: Any, full: Any, plug: Any) -> None:
    index = situation.put(full) / INDEX_NAME
    first, *lines = index.read_bytes().splitlines(keepends=True)
    lines[1] = b"[" * 100_000 + b"\n"
    head = json.dumps({**json.loads(first), "lengths": [len(line) for line in lines]}).encode()
    index.write_bytes(b"".join((head, b"\n", *lines)))
    found = plug(situation.environ()).main.resolve("acme/roto", "nuke-inference")

    assert (found.path, found.error) == (None, True)
    assert "is not as expected" in found.unavailable


@pytest.mark.parametrize("cut", [0, 1, 40, -1, -2, -700])
def test_an_index_that_was_cut_anywhere_is_passed_over_for_the_generation(
    situation: Any, full: Any, plug: Any, cut: int
) -> None:
    index = situation.put(full) / INDEX_NAME
    index.write_bytes(index.read_bytes()[:cut])
    found = plug(situation.environ())

    assert found.main.models() == ("acme/fog", "acme/roto", "blur/roto")
    assert found.main.resolve("acme/roto", "nuke-inference").release.version == "1.0.0"


@pytest.mark.parametrize("change", ["more", "newer", "lengths"])
def test_an_index_that_does_not_say_what_it_should_is_passed_over(
    situation: Any, full: Any, plug: Any, change: str
) -> None:
    index = situation.put(full) / INDEX_NAME
    data = index.read_bytes()
    changes = {
        "more": data + b"{}\n",
        "newer": data.replace(b"changeover.resolve/1", b"changeover.resolve/2"),
        "lengths": data.replace(b'"lengths":[', b'"lengths":[0,'),
    }
    index.write_bytes(changes[change])
    found = plug(situation.environ())

    assert found.main.resolve("acme/roto", "nuke-inference").release.version == "1.0.0"


def test_the_index_of_a_generation_is_always_the_same(full: Any) -> None:
    again = type(full).from_bytes(full.to_bytes(), where="here")

    assert nuke_index(full) == nuke_index(again)
