"""An agent's state as a text file for node_exporter's textfile collector. The text is made from values.

Moments are seconds since 1970, as Prometheus' own guide asks for: how long ago, or how many days are left, is for the
query to say. The names stand in ``docs/reference/metrics-prometheus.md`` and stay.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from changeover_registry import _fs
from changeover_registry.clock import parse_time
from changeover_registry.errors import InvalidInputError
from changeover_updater.agent_loop import Kept

__all__ = ["METRICS", "check_name", "metrics_text", "write_metrics"]

METRICS: Mapping[str, tuple[str, str]] = {
    "changeover_info": ("gauge", "Always 1; the station and the version of Changeover that runs there."),
    "changeover_generation": ("gauge", "The number of the generation in use; 0 where nothing is in use yet."),
    "changeover_hold": ("gauge", "1 while a hold keeps the station where it is."),
    "changeover_waits": ("gauge", "1 while what was chosen is installed and waits for the hours of the policy."),
    "changeover_behind": ("gauge", "Channels and pins that have another release here than was chosen."),
    "changeover_quarantined": ("gauge", "Releases that failed on this host class and are not tried again."),
    "changeover_choice_number": ("gauge", "The number of the studio's choice that was verified last, by scope."),
    "changeover_last_tick_timestamp_seconds": ("gauge", "When the agent last tried to update."),
    "changeover_last_success_timestamp_seconds": ("gauge", "When an update last came to its end (exit 0, 3 or 4)."),
    "changeover_next_tick_timestamp_seconds": ("gauge", "When the agent means to update next."),
    "changeover_last_tick_exit_code": ("gauge", "How the last update ended."),
    "changeover_last_tick_duration_seconds": ("gauge", "How long the last update took."),
    "changeover_failures": ("gauge", "Updates in a row that did not come to their end."),
    "changeover_ticks_total": ("counter", "Updates, by exit code."),
    "changeover_trust_expires_timestamp_seconds": ("gauge", "Until when signed metadata can be trusted."),
    "changeover_disk_free_bytes": ("gauge", "What is free where the store and the site lie."),
    "changeover_release_info": ("gauge", "Always 1; which release a channel answers here."),
}
"""Every metric: its type and what it says."""

_Sample = tuple[str, Sequence[tuple[str, str]], float]


def metrics_text(kept: Kept, station: str, version: str, free: Mapping[str, int]) -> str:
    """The metrics of a station after a tick, in the text format; `free` is bytes by place."""
    lines: list[str] = []
    told: set[str] = set()
    for name, labels, value in sorted(_samples(kept, station, version, free), key=lambda s: list(METRICS).index(s[0])):
        if name not in told:
            told.add(name)
            kind, help_text = METRICS[name]
            lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
        inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
        lines.append(_line(name, inside, value))
    return "\n".join(lines) + "\n"


def _line(name: str, labels: str, value: float) -> str:
    number = f"{value:.3f}".rstrip("0").rstrip(".")
    return f"{name}{{{labels}}} {number}" if labels else f"{name} {number}"


def _samples(kept: Kept, station: str, version: str, free: Mapping[str, int]) -> Iterator[_Sample]:
    done = kept.done
    yield "changeover_info", (("station", station), ("version", version)), 1
    yield "changeover_generation", (), done.generation or 0
    yield "changeover_hold", (), int(done.held)
    yield "changeover_waits", (), int(done.shut)
    yield "changeover_quarantined", (), done.quarantined
    yield "changeover_last_tick_exit_code", (), done.exit_code
    yield "changeover_last_tick_duration_seconds", (), done.milliseconds / 1000
    yield "changeover_failures", (), kept.failures
    if done.behind is not None:
        yield "changeover_behind", (), done.behind
    moments = {"last_tick": kept.at, "last_success": kept.success, "next_tick": kept.next_tick}
    for name, moment in moments.items():
        if moment is not None:
            yield f"changeover_{name}_timestamp_seconds", (), parse_time(moment).timestamp()
    for scope, number in sorted(done.choices.items()):
        yield "changeover_choice_number", (("scope", scope),), number
    for code, count in sorted(kept.ticks.items()):
        yield "changeover_ticks_total", (("exit_code", code),), count
    for repository, moment in sorted(done.expires.items()):
        seconds = parse_time(moment).timestamp()
        yield "changeover_trust_expires_timestamp_seconds", (("repository", repository),), seconds
    for place, count in sorted(free.items()):
        yield "changeover_disk_free_bytes", (("of", place),), count
    for channel, model, key in sorted(done.serving):
        release = key.partition("@")[2]
        labels = (("channel", channel), ("model", model), ("release", release))
        yield "changeover_release_info", labels, 1


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def check_name(path: Path) -> Path:
    """Return `path` if the collector would read it.

    Raises:
        InvalidInputError: Its name does not end in ``.prom``, or its folder is not there.
    """
    if path.suffix != ".prom" or not path.absolute().parent.is_dir():
        raise InvalidInputError(
            "Prometheus file",
            where=f"--prometheus {path}",
            expected="a file ending in .prom, in a folder that is there",
            actual="another ending" if path.suffix != ".prom" else "no such folder",
            remedy="give the folder of node_exporter's --collector.textfile.directory and a name ending in .prom",
        )
    return path


def write_metrics(path: Path, text: str) -> None:
    """Put the text in place in one step: the collector reads the old file or the new one.

    Raises:
        OSError: It cannot be written.
    """
    _fs.write_atomic(path, text.encode())
