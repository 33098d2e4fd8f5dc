"""A set against a slow and obvious one: whatever people do in whatever order, and nothing ever leaves the disk."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.errors import InvalidInputError
from changeover_validators.golden.approvals import approval_of, approve, retire_shot
from changeover_validators.golden.history import all_refs, set_history, steps
from changeover_validators.golden.kept import verify_shots
from changeover_validators.golden.sets import create_set, load_set, read_set
from changeover_validators.golden.shots import NewShot, add_shot

NOW = datetime(2026, 11, 22, 13, 45, tzinfo=UTC)
SHOTS = st.sampled_from(["ab010", "ab020", "ab030"])
DEEDS = st.one_of(
    st.tuples(st.just("add"), SHOTS, st.booleans()),
    st.tuples(st.just("approve"), st.none() | SHOTS, st.just(False)),
    st.tuples(st.just("retire"), SHOTS, st.booleans()),
)


class Plain:
    """The versions that are scored and wait, by shot, and how many each shot ever had."""

    def __init__(self) -> None:
        self.scored: dict[str, int] = {}
        self.waiting: dict[str, int] = {}
        self.made: dict[str, int] = {}

    def add(self, shot: str, approved: bool) -> bool:
        self.made[shot] = self.made.get(shot, 0) + 1
        self.waiting.pop(shot, None)
        (self.scored if approved else self.waiting)[shot] = self.made[shot]
        return True

    def approve(self, shot: str | None, _: bool) -> bool:
        if shot is not None and shot not in self.waiting:
            return False
        for name in [shot] if shot else list(self.waiting):
            self.scored[name] = self.waiting.pop(name)
        return True

    def retire(self, shot: str, waiting_only: bool) -> bool:
        there = shot in self.waiting or (shot in self.scored and not waiting_only)
        self.waiting.pop(shot, None)
        if not waiting_only:
            self.scored.pop(shot, None)
        return there


@pytest.fixture(scope="session")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plate and its matte in one file of 4 x 4 pixels."""
    import OpenEXR

    path = tmp_path_factory.mktemp("still") / "still.exr"
    pixels = np.random.default_rng(1).random((4, 4, 4)).astype(np.float16)
    OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION}, {"RGBA": pixels}).write(str(path))
    return path


def real(golden: Path, still: Path) -> dict[str, Callable[[Any, bool], object]]:
    approval = approval_of("Jane Doe", None, by="td@vm1", now=NOW)

    def add(shot: str, approved: bool) -> object:
        new = NewShot(
            set="hair",
            shot=shot,
            plate=str(still),
            matte=str(still),
            matte_channel="A",
            colour="scene-linear",
            level=1,
            added_by="td@vm1",
            approved_by="Jane Doe" if approved else None,
        )
        return add_shot(golden, new, now=NOW)

    return {
        "add": add,
        "approve": lambda shot, _: approve(golden, "hair", approval, (shot,) if shot else ()),
        "retire": lambda shot, only: retire_shot(
            golden, "hair", shot, reason="old", by="td@vm1", now=NOW, pending_only=only
        ),
    }


@settings(max_examples=15, deadline=None)
@given(deeds=st.lists(DEEDS, min_size=1, max_size=8))
def test_a_set_is_what_a_plain_one_is_and_keeps_every_file(
    tmp_path_factory: pytest.TempPathFactory, still: Path, deeds: list[tuple[str, Any, bool]]
) -> None:
    golden, plain = tmp_path_factory.mktemp("golden"), Plain()
    create_set(golden, "hair")
    do = real(golden, still)
    before: dict[Path, bytes] = {}
    for deed, shot, flag in deeds:
        try:
            do[deed](shot, flag)
            done = True
        except InvalidInputError:
            done = False
        assert done is getattr(plain, deed)(shot, flag)
        golden_set, shots = load_set(golden, "hair")
        assert {one.shot: one.version for one in shots} == plain.scored
        assert {ref.shot: ref.version for ref in golden_set.pending or ()} == plain.waiting
        assert all(ref.approval is not None for ref in golden_set.shots)
        after = {path: path.read_bytes() for path in golden.rglob("*") if path.is_file() and path.name != ".lock"}
        assert {path for path, data in before.items() if path.name != "set.json" and after.get(path) != data} == set()
        before = after
    last = read_set(golden, "hair")
    refs = all_refs(golden, last)
    assert {(ref.shot, ref.version) for ref in refs} == {
        (shot, version) for shot, made in plain.made.items() for version in range(1, made + 1)
    }
    assert verify_shots(golden, "hair", refs).damage == ()
    assert all(step.changes for step in steps(set_history(golden, "hair", last=99)))
