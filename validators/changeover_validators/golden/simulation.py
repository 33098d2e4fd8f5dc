"""How often the judge's own bounds accept what they should not: many golden sets drawn by chance, all at once.

A set's shots differ by chance, and within a shot the frames' differences drift slowly, as those of real shots do: with
a lag-1 correlation of 0.95 sixty frames say little more than a few. What is drawn is judged by `judge.bounds` itself.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from changeover_validators.golden.judge import bounds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["RUNS", "SETTING", "SHOTS", "Rates", "Setting", "draw_shot_means", "rates"]

RUNS = 20_000
"""Sets a row: a rate of 5 % is then known to 0.3 %, at two standard errors."""
SHOTS = (5, 6, 8, 10, 12, 15, 20)
_SEED = 20261122
_MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class Setting:
    """Golden sets as they are drawn, in a metric's own unit: spreads as standard deviations."""

    shot_sd: float = 0.006
    frame_sd: float = 0.01
    lag: float = 0.95
    frames: int = 60
    margin: float = 0.005

    def mean_sd(self) -> float:
        """The standard deviation of one shot's mean: of the shots, and of the mean of frames that drift."""
        pairs = sum((1 - gap / self.frames) * self.lag**gap for gap in range(1, self.frames))
        of_frames = self.frame_sd**2 / self.frames * (1 + 2 * pairs)
        return float((self.shot_sd**2 + of_frames) ** 0.5)


SETTING = Setting()


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares, 0 to 1: accepted and rejected where the release is worse by the whole margin, accepted where equal."""

    false_accepts: float
    false_rejects: float
    power: float


def rates(shots: int, confidence: float = 0.95, setting: Setting = SETTING, runs: int = RUNS) -> Rates:
    """What the judge's bounds do to `runs` sets of so many shots; the same seed for every number of shots."""
    import numpy as np

    equal = draw_shot_means(np.random.default_rng((_SEED, shots)), (runs, shots), setting) * _MICRO
    margin = setting.margin * _MICRO
    worse, same = bounds(equal - margin, confidence), bounds(equal, confidence)
    return Rates(
        false_accepts=float((worse.lower > -margin).mean()),
        false_rejects=float((worse.upper < -margin).mean()),
        power=float((same.lower > -margin).mean()),
    )


def draw_shot_means(random: "np.random.Generator", size: tuple[int, int], setting: Setting) -> "NDArray[np.float64]":
    """Differences of shot means of releases that are equal, [runs, shots], in the metric's unit."""
    import numpy as np

    fresh = setting.frame_sd * (1 - setting.lag**2) ** 0.5
    frame = setting.frame_sd * random.standard_normal(size, np.float32)
    total = frame.astype(np.float64)
    for _ in range(setting.frames - 1):
        frame = np.float32(setting.lag) * frame + np.float32(fresh) * random.standard_normal(size, np.float32)
        total += frame
    return setting.shot_sd * random.standard_normal(size) + total / setting.frames
