"""Which metrics there are, and what each one means: name, direction, unit, what it needs, where its definition is.

The name carries the variant (``grad:rvm-lr``), since two metrics called Grad differ by more than two models do. Metrics
of a frame stand in `METRICS`, what is made of a whole shot's frames in `SUMMARIES`. This module needs no numpy, so that
whoever judges or reads scores can import it everywhere. Left out: how a metric is computed (`metrics`, `series`).
"""

from dataclasses import dataclass

from changeover_registry.errors import InvalidInputError, RefusedError

__all__ = ["METRICS", "SUMMARIES", "VERSION", "Metric", "check_comparable", "metric"]

VERSION = "changeover-metrics/1"
"""Part of the key under which scores are filed: any change of a number changes it."""

_TRUTH = frozenset({"truth"})
_NEIGHBOUR = frozenset({"truth", "neighbour"})
_BAND = frozenset({"truth", "band"})
_DAVIS = "DAVIS 2017, davisvideochallenge/davis2017-evaluation (BSD-3)"
_CHENG = "Cheng et al., Boundary IoU, CVPR 2021"
_RHEMANN = "Rhemann et al., CVPR 2009, as RobustVideoMatting evaluates low resolution (evaluate_lr.py)"
_RVM = "RobustVideoMatting, evaluate_lr.py"
_DIM = "Deep Image Matting, Xu et al., CVPR 2017"
_EROFEEV = "Erofeev et al., BMVC 2015, as RobustVideoMatting evaluates it"
_OURS = "Changeover"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: What records call it: metric, colon, variant.
        label: What a table's head calls it.
        higher_is_better: The direction.
        unit: What a value counts; ``1`` is a plain ratio, ``matte`` the matte's own range 0 to 1, ``thousand`` a sum
            over pixels divided by 1000.
        needs: Of ``truth``, ``neighbour`` (the frame before), ``band`` (soft pixels in the truth) and ``flow``.
        resolution_invariant: Whether values of two frame sizes may be compared; a sum may not.
        definition: In one sentence.
        source: Where the definition is from.
    """

    name: str
    label: str
    higher_is_better: bool
    unit: str
    needs: frozenset[str]
    resolution_invariant: bool
    definition: str
    source: str


METRICS: tuple[Metric, ...] = (
    Metric(
        name="jaccard:davis2017",
        label="J",
        higher_is_better=True,
        unit="1",
        needs=_TRUTH,
        resolution_invariant=True,
        definition="Intersection over union of the masks (matte > threshold); 1 where both are empty.",
        source=_DAVIS,
    ),
    Metric(
        name="boundary_f:davis2017",
        label="F",
        higher_is_better=True,
        unit="1",
        needs=_TRUTH,
        resolution_invariant=True,
        definition="F measure of the masks' boundaries, matched within ceil(0.008 of the diagonal) pixels.",
        source=_DAVIS,
    ),
    Metric(
        name="boundary_iou:cheng2021",
        label="Boundary IoU",
        higher_is_better=True,
        unit="1",
        needs=_TRUTH,
        resolution_invariant=True,
        definition="Intersection over union of the masks' inner bands, max(1, round(0.02 of the diagonal)) pixels "
        "wide; the frame's edge counts as a boundary, and 1 where both masks are empty.",
        source=_CHENG,
    ),
    Metric(
        name="mad:rvm",
        label="MAD",
        higher_is_better=False,
        unit="matte",
        needs=_TRUTH,
        resolution_invariant=True,
        definition="Mean absolute difference.",
        source=_RVM,
    ),
    Metric(
        name="mse:rvm",
        label="MSE",
        higher_is_better=False,
        unit="matte squared",
        needs=_TRUTH,
        resolution_invariant=True,
        definition="Mean squared difference.",
        source=_RVM,
    ),
    Metric(
        name="sad:dim",
        label="SAD",
        higher_is_better=False,
        unit="thousand",
        needs=_TRUTH,
        resolution_invariant=False,
        definition="Sum of absolute differences, divided by 1000.",
        source=_DIM,
    ),
    Metric(
        name="grad:rvm-lr",
        label="Grad",
        higher_is_better=False,
        unit="thousand",
        needs=_TRUTH,
        resolution_invariant=False,
        definition="Sum of squared differences of the gradients' lengths, each matte stretched from its least to its "
        "largest value first (Gaussian derivatives, sigma 1.4), divided by 1000.",
        source=_RHEMANN,
    ),
    Metric(
        name="conn:rvm-lr",
        label="Conn",
        higher_is_better=False,
        unit="thousand",
        needs=_TRUTH,
        resolution_invariant=False,
        definition="Sum of differences of how far each pixel is connected to the largest common component "
        "(steps of 0.1, theta 0.15, 4 neighbours), divided by 1000.",
        source=_RHEMANN,
    ),
    Metric(
        name="dtssd:rvm",
        label="dtSSD",
        higher_is_better=False,
        unit="matte",
        needs=_NEIGHBOUR,
        resolution_invariant=True,
        definition="Root of the mean squared difference between the prediction's and the truth's change since the "
        "frame before.",
        source=_EROFEEV,
    ),
    Metric(
        name="mad:truth-band",
        label="MAD in the band",
        higher_is_better=False,
        unit="matte",
        needs=_BAND,
        resolution_invariant=True,
        definition="Mean absolute difference over the truth's soft band.",
        source=_OURS,
    ),
    Metric(
        name="grad:truth-band",
        label="Grad in the band",
        higher_is_better=False,
        unit="thousand",
        needs=_BAND,
        resolution_invariant=False,
        definition="The terms of grad:rvm-lr summed over the truth's soft band only, divided by 1000.",
        source=_OURS,
    ),
    Metric(
        name="dtssd:truth-band",
        label="dtSSD in the band",
        higher_is_better=False,
        unit="matte",
        needs=_NEIGHBOUR | _BAND,
        resolution_invariant=True,
        definition="dtssd:rvm with the mean taken over the soft band of this frame's truth.",
        source=_OURS,
    ),
    Metric(
        name="flicker:mean-abs",
        label="Flicker",
        higher_is_better=False,
        unit="matte",
        needs=frozenset({"neighbour"}),
        resolution_invariant=True,
        definition="Mean absolute change of the prediction since the frame before; needs no truth.",
        source=_OURS,
    ),
    Metric(
        name="flicker-truth:mean-abs",
        label="Flicker of the truth",
        higher_is_better=False,
        unit="matte",
        needs=_NEIGHBOUR,
        resolution_invariant=True,
        definition="Mean absolute change of the truth since the frame before: what flicker is right.",
        source=_OURS,
    ),
    Metric(
        name="empty:threshold",
        label="Empty",
        higher_is_better=False,
        unit="1",
        needs=_TRUTH,
        resolution_invariant=True,
        definition="1 where the prediction's mask is empty and the truth's is not, else 0; not defined where the "
        "truth's mask is empty.",
        source=_OURS,
    ),
)
"""Every metric of one frame, in the order in which `FrameScores.values` holds them."""


def _recall(of: str, label: str) -> Metric:
    return Metric(
        name=f"{of}-recall:davis2017",
        label=f"{label} recall",
        higher_is_better=True,
        unit="1",
        needs=_TRUTH,
        resolution_invariant=True,
        definition=f"Share of the shot's frames whose {label} is above 0.5.",
        source=_DAVIS,
    )


def _decay(of: str, label: str) -> Metric:
    return Metric(
        name=f"{of}-decay:davis2017",
        label=f"{label} decay",
        higher_is_better=False,
        unit="1",
        needs=_TRUTH,
        resolution_invariant=True,
        definition=f"Mean {label} of the shot's first quarter minus that of its last.",
        source=f"{_DAVIS}, without its wrap at 256 frames",
    )


SUMMARIES: tuple[Metric, ...] = (
    _recall("jaccard", "J"),
    _decay("jaccard", "J"),
    _recall("boundary_f", "F"),
    _decay("boundary_f", "F"),
)
"""What is made of one shot's curve of J or F."""

_BY_NAME = {one.name: one for one in (*METRICS, *SUMMARIES)}


def metric(name: str) -> Metric:
    """The metric of that name, of a frame or of a shot.

    Raises:
        InvalidInputError: There is none.
    """
    if name not in _BY_NAME:
        raise InvalidInputError(
            "metric",
            where=name,
            expected=f"one of {', '.join(_BY_NAME)}",
            actual="an unknown name",
            remedy="use one of these names; a name carries its variant",
        )
    return _BY_NAME[name]


def check_comparable(name: str, one: tuple[int, int], other: tuple[int, int]) -> None:
    """Refuse to compare values of a metric across frame sizes (width, height) where it is a sum over pixels.

    Raises:
        InvalidInputError: There is no such metric.
        RefusedError: The sizes differ and the metric depends on the size.
    """
    if one == other or metric(name).resolution_invariant:
        return
    raise RefusedError(
        "metric across resolutions",
        where=name,
        expected=f"frames of one size, {one[0]} x {one[1]}, since this metric is a sum over pixels",
        actual=f"{other[0]} x {other[1]}",
        remedy="score both at one size, or compare a metric that is a mean",
    )
