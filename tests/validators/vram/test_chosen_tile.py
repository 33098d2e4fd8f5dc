"""The chosen tile runs in a real arena that is held to the budget; the next larger one fails, or was called careful."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from changeover_registry.records.memory import MemoryPlan
from changeover_registry.records.policy import Policy, VramPolicy
from changeover_validators.runtimes.capi import NativeError
from changeover_validators.runtimes.endings import cause_of_error
from changeover_validators.vram.footprint import Room
from changeover_validators.vram.native import NativeSession
from changeover_validators.vram.onnx_predictor import OnnxPredictor
from changeover_validators.vram.predictor import Target
from changeover_validators.vram.solve import Tried, largest_size
from changeover_validators.vram.zoo import Architecture, architectures

ALONE = Policy(vram=VramPolicy(instances=1))
HERE = Target("onnxruntime", onnxruntime.__version__, "cpu", interpreter=sys.executable)
ARENA_BYTES = 150 << 20
MOST = 512
"""Pixels of the largest side that is tried: a run of it takes a second at most."""


@pytest.fixture
def build(tmp_path: Path) -> Callable[[Architecture], Path]:
    def make(net: Architecture) -> Path:
        net.build(tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    return make


def runs(path: Path, net: Architecture, tried: Tried, allowed: int) -> bool:
    """Whether three real runs of that size go through with the arena held to what the budget leaves for it."""
    assert tried.answer is not None
    assert tried.need_bytes is not None
    limit = tried.answer.range.high_bytes + allowed - tried.need_bytes
    feeds = {key: np.full(dims, 0.5, np.float32) for key, dims in net.feeds(tried.width, tried.height).items()}
    try:
        with NativeSession(path, plan=MemoryPlan(), limit_bytes=limit) as session:
            for _ in range(3):
                session.run(feeds)
    except NativeError as error:
        if cause_of_error("NativeError", str(error)) != "over budget":
            raise
        return False
    return True


@pytest.mark.parametrize("net", architectures(), ids=lambda net: net.name)
def test_chosen_tile_runs_under_a_real_limit_and_the_next_larger_does_not_or_was_called_conservative(
    net: Architecture, build: Callable[[Architecture], Path]
) -> None:
    path = build(net)
    predictor = OnnxPredictor(path.parent, path.name, net.contract, HERE, sessions=2)
    outside = predictor.answer(256, 256, MemoryPlan())
    allowed = ARENA_BYTES + outside.total_bytes - outside.range.high_bytes

    found = largest_size(predictor, net.contract, Room(allowed, ALONE), most=MOST)

    assert found.best is not None
    assert runs(path, net, found.best, allowed)
    if found.best.tile.size < MOST:
        assert found.larger is not None
        assert found.larger.conservative or not runs(path, net, found.larger, allowed)
