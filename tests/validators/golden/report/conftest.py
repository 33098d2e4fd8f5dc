"""A verdict with all that is kept beside it, built from the records: real pictures, and curves that say something."""

import math
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from changeover_registry import canonical
from changeover_registry.records import release as records
from changeover_registry.records.choice import Override
from changeover_registry.records.findings import Finding, NotApplicable, NotRun, Passed, Refused
from changeover_registry.records.golden import Approval, GoldenFrame, GoldenSet, GoldenShot, ShotRef
from changeover_registry.records.policy import Policy
from changeover_registry.records.scores import Curve, Picture, ScoreKey, ShotScores, SubjectKey, WorstFrame
from changeover_registry.records.verdict import (
    CurvePoint,
    GoldenSetRef,
    MetricSummary,
    NoiseFloor,
    OperatingPoint,
    PointReport,
    ScoresRef,
    SignOff,
    SpeedPoint,
    Verdict,
)
from changeover_validators.golden.catalogue import METRICS
from changeover_validators.golden.report.build import Sources, build_report
from changeover_validators.golden.report.html import render_html
from changeover_validators.golden.report.model import Report
from changeover_validators.golden.summary import shot_scores

DIGEST = "0123456789abcdef" * 4
POINT = OperatingPoint(variant="onnx-fp32", precision="fp32", tile=records.Tile(size=1024, overlap=64), provider="cpu")
WIDTH, HEIGHT, CROP = 640, 360, 256


def png(pixels: Any) -> bytes:
    """A PNG of uint8 [H, W] or [H, W, 3]."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def difference(prediction: Any, truth: Any) -> Any:
    """White where they agree, red where the prediction has too much, blue where it lacks."""
    strength = np.sqrt(np.abs(prediction - truth))
    much, lacks = np.where(prediction > truth, strength, 0), np.where(prediction < truth, strength, 0)
    return 1 - np.stack([lacks, strength, much], axis=-1)


def contract(**changes: Any) -> records.Contract:
    plain = records.Contract(
        evaluation="stateless",
        inputs=(records.TensorIn(name="image", port="plate", channels=("R", "G", "B")),),
        output=records.TensorOut(name="matte", port="matte"),
        colour="srgb",
        multiple=8,
        tiles=(POINT.tile,),
    )
    return plain.model_copy(update=changes)


def release(version: str, **changes: Any) -> records.Release:
    """A release; `changes` are of its record, except `contract`."""
    variant = records.Variant(
        id="onnx-fp32",
        runtime="onnx",
        precision="fp32",
        loaders=("python",),
        entry="model.onnx",
        files=(records.FileEntry(path="model.onnx", size=1, sha256=DIGEST, blocks=(DIGEST,)),),
        contract=changes.pop("contract", contract()),
        requires=records.Requires(opset=17),
    )
    plain = records.Release(
        model="acme/person-roto",
        version=version,
        summary="Mattes of persons, sharper at the hair.",
        changes="Trained on twice the hair.",
        licences=records.Licences(code="MIT", weights="MIT", training_data="none"),
        interface=records.Interface(
            inputs=(records.Port(name="plate", channels=("R", "G", "B"), colour="scene-linear"),),
            outputs=(records.Port(name="matte", channels=("A",), colour="raw"),),
        ),
        variants=(variant,),
    )
    return plain.model_copy(update=changes)


@lru_cache(maxsize=8)
def mattes(number: int) -> dict[str, Any]:
    """What the pictures of a shot show: a soft disc, one matte with a bite out of it, one a little too large."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    centre, size = WIDTH * (0.3 + 0.05 * (number % 8)), HEIGHT * 0.3
    rim = 8 * np.sin(9 * np.arctan2(y - HEIGHT / 2, x - centre))
    away = np.hypot(x - centre, y - HEIGHT / 2) + rim
    truth = np.clip((size - away) / 6 + 0.5, 0, 1)
    bite = np.clip((np.hypot(x - centre - size * 0.9, y - HEIGHT * 0.3) - size * 0.3) / 4, 0, 1)
    behind = 0.25 + 0.2 * np.sin(x / 37 + number) * np.cos(y / 23)
    subject = 0.55 + 0.3 * np.sin(away / 9)
    grain = np.random.default_rng(number).normal(0, 0.02, (HEIGHT, WIDTH, 1))
    plate = truth[..., None] * subject[..., None] * [1, 0.78, 0.62] + (1 - truth[..., None]) * behind[..., None]
    candidate, current = (truth * bite).astype(np.float32), np.clip((size + 3 - away) / 7 + 0.5, 0, 1)
    farthest = np.abs(candidate - truth).argmax()
    return {
        "plate": np.clip(plate + grain, 0, 1),
        "truth": truth,
        "current": current,
        "candidate": candidate,
        "difference": difference(candidate, truth.astype(np.float32)),
        "worst": (int(farthest % WIDTH), int(farthest // WIDTH), float((candidate - truth).flat[farthest])),
    }


@lru_cache(maxsize=8)
def pictures_of(number: int) -> list[tuple[Picture, bytes]]:
    """The pictures of a shot as the pipeline keeps them: whole, and the surroundings of the worst pixel."""
    shown = mattes(number)
    x, y, _ = shown["worst"]
    left, top = min(max(x - CROP // 2, 0), WIDTH - CROP), min(max(y - CROP // 2, 0), HEIGHT - CROP)
    found = []
    for kind in ("plate", "truth", "current", "candidate", "difference"):
        image = np.floor(np.clip(shown[kind], 0, 1) * 255 + 0.5).astype(np.uint8)
        for crop, part in ((False, image), (True, image[top : top + CROP, left : left + CROP])):
            data = png(part)
            name = f"{kind}-crop.png" if crop else f"{kind}.png"
            digest = canonical.digest(data)
            found.append((Picture(kind=kind, crop=crop, file=name, sha256=digest), data))
    return found


def curve(metric: Any, subject: Any, number: int, frames: int) -> Curve:
    """A curve with a dip in the candidate, and no value on the first frame where the metric needs a neighbour."""
    worse = {"candidate": 0.006 * (number % 5 - 1), "current": 0.0, "second": -0.004}[subject]
    values: list[str | None] = []
    for place in range(frames):
        dip = 0.05 * math.exp(-(((place - frames * 0.6) / (frames * 0.06 + 1)) ** 2)) if subject == "candidate" else 0
        wave = 0.004 * math.sin(place / 3 + number)
        loss = 0.02 + 0.003 * (number % 3) + worse + wave + dip * (number % 4 == 1)
        value = {True: 1 - loss, False: max(loss, 0)}[metric.higher_is_better] * (
            40 if metric.unit == "thousand" else 1
        )
        values.append(None if "neighbour" in metric.needs and place == 0 else f"{max(value, 0):.9f}")
    why = "the frame has no neighbour before it" if values[0] is None else None
    return Curve(metric=metric.name, subject=subject, values=tuple(values), why=why)


@dataclass(frozen=True)
class Story:
    """A verdict's sources, and the pictures by digest."""

    sources: Sources
    pictures: Mapping[str, bytes] = field(default_factory=dict)

    def report(self) -> Report:
        return build_report(self.sources)

    def page(self, *, pictures: bool = True) -> str:
        return render_html(self.report(), self.pictures if pictures else None)


def names_of(count: int) -> list[str]:
    return [f"atl{10 * (number + 1):03}-hero" for number in range(count)]


def tell(
    *,
    shots: int = 4,
    frames: int = 24,
    decision: Any = "reject",
    reason: str = "",
    baseline: bool = True,
    second: bool = True,
    shown: bool = True,
    named: bool = False,
    findings: tuple[Finding, ...] = (),
    **changes: Any,
) -> Story:
    """Build a story. `changes` are of the candidate's record."""
    candidate, current = release("1.1.0", **changes), release("1.0.0", contract=contract(pad="zero"))
    records_of = [golden_shot(name, number, frames) for number, name in enumerate(names_of(shots))]
    golden_set = GoldenSet(
        name="atlas-hair",
        version=3,
        owner_show="atlas",
        shots=tuple(
            ShotRef(
                shot=shot.shot,
                version=shot.version,
                digest=shot.digest(),
                approval=Approval(name="Ana Lind", at="2026-11-20T10:00:00Z", by="ana@ws-042", note="hair is right"),
            )
            for shot in records_of
        ),
    )
    pictures: dict[str, bytes] = {}
    kept = []
    for number, shot in enumerate(records_of):
        looks = mattes(number % 3)
        drawn = pictures_of(number % 3) if shown else []
        drawn = [(picture, data) for picture, data in drawn if baseline or picture.kind != "current"]
        pictures |= {picture.sha256: data for picture, data in drawn}
        kept.append(scores_of(shot, number, frames, looks, tuple(picture for picture, _ in drawn), baseline, second))
    verdict = verdict_of(candidate, current if baseline else None, golden_set, kept, decision, reason, findings)
    sources = Sources(
        verdict=verdict,
        digest="fedcba9876543210" * 4,
        signer="ana@ws-042",
        candidate=candidate,
        current=current if baseline else None,
        golden_set=golden_set,
        shots=tuple(records_of),
        scores={one.key.digest(): one for one in kept},
        policy=Policy(),
        named=named,
    )
    return Story(sources, pictures)


def golden_shot(name: str, number: int, frames: int) -> GoldenShot:
    return GoldenShot(
        set="atlas-hair",
        shot=name,
        version=1 + number % 2,
        alias=f"shot-{number + 1}",
        width=WIDTH,
        height=HEIGHT,
        colour="scene-linear",
        matte_channel="A",
        level=1 + number % 5,
        frames=tuple(
            GoldenFrame(
                number=1001 + place,
                plate=f"plate/{1001 + place}.exr",
                plate_sha256=DIGEST,
                matte=f"matte/{1001 + place}.exr",
                matte_sha256=DIGEST,
            )
            for place in range(frames)
        ),
        added_by="ana@ws-042",
        added_at="2026-11-20T09:00:00Z",
    )


def scores_of(
    shot: GoldenShot,
    number: int,
    frames: int,
    looks: Mapping[str, Any],
    pictures: tuple[Picture, ...],
    baseline: bool,
    second: bool,
) -> ShotScores:
    subject = SubjectKey(files=(DIGEST,), contract=DIGEST, point=POINT)
    subjects = ["candidate", *(["current"] if baseline else []), *(["second"] if second else [])]
    return ShotScores(
        key=ScoreKey(
            shot=shot.digest(),
            candidate=subject,
            current=subject if baseline else None,
            threshold="0.5",
            metrics="changeover-metrics/1",
            golden_class=DIGEST,
        ),
        set=shot.set,
        shot=shot.shot,
        version=shot.version,
        width=WIDTH,
        height=HEIGHT,
        frames=tuple(frame.number for frame in shot.frames),
        curves=tuple(curve(metric, subject, number, frames) for metric in METRICS for subject in subjects),
        band_px=8,
        worst=WorstFrame(
            frame=1001 + round(frames * 0.6),
            x=looks["worst"][0],
            y=looks["worst"][1],
            difference=f"{looks['worst'][2]:.9f}",
        ),
        pictures=pictures,
        provider_ran="CPUExecutionProvider",
        runtime_version="1.31.1",
        sandbox="bubblewrap",
        replaced=3 if number == 1 else 0,
    )


def verdict_of(
    candidate: records.Release,
    current: records.Release | None,
    golden_set: GoldenSet,
    kept: list[ShotScores],
    decision: Any,
    reason: str,
    findings: tuple[Finding, ...],
) -> Verdict:
    broken = Refused(
        check="golden",
        subject=str(POINT),
        rule="worst shot",
        expected="J at most 0.03 below the current release on every shot",
        actual="shot shot-2: J 0.9312, 0.0462 below 0.9774",
        remedy="look at the shots in the report, and ask the vendor",
    )
    point = PointReport(
        point=POINT,
        golden_class=DIGEST,
        memory=(CurvePoint(width=1920, height=1080, bytes=2**30), CurvePoint(width=4096, height=2160, bytes=2**32)),
        memory_label="calibrated",
        frame_us=81_300,
        current_frame_us=80_100,
        load_us=912_000,
        current_load_us=903_000,
        peak_ram_bytes=3 * 2**30,
        current_peak_ram_bytes=2**31,
        provider_ran="CPUExecutionProvider",
        runtime_version="1.31.1",
        scores=shot_scores(kept, 12),
        metrics=gates(len(kept)) if current else (),
        findings=(
            *([broken] if decision == "reject" else []),
            Passed(check="speed", subject=str(POINT), detail="1.02 times the current release's time"),
            NotApplicable(check="smoke", rule="earlier-check-refused"),
            *findings,
        ),
        scored=tuple(ScoresRef(shot=one.shot, key=one.key.digest(), digest=one.digest()) for one in kept),
        noise=(
            NoiseFloor(metric="mad:rvm", difference="0.00002"),
            NoiseFloor(metric="jaccard:davis2017", difference="0"),
        ),
        speeds=(SpeedPoint(width=1920, height=1080, frames=8, candidate_us=81_300, current_us=80_100),),
        evidence="direct",
        warnings=("the disk of atl010-hero was slow",),
    )
    return Verdict(
        candidate=candidate.ref(),
        current=current.ref() if current else None,
        decision=decision,
        reason=reason or f"{POINT}: golden: worst shot: shot shot-2 loses 0.0462 of J against the release in use",
        made_at="2026-11-22T13:45:00Z",
        made_by="ana@ws-042",
        host="ws-042",
        host_class=DIGEST,
        facts=DIGEST,
        policy=DIGEST,
        sandbox="bubblewrap",
        golden_set=GoldenSetRef(name=golden_set.name, version=golden_set.version, digest=golden_set.digest()),
        findings=(Passed(check="trust", detail="signed by acme"), Passed(check="licence"), Passed(check="vram")),
        points=(point, PointReport(point=POINT.model_copy(update={"provider": "cuda"}), findings=(no_gpu(),))),
    )


def no_gpu() -> NotRun:
    return NotRun(check="hardware", why="no GPU here", remedy="check on a machine that has one")


def gates(shots: int) -> tuple[MetricSummary, ...]:
    return (
        MetricSummary(
            metric="jaccard:davis2017", shots=shots, margin="0.01", mean="-0.0031", lower="-0.0124", upper="0.0062"
        ),
        MetricSummary(
            metric="boundary_f:davis2017", shots=shots, margin="0.01", mean="0.0012", lower="-0.0021", upper="0.0045"
        ),
        MetricSummary(metric="mad:rvm", shots=shots, margin="0.005", mean="-0.0083", lower="-0.0102", upper="-0.0064"),
    )


def signed_off() -> SignOff:
    return SignOff(
        of=DIGEST, name="Maya Ortiz", note="the hair of atl020-hero is fine", by="maya@ws-7", at="2026-11-22T15:00:00Z"
    )


def override() -> Override:
    return Override(
        release=release("1.1.0").ref(),
        checks=("speed",),
        reason="one night only, for atl030-hero",
        by="td@ws-1",
        until="2026-12-01T00:00:00Z",
    )


@pytest.fixture(scope="session")
def make_story() -> Callable[..., Story]:
    """Builds a verdict and what is kept beside it; see `tell`."""
    return tell


@pytest.fixture(scope="session")
def notes() -> tuple[SignOff, Override]:
    """A sign-off and an override whose words name shots."""
    return signed_off(), override()


@pytest.fixture(scope="session")
def real_names() -> Callable[[int], list[str]]:
    """The names of a story's shots, which nobody outside their show may read."""
    return names_of
