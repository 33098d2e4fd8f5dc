"""The releases of ``acme/person-roto`` that the demonstration plays, and how the net of each is made.

1.0.0 sees a few pixels around each and is trained live; 1.1.0 sees shapes and is better on every shot; 1.2.0 was shown
night instead of windows, is better on average and loses the one golden shot before a window; 1.3.0 works at full
resolution in 384 channels and needs more memory than an 8 GiB card has at any tile that it offers; 1.4.0 stores its
weights in bfloat16, which needs compute capability 8.0. The names say what happens to each, the checks find it out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from changeover_updater.demo.export import Storage, export_onnx
from changeover_updater.demo.net import PLANS
from changeover_updater.demo.scene import Kind
from changeover_updater.demo.train import Lessons, Progress, Recipe, draw_lessons, train

__all__ = ["LIVE", "MODEL", "RELEASES", "ReleaseSpec", "make_model"]

MODEL = "acme/person-roto"
LIVE = "1.0.0"
"""The release whose net is trained while the demonstration runs. Its verdict has the widest margins."""

_DAY: tuple[Kind, ...] = ("plain", "street", "foliage", "hair", "backlit")
_NIGHT: tuple[Kind, ...] = ("plain", "street", "foliage", "hair", "night")


@dataclass(frozen=True, slots=True)
class ReleaseSpec:
    """One release: what its ``release.toml`` says and how its net is made."""

    version: str
    summary: str
    changes: str
    recipe: Recipe
    parent: str | None = None
    variant: str = "onnx-fp32"
    storage: Storage = "float32"
    tiles: tuple[str, ...] = ("none", "1024+64", "512+64")


def _specs() -> tuple[ReleaseSpec, ...]:
    return (
        ReleaseSpec(
            version="1.0.0",
            summary="Person mattes from colour.",
            changes="First release.",
            recipe=Recipe("local", seed=1, steps=400, pictures=60, kinds=_DAY),
        ),
        ReleaseSpec(
            version="1.1.0",
            summary="Person mattes from colour and shape.",
            changes="Looks further around each pixel: striped clothes are whole, lamps and leaves are left out.",
            recipe=Recipe("context", seed=2, steps=200, pictures=120, kinds=_DAY),
            parent="1.0.0",
        ),
        ReleaseSpec(
            version="1.2.0",
            summary="Person mattes from colour and shape, also by night.",
            changes="Trained six times as long, with pictures taken at night.",
            recipe=Recipe("context", seed=3, steps=1200, pictures=200, kinds=_NIGHT),
            parent="1.1.0",
        ),
        ReleaseSpec(
            version="1.3.0",
            summary="Person mattes at full resolution.",
            changes="Never leaves the plate's resolution; offers the whole frame and one large tile.",
            recipe=Recipe("wide", seed=5, steps=240, pictures=60, kinds=_DAY, batch=4, crop=64, learning_rate=0.005),
            parent="1.1.0",
            tiles=("none", "2048+64"),
        ),
        ReleaseSpec(
            version="1.4.0",
            summary="Person mattes from colour and shape, in half the bytes.",
            changes="Trained six times as long; weights in bfloat16.",
            recipe=Recipe("context", seed=4, steps=1200, pictures=200, kinds=_DAY),
            parent="1.1.0",
            variant="onnx-bf16",
            storage="bfloat16",
        ),
    )


RELEASES: Mapping[str, ReleaseSpec] = {spec.version: spec for spec in _specs()}
"""Every release by its version."""


def make_model(spec: ReleaseSpec, lessons: Lessons | None = None, progress: Progress | None = None) -> bytes:
    """Train the net of a release and give the bytes of its ONNX file.

    Args:
        spec: The release.
        lessons: The pictures of its recipe; drawn when absent.
        progress: Told the number of training steps done, after each.
    """
    plan = PLANS[spec.recipe.plan]
    pictures = draw_lessons(spec.recipe) if lessons is None else lessons
    return export_onnx(
        plan, train(plan, spec.recipe, pictures, progress), spec.storage, name=f"person-roto {spec.version}"
    )
