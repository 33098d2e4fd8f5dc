"""Trains a plan on rendered pictures: one thread, a fixed seed, no picture of any golden shot.

Needs torch, which nothing else in the demonstration computes with. The same recipe gives the same net on the same
machine; another machine rounds differently, so nets are compared by what they score, never by their bytes.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from changeover_updater.demo.net import Conv, Join, Plan, Up, Weights
from changeover_updater.demo.render import render
from changeover_updater.demo.scene import Kind, sample_scene
from changeover_validators.golden.colour import linear_to_srgb

if TYPE_CHECKING:
    import torch

__all__ = ["Lessons", "Progress", "Recipe", "draw_lessons", "train"]

Progress: TypeAlias = Callable[[int], None]

_FIRST_SEED = 1_000_000
"""Golden shots are drawn from seeds far below."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a net is made: its plan, the kinds of pictures it is shown, and how often."""

    plan: str
    seed: int
    steps: int
    pictures: int
    kinds: tuple[Kind, ...]
    batch: int = 8
    crop: int = 96
    learning_rate: float = 0.01


@dataclass(frozen=True, slots=True)
class Lessons:
    """Pictures to learn from: sRGB-coded [n, height, width, 3] and mattes [n, height, width], both in half."""

    images: NDArray[np.float16]
    mattes: NDArray[np.float16]

    def digest(self) -> str:
        """The sha256 of all pixels."""
        return hashlib.sha256(self.images.tobytes() + self.mattes.tobytes()).hexdigest()


def draw_lessons(recipe: Recipe, size: tuple[int, int] = (480, 270)) -> Lessons:
    """Render the pictures of a recipe: its kinds in turn, the three levels in turn, any moment of 12 frames."""
    images, mattes = [], []
    for number in range(recipe.pictures):
        kind = recipe.kinds[number % len(recipe.kinds)]
        level = 1 + number // len(recipe.kinds) % 3
        scene = sample_scene(_FIRST_SEED + 1000 * recipe.seed + number, kind, level, size)
        picture = render(scene, float(number % 12))
        images.append(linear_to_srgb(picture.plate).astype(np.float16))
        mattes.append(picture.matte.astype(np.float16))
    return Lessons(np.stack(images), np.stack(mattes))


def train(plan: Plan, recipe: Recipe, lessons: Lessons, progress: Progress | None = None) -> Weights:
    """Train `plan` by `recipe`.

    Args:
        plan: What to train.
        recipe: Seed, number of steps, size of batch and crop in pixels.
        lessons: What `draw_lessons` made.
        progress: Told the number of steps done, after each.

    Returns:
        The weights in float32.
    """
    import torch

    with _one_thread():
        torch.manual_seed(recipe.seed)
        weights = _first_weights(plan)
        optimiser = torch.optim.Adam(weights.values(), lr=recipe.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, total_steps=recipe.steps)
        for number, (image, matte) in enumerate(_crops(recipe, lessons), start=1):
            optimiser.zero_grad()
            _loss(_run(plan, weights, image), matte).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            if progress is not None:
                progress(number)
        return {name: value.detach().numpy().copy() for name, value in weights.items()}


@contextmanager
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _first_weights(plan: Plan) -> "dict[str, torch.Tensor]":
    import torch

    weights: dict[str, torch.Tensor] = {}
    for step in plan:
        if isinstance(step, Conv):
            fan = step.inputs // step.groups * step.kernel**2
            shape = (step.outputs, step.inputs // step.groups, step.kernel, step.kernel)
            weights[f"{step.name}.weight"] = (torch.randn(shape) * (2 / fan) ** 0.5).requires_grad_()
            weights[f"{step.name}.bias"] = torch.zeros(step.outputs).requires_grad_()
    return weights


def _run(plan: Plan, weights: "dict[str, torch.Tensor]", image: "torch.Tensor") -> "torch.Tensor":
    """The logit of the matte, [n, 1, height, width]."""
    import torch
    from torch.nn import functional

    done = {"image": image}
    for step in plan:
        match step:
            case Conv():
                done[step.name] = _convolve(step, weights, done[step.source])
            case Up():
                done[step.name] = functional.interpolate(done[step.source], scale_factor=2, mode="nearest")
            case Join():
                done[step.name] = torch.cat((done[step.first], done[step.second]), dim=1)
            case _:
                done[step.name] = done[step.first] + done[step.second]
    return done[plan[-1].name]


def _convolve(step: Conv, weights: "dict[str, torch.Tensor]", source: "torch.Tensor") -> "torch.Tensor":
    from torch.nn import functional

    result = functional.conv2d(
        source,
        weights[f"{step.name}.weight"],
        weights[f"{step.name}.bias"],
        stride=step.stride,
        padding=step.padding,
        dilation=step.dilation,
        groups=step.groups,
    )
    return result if step.linear else functional.relu(result)


def _loss(logit: "torch.Tensor", matte: "torch.Tensor") -> "torch.Tensor":
    import torch
    from torch.nn import functional

    cross = functional.binary_cross_entropy_with_logits(logit, matte)
    return cross + (torch.sigmoid(logit) - matte).abs().mean()


def _crops(recipe: Recipe, lessons: Lessons) -> "Iterator[tuple[torch.Tensor, torch.Tensor]]":
    import torch

    rng = np.random.default_rng(recipe.seed)
    count, height, width = lessons.mattes.shape
    for _ in range(recipe.steps):
        numbers = rng.integers(count, size=recipe.batch)
        tops = rng.integers(height - recipe.crop + 1, size=recipe.batch)
        lefts = rng.integers(width - recipe.crop + 1, size=recipe.batch)
        places = [
            np.s_[n, t : t + recipe.crop, x : x + recipe.crop] for n, t, x in zip(numbers, tops, lefts, strict=True)
        ]
        image = np.stack([lessons.images[place] for place in places]).transpose(0, 3, 1, 2)
        matte = np.stack([lessons.mattes[place] for place in places])[:, None]
        yield torch.from_numpy(image.astype(np.float32)), torch.from_numpy(matte.astype(np.float32))
