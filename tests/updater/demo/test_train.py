from dataclasses import replace

import numpy as np
import torch

from changeover_updater.demo.net import PLANS, Conv, Sum
from changeover_updater.demo.shots import SHOTS
from changeover_updater.demo.train import Recipe, draw_lessons, train

SMALL = (160, 90)
QUICK = Recipe("context", seed=9, steps=40, pictures=6, kinds=("plain", "night"), batch=4, crop=48)


def test_same_recipe_gives_the_same_net_and_the_callers_threads_stay() -> None:
    lessons = draw_lessons(QUICK, SMALL)
    threads = torch.get_num_threads()

    first, again = (train(PLANS["context"], QUICK, lessons) for _ in range(2))

    assert first.keys() == again.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])
    assert torch.get_num_threads() == threads


def test_residual_plan_trains_as_well() -> None:
    plan = (
        Conv("stem", "image", 3, 4),
        Conv("seen", "stem", 4, 4, groups=4),
        Sum("block", "seen", "stem"),
        Conv("logit", "block", 4, 1, kernel=1, linear=True),
    )
    recipe = replace(QUICK, steps=60)

    weights = train(plan, recipe, draw_lessons(recipe, SMALL))

    assert {name: value.shape for name, value in weights.items() if name.startswith("seen")} == {
        "seen.weight": (4, 1, 3, 3),
        "seen.bias": (4,),
    }
    assert all(np.isfinite(value).all() and np.abs(value).max() > 0 for value in weights.values())


def test_progress_counts_every_step() -> None:
    told: list[int] = []

    train(PLANS["local"], replace(QUICK, plan="local", steps=3), draw_lessons(QUICK, SMALL), told.append)

    assert told == [1, 2, 3]


def test_lessons_follow_from_the_recipe_and_hold_no_golden_shot() -> None:
    lessons = draw_lessons(QUICK, SMALL)

    assert lessons.images.shape == (6, 90, 160, 3)
    assert lessons.mattes.shape == (6, 90, 160)
    assert lessons.digest() == draw_lessons(QUICK, SMALL).digest()
    assert lessons.digest() != draw_lessons(replace(QUICK, seed=10), SMALL).digest()
    assert max(shot.seed for shot in SHOTS) < 1_000_000
