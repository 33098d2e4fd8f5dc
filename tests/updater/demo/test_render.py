from dataclasses import replace

import numpy as np
import pytest

from changeover_updater.demo.render import draw_backdrop, render
from changeover_updater.demo.scene import KINDS, Scene, sample_scene
from changeover_updater.demo.shots import SHOTS, SIZE

SMALL = (160, 90)


def still(scene: Scene) -> Scene:
    return replace(scene, figures=tuple(replace(f, velocity=(0.0, 0.0), swing=0.0) for f in scene.figures))


@pytest.mark.parametrize("kind", KINDS)
def test_matte_says_exactly_how_much_of_the_wall_is_seen(kind: str) -> None:
    scene = replace(sample_scene(3, kind, 2, SMALL), grain=0.0)  # type: ignore[arg-type]
    wall = draw_backdrop(scene)

    shown = render(scene, 4.0, wall)
    brighter = render(scene, 4.0, wall + np.float32(1))

    seen = (brighter.plate - shown.plate) / np.float32(scene.exposure)
    np.testing.assert_allclose(seen, np.repeat(1 - shown.matte[..., None], 3, axis=2), atol=2e-6)


def test_matte_survives_half_and_plate_is_never_negative() -> None:
    for kind in KINDS:
        picture = render(sample_scene(5, kind, 3, SMALL), 11.0)
        assert picture.matte.min() >= 0
        assert picture.matte.max() == 1
        np.testing.assert_array_equal(picture.matte, picture.matte.astype(np.float16).astype(np.float32))
        assert picture.plate.min() >= 0


def test_same_seed_draws_the_same_and_another_seed_something_else() -> None:
    first, again = (render(sample_scene(7, "hair", 3, SMALL), 2.0) for _ in range(2))
    other = render(sample_scene(8, "hair", 3, SMALL), 2.0)

    np.testing.assert_array_equal(first.plate, again.plate)
    np.testing.assert_array_equal(first.matte, again.matte)
    assert np.abs(first.matte - other.matte).mean() > 0.01


def test_motion_within_the_shutter_blurs_the_matte() -> None:
    scene = sample_scene(18, "street", 3, SIZE)

    moving, standing = (np.mean((m > 0.02) & (m < 0.98)) for m in (render(s, 3.0).matte for s in (scene, still(scene))))

    assert moving > 1.5 * standing


def test_softness_widens_edges() -> None:
    sharp = still(replace(sample_scene(18, "street", 1, SIZE), grain=0.0))
    soft = replace(sharp, figures=tuple(replace(f, softness=4.0) for f in sharp.figures))

    partly = [np.mean((m > 0.02) & (m < 0.98)) for m in (render(sharp, 0.0).matte, render(soft, 0.0).matte)]

    assert partly[1] > 2 * partly[0]


def test_hair_adds_fine_strands_beyond_the_head() -> None:
    scene = still(sample_scene(20, "hair", 1, SIZE))
    bald = replace(scene, figures=tuple(replace(f, strands=()) for f in scene.figures))

    hairy, plain = render(scene, 0.0).matte, render(bald, 0.0).matte

    added = (plain == 0) & (hairy > 0.4)
    shifts = [np.roll(added, (down, right), axis=(0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    assert added.sum() > 1000
    assert np.all(shifts, axis=0).sum() < 0.4 * added.sum()
    assert np.mean(hairy[(plain == 0) & (hairy > 0)] < 0.9) > 0.8


def test_figure_outside_the_picture_leaves_an_empty_matte_and_the_plain_wall() -> None:
    scene = replace(sample_scene(20, "hair", 1, SMALL), grain=0.0)
    away = replace(scene, figures=tuple(replace(f, x=-5000.0) for f in scene.figures))

    picture = render(away, 0.0)

    assert picture.matte.max() == 0
    wall = draw_backdrop(away)[:, 48 : 48 + SMALL[0]]
    np.testing.assert_allclose(picture.plate, wall * np.float32(away.exposure), rtol=1e-6)


def test_wall_pans_by_parts_of_a_pixel() -> None:
    scene = replace(sample_scene(14, "street", 2, SMALL), figures=(), grain=0.0)
    scene = replace(scene, background=replace(scene.background, pan=1.0))
    wall = draw_backdrop(scene)

    halfway = render(scene, 0.5, wall).plate

    mean = (render(scene, 0.0, wall).plate + render(scene, 1.0, wall).plate) / 2
    np.testing.assert_allclose(halfway, mean, rtol=1e-5)


def test_grain_differs_from_frame_to_frame_and_rises_with_the_level() -> None:
    scenes = [replace(sample_scene(11, "plain", level, SMALL), figures=()) for level in (1, 2, 3)]
    frames = [
        [render(replace(s, background=replace(s.background, pan=0.0)), t).plate for t in (0.0, 1.0)] for s in scenes
    ]

    easy, middle, hard = (float(np.abs(first - second).mean()) for first, second in frames)

    assert easy == 0
    assert 0 < middle < hard


def test_golden_shots_have_three_levels_and_one_window() -> None:
    assert len({shot.name for shot in SHOTS}) == len(SHOTS) == 10
    assert {shot.level for shot in SHOTS} == {1, 2, 3}
    assert [shot.name for shot in SHOTS if shot.kind == "backlit"] == ["window"]
    assert {shot.kind for shot in SHOTS} == {"plain", "street", "foliage", "hair", "backlit"}
