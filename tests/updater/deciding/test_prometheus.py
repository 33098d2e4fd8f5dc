"""The metrics as Prometheus' own parser reads them."""

import math
import re
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from changeover_registry.clock import parse_time
from changeover_registry.errors import InvalidInputError
from changeover_updater.agent import Done
from changeover_updater.agent_loop import Kept
from changeover_updater.prometheus import METRICS, check_name, metrics_text, write_metrics

ROOT = Path(__file__).parents[3]
AT, SUCCESS, NEXT = "2026-11-22T12:00:00Z", "2026-11-22T11:45:00Z", "2026-11-22T12:15:07Z"


def done(**changes: object) -> Done:
    said: dict[str, object] = {
        "exit_code": 6,
        "line": "x",
        "generation": 7,
        "held": True,
        "behind": 2,
        "quarantined": 1,
        "shut": True,
        "choices": {"site": 12, "shows/atlas": 3},
        "serving": (("stable", "acme/net", "acme/net@1.0.0-0123456789ab"),),
        "expires": {"choice": "2026-12-22T12:00:00Z", "vendor acme": "2027-11-22T12:00:00Z"},
        "milliseconds": 1234,
    }
    return Done.model_validate(said | changes)


def kept(**changes: object) -> Kept:
    ticks = {"0": 40, "6": 2}
    made = Kept(done=done(), at=AT, success=SUCCESS, failures=2, ticks=ticks, next_tick=NEXT)
    return made.model_copy(update=changes)


def parsed(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Every sample by name and labels; each family must have its help and the type that is documented."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            kind, words = METRICS[sample.name]
            assert (family.type, family.documentation) == (kind, words)
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def seconds(moment: str) -> float:
    return parse_time(moment).timestamp()


def test_every_metric_is_read_with_its_value() -> None:
    found = parsed(metrics_text(kept(), "ws1", "0.1.0", {"store": 5 * 2**40, "site": 123456789}))

    assert found.keys() == METRICS.keys()
    plain = {name: values[()] for name, values in found.items() if () in values}
    assert plain == {
        "changeover_generation": 7,
        "changeover_hold": 1,
        "changeover_waits": 1,
        "changeover_behind": 2,
        "changeover_quarantined": 1,
        "changeover_last_tick_timestamp_seconds": seconds(AT),
        "changeover_last_success_timestamp_seconds": seconds(SUCCESS),
        "changeover_next_tick_timestamp_seconds": seconds(NEXT),
        "changeover_last_tick_exit_code": 6,
        "changeover_last_tick_duration_seconds": 1.234,
        "changeover_failures": 2,
    }
    assert found["changeover_disk_free_bytes"] == {(("of", "site"),): 123456789, (("of", "store"),): 5 * 2**40}
    assert found["changeover_choice_number"] == {(("scope", "site"),): 12, (("scope", "shows/atlas"),): 3}
    assert found["changeover_ticks_total"] == {(("exit_code", "0"),): 40, (("exit_code", "6"),): 2}
    assert found["changeover_trust_expires_timestamp_seconds"] == {
        (("repository", "choice"),): seconds("2026-12-22T12:00:00Z"),
        (("repository", "vendor acme"),): seconds("2027-11-22T12:00:00Z"),
    }
    release = (("channel", "stable"), ("model", "acme/net"), ("release", "1.0.0-0123456789ab"))
    assert found["changeover_release_info"] == {release: 1}
    assert found["changeover_info"] == {(("station", "ws1"), ("version", "0.1.0")): 1}


def test_what_nobody_knows_is_left_out() -> None:
    first = kept(done=done(behind=None, choices={}, serving=(), expires={}), success=None, next_tick=None)

    found = parsed(metrics_text(first, "ws1", "0.1.0", {}))

    gone = {"behind", "choice_number", "last_success_timestamp_seconds", "next_tick_timestamp_seconds"}
    gone |= {"trust_expires_timestamp_seconds", "disk_free_bytes", "release_info"}
    assert found.keys() == METRICS.keys() - {f"changeover_{name}" for name in gone}


@given(st.text(min_size=1, max_size=40), st.integers(0, 2**53))
def test_any_label_and_number_comes_back_as_it_was(label: str, number: int) -> None:
    found = parsed(metrics_text(kept(), label, "0.1.0", {label: number}))

    assert found["changeover_disk_free_bytes"] == {(("of", label),): number}
    assert not any(math.isnan(value) for values in found.values() for value in values.values())


def test_the_page_lists_every_metric_and_no_other() -> None:
    page = (ROOT / "docs" / "reference" / "metrics-prometheus.md").read_text(encoding="utf-8")

    assert set(re.findall(r"^\| `(changeover_\w+)`", page, re.MULTILINE)) == METRICS.keys()


def test_file_is_whole_and_named_so_that_the_collector_reads_it(tmp_path: Path) -> None:
    path = check_name(tmp_path / "changeover.prom")

    for _ in range(2):
        write_metrics(path, "changeover_hold 1\n")

    assert [entry.name for entry in tmp_path.iterdir()] == ["changeover.prom"]
    # The collector runs as a user of its own.
    assert path.stat().st_mode & 0o444 == 0o444
    for wrong in (tmp_path / "changeover.txt", tmp_path / "none" / "changeover.prom"):
        with pytest.raises(InvalidInputError, match="Prometheus file"):
            check_name(wrong)


def test_moments_are_those_of_utc() -> None:
    assert seconds(AT) == datetime.fromisoformat(AT).timestamp()
