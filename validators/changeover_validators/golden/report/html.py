"""A report as one HTML file that needs nothing else: no server, no network, no second file.

Names, reasons and summaries come from vendors and hosts, so nothing of theirs is ever markup: the template escapes
every value, data for the script is JSON in which no tag can end, and the page forbids itself (Content-Security-Policy)
every address, and every script and style but its own two, which it names by their hash. The only module that knows
Jinja2; what stands on the page is in ``page/``.
"""

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from changeover_registry.names import digest12
from changeover_registry.records.findings import Finding
from changeover_validators.golden.report import chart
from changeover_validators.golden.report.headline import worst_metric
from changeover_validators.golden.report.model import Point, Report, Shot, said_time
from changeover_validators.golden.report.shots import known_metric
from changeover_validators.runtimes.memory_plan import predicted

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["render_html"]

CROP_PX = 256
"""The side of a crop around the worst pixel; less where the frame is smaller."""
_MINUS = "\N{MINUS SIGN}"
_KINDS = ("plate", "truth", "current", "candidate", "difference")


def render_html(report: Report, pictures: Mapping[str, bytes] | None = None) -> str:
    """The page.

    Args:
        report: What it says.
        pictures: PNG or JPEG bytes by the digest of the picture in the report; one that is absent is left out, and
            without any the page says so.
    """
    style, script = _page("report.css"), _page("report.js")
    shown = {digest: _data_address(data) for digest, data in (pictures or {}).items()}
    sheets = tuple(_sheets(report, shown))
    return _template().render(
        report=report,
        points=[(point, [sheet for sheet in sheets if sheet.point is point]) for point in report.points],
        worst=[sheet for sheet in sheets if sheet.point is sheets[0].point][:3],
        style=style,
        script=script,
        policy=_security_policy(style, script),
        data={"shots": [_data(sheet) for sheet in sheets]},
        with_pictures=bool(shown),
    )


@dataclass(frozen=True, slots=True)
class _Sheet:
    """One shot as the page shows it: its number on the page, its drawn curves, its pictures' addresses by kind."""

    number: int
    point: Point
    shot: Shot
    drawn: tuple[chart.Drawn, ...]
    pictures: Mapping[str, str]
    crops: Mapping[str, str]

    @property
    def first(self) -> str:
        """The metric that its curve shows first: the one that broke, else the mask that lost more."""
        names = [drawn.curve.metric for drawn in self.drawn]
        return next((name for name in (worst_metric(self.shot), "mad:rvm") if name in names), names[0] if names else "")

    @property
    def subjects(self) -> frozenset[str]:
        """Whose lines its curves have."""
        return frozenset(line.subject for drawn in self.drawn for line in drawn.curve.lines)

    @property
    def crop_box(self) -> tuple[int, int, int, int]:
        """Left, top, width and height of the crops in the frame: the worst pixel in the middle, as edges allow."""
        shot = self.shot
        if shot.worst is None or shot.width is None or shot.height is None:
            return 0, 0, CROP_PX, CROP_PX
        width, height = min(CROP_PX, shot.width), min(CROP_PX, shot.height)
        left = min(max(shot.worst.x - width // 2, 0), shot.width - width)
        top = min(max(shot.worst.y - height // 2, 0), shot.height - height)
        return left, top, width, height

    def window(self, metric: str) -> tuple[Decimal, Decimal] | None:
        """Where the run of frames on which the candidate lost most lies in a chart: left edge and width."""
        score, frames, length = self.shot.score(metric), self.shot.frames, self.shot.window_frames
        lost = score is not None and score.window_loss is not None and score.window_loss > 0
        if score is None or not lost or score.window_first not in frames or not length or length >= len(frames):
            return None
        first = frames.index(score.window_first)
        last = min(first + length, len(frames)) - 1
        left = chart.x_of(first, len(frames))
        return left, chart.x_of(last, len(frames)) - left

    def worst_place(self) -> Decimal | None:
        """Where the worst frame lies in a chart."""
        worst, frames = self.shot.worst, self.shot.frames
        return chart.x_of(frames.index(worst.frame), len(frames)) if worst and worst.frame in frames else None


def _sheets(report: Report, shown: Mapping[str, str]) -> Iterator[_Sheet]:
    shots = [(point, shot) for point in report.points for shot in point.shots]
    for number, (point, shot) in enumerate(shots):
        drawn = (chart.draw(curve) for curve in shot.curves)
        whole, crops = _addresses(shot, shown, crop=False), _addresses(shot, shown, crop=True)
        yield _Sheet(number, point, shot, tuple(found for found in drawn if found is not None), whole, crops)


def _addresses(shot: Shot, shown: Mapping[str, str], *, crop: bool) -> dict[str, str]:
    """The addresses of a shot's pictures by kind, in the order in which people compare them."""
    found = {kind: shot.picture(kind, crop=crop) for kind in _KINDS}
    return {kind: shown[picture.sha256] for kind, picture in found.items() if picture and picture.sha256 in shown}


def _page(name: str) -> str:
    return resources.files(__package__).joinpath("page", name).read_text(encoding="utf-8")


def _security_policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data_address(image: bytes) -> str:
    kind = "jpeg" if image.startswith(b"\xff\xd8") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


@lru_cache(maxsize=1)
def _template() -> "Template":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_page),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters |= {
        "number": _number,
        "signed": _signed,
        "seconds": _seconds,
        "mib": _mib,
        "predicted": predicted,
        "plain": _plain,
        "moment": said_time,
        "digest12": digest12,
        "frames": _frame_range,
        "ratio": _ratio,
        "decimal": Decimal,
        "direction": _direction,
        "worst_metric": worst_metric,
        "definition": lambda name: known_metric(name).definition,
        "label": lambda name: known_metric(name).label,
    }
    environment.globals |= {
        "interval": chart.interval,
        "overview": _overview,
        "told": _told_at_shots,
        "width_of": chart.width_of,
    }
    return environment.get_template("report.html")


def _data(sheet: _Sheet) -> dict[str, Any]:
    """What the script needs of a shot: its frames, and values by metric and subject."""
    worst = sheet.shot.worst
    return {
        "frames": sheet.shot.frames,
        "worst": [worst.x, worst.y] if worst else None,
        "crop": sheet.crop_box,
        "metrics": {drawn.curve.metric: _curve_data(drawn) for drawn in sheet.drawn},
    }


def _curve_data(drawn: chart.Drawn) -> dict[str, Any]:
    return {
        "low": float(drawn.axis.low),
        "high": float(drawn.axis.high),
        "lines": {
            line.subject: [None if value is None else float(f"{value:.5g}") for value in line.values]
            for line in drawn.curve.lines
        },
        "why": {line.subject: line.why for line in drawn.curve.lines if line.why},
    }


def _told_at_shots(sheets: Sequence[_Sheet]) -> list[Finding]:
    """The findings that stand with the shots which they name, and need not stand twice."""
    return [finding for sheet in sheets for finding in sheet.shot.broken]


def _overview(point: Point) -> tuple[str, ...]:
    """The metrics of the table of shots: the gated ones, or those that every verdict has."""
    there = dict.fromkeys(score.metric for shot in point.shots for score in shot.scores)
    gated = [gate.metric for gate in point.gates if gate.metric in there]
    usual = ("jaccard:davis2017", "boundary_f:davis2017", "mad:rvm", "jaccard", "boundary_f", "mad")
    return tuple(gated or [name for name in usual if name in there])


def _number(value: Decimal | None) -> str:
    """A value with as many digits as people compare."""
    if value is None:
        return "n/a"
    size = abs(value)
    digits = 1 if size >= 100 else 2 if size >= 10 else 3 if size >= 2 else 4
    return f"{value:.{digits}f}".replace("-", _MINUS)


def _direction(metric: str) -> str:
    """Which way is better; of the truth's own flicker neither is."""
    if metric.startswith("flicker-truth:"):
        return ""
    return "higher is better" if known_metric(metric).higher_is_better else "lower is better"


def _plain(value: Decimal) -> str:
    """A value with all its digits, and no more."""
    return f"{value.normalize():f}" if value else "0"


def _signed(value: Decimal | None) -> str:
    """A difference with its sign."""
    if value is None:
        return ""
    text = _number(value)
    return f"+{text}" if value > 0 else text


def _seconds(microseconds: int | None) -> str:
    if microseconds is None:
        return "n/a"
    return f"{microseconds / 1000:.1f} ms" if microseconds < 1_000_000 else f"{microseconds / 1e6:.2f} s"


def _mib(size: int | None) -> str:
    return "n/a" if size is None else f"{size / 2**20:.0f} MiB"


def _ratio(part: int, whole: int | None) -> str:
    return f"{part / whole:.2f}" if whole else "n/a"


def _frame_range(frames: tuple[int, ...]) -> str:
    """``1001 to 1096``; where frames are missing, how many there are."""
    whole = frames[-1] - frames[0] + 1 == len(frames)
    return f"{frames[0]} to {frames[-1]}" + ("" if whole else f", {len(frames)} of them")
