"""What a golden set can tell: the chance that an equal release is accepted, and how many shots would decide.

The differences of shot means are taken as normal with a known spread, and the test is the judge's own: paired,
one-sided t. Left out: where a spread comes from (a verdict's own shots, or experience).
"""

import math
from functools import lru_cache

__all__ = ["detectable", "power", "quantile", "shots_needed", "shots_to_decide"]

MOST_SHOTS = 1000
"""More shots than anybody keeps: beyond it the answer is that no number would do."""


@lru_cache(maxsize=4096)
def quantile(confidence: float, freedom: int) -> float:
    """Student's t: the value that a share `confidence` of a distribution with `freedom` degrees lies below."""
    from scipy import special  # The base installation never judges; `stats` takes seconds to import.

    return float(special.stdtrit(freedom, confidence))


def power(shots: int, sd: float, margin: float, confidence: float, *, loss: float = 0.0) -> float:
    """The chance, 0 to 1, that a release is accepted whose true mean loss is `loss`.

    Args:
        shots: How many are scored; under 2 nothing is ever accepted.
        sd: Standard deviation of the shots' differences, in the metric's unit.
        margin: The policy's, in the same unit.
        confidence: Of the one-sided bound, such as 0.95.
        loss: How much worse the release truly is; 0 is an equal one.
    """
    if shots < 2:
        return 0.0
    if sd <= 0:
        return float(loss < margin)
    from scipy import special

    away = (margin - loss) * shots**0.5 / sd
    below = float(special.nctdtr(shots - 1, away, quantile(confidence, shots - 1)))
    # It is not a number at some points so far out that the share is 0 or 1 to every digit.
    return float(away > 0) if math.isnan(below) else 1.0 - below


def shots_needed(
    sd: float, margin: float, confidence: float, *, wanted: float = 0.8, loss: float = 0.0, most: int = MOST_SHOTS
) -> int | None:
    """The fewest shots with which such a release is accepted with a chance of `wanted`; None where `most` do not do."""
    return next((n for n in range(2, most + 1) if power(n, sd, margin, confidence, loss=loss) >= wanted), None)


def detectable(shots: int, sd: float, confidence: float, *, wanted: float = 0.8) -> float | None:
    """The smallest margin at which an equal release is accepted with a chance of `wanted`; None with under 2 shots.

    A loss of that size is what the set can tell from none.
    """
    if shots < 2:
        return None
    low, high = 0.0, 1.0
    while power(shots, sd, high, confidence) < wanted:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if power(shots, sd, middle, confidence) >= wanted else (middle, high)
    return high


def shots_to_decide(
    mean: float, sd: float, margin: float, confidence: float, *, least: int = 2, most: int = MOST_SHOTS
) -> int | None:
    """How many shots would decide if further ones came out as these did; None where `most` would not.

    Args:
        mean: Observed mean difference, positive is better.
        sd: Observed standard deviation of the differences.
        margin: The policy's.
        confidence: Of the one-sided bounds.
        least: The fewest that count.
        most: Where to stop.
    """
    away = abs(mean + margin)
    return next((n for n in range(max(least, 2), most + 1) if quantile(confidence, n - 1) * sd / n**0.5 < away), None)


def markdown() -> str:
    """The power table as it stands in the reference."""
    from changeover_validators.golden.simulation import SETTING, SHOTS, rates

    sd, margins = SETTING.mean_sd(), (SETTING.margin, 2 * SETTING.margin)
    head = (
        f"| shots | false accepts | false rejects | accepted if equal, margin {margins[0]:g} | margin {margins[1]:g} "
        "| smallest margin for 80 % |"
    )
    lines = [head, "| ---: | ---: | ---: | ---: | ---: | ---: |"]
    for shots in SHOTS:
        found, smallest = rates(shots), detectable(shots, sd, 0.95)
        chances = " | ".join(f"{100 * power(shots, sd, margin, 0.95):.0f} %" for margin in margins)
        lines.append(
            f"| {shots} | {100 * found.false_accepts:.1f} % | {100 * found.false_rejects:.1f} % | {chances} "
            f"| {smallest:.4f} |"
        )
    return "\n".join(lines) + "\n"


def _main(arguments: list[str]) -> int:
    """``python -m changeover_validators.golden.power --markdown``: print the table."""
    import sys

    if arguments != ["--markdown"]:
        sys.stderr.write("usage: python -m changeover_validators.golden.power --markdown\n")
        return 2
    sys.stdout.write(markdown())
    return 0


if __name__ == "__main__":
    import sys

    raise SystemExit(_main(sys.argv[1:]))
