"""The reference page says what the code says."""

from pathlib import Path

import pytest

from changeover_validators.golden import bench
from changeover_validators.golden.catalogue import METRICS, SUMMARIES, Metric
from changeover_validators.golden.metrics import COMPUTED

PAGE = (Path(__file__).parents[4] / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")


def row(metric: Metric) -> str:
    better = "higher" if metric.higher_is_better else "lower"
    invariant = "yes" if metric.resolution_invariant else "no"
    needs = ", ".join(sorted(metric.needs))
    cells = (f"`{metric.name}`", metric.definition, metric.unit, better, needs, invariant, metric.source)
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize(("heading", "metrics"), [("Of a frame", METRICS), ("Of a shot", SUMMARIES)])
def test_the_page_lists_every_metric_as_the_code_has_it(heading: str, metrics: tuple[Metric, ...]) -> None:
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == [row(metric) for metric in metrics]


def test_the_page_shows_every_line_of_the_bench_at_both_sizes() -> None:
    section = PAGE.partition("## Speed\n")[2]
    for name in (*bench.GROUPS, "all together"):
        assert section.count(f"| {name} |") == 3
    assert f"all {len(METRICS)} metrics" in section
    assert "1920 x 1080, medians" in section
    assert "4096 x 2160, medians" in section


def test_every_metric_of_the_catalogue_is_computed() -> None:
    assert list(COMPUTED) == [metric.name for metric in METRICS]
