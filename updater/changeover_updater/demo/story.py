"""The demonstration's story: a vendor, a pipeline TD, a station and an artist, through the real commands.

Each step is a value: who does what, the exit code that it must end with, the words that its output must hold, and a
check of the world after it. Running them is elsewhere (`play`); nothing in here runs anything while it is imported.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from changeover_updater.demo.artist import Seen, look
from changeover_updater.demo.recipes import LIVE, MODEL
from changeover_updater.demo.releases import CAT_MODEL
from changeover_updater.demo.shots import SHOTS

__all__ = ["HOSTS", "Stage", "Step", "story"]

Actor = Literal["vendor", "TD", "station", "artist", "thief"]

HOSTS = {"8 GiB": "rtx-2070-8gib", "older GPU": "quadro-p4000-8gib"}
"""The forged hosts of the story; they ship with Changeover."""

NUKE = "15.1v3"


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the demonstration plays."""

    root: Path

    @property
    def config(self) -> Path:
        """host.toml, made by ``init``."""
        return self.root / "host.toml"

    @property
    def vendor(self) -> Path:
        """The vendor's home."""
        return self.root / "vendor"

    @property
    def repository(self) -> Path:
        """What the vendor publishes."""
        return self.vendor / "repository"

    @property
    def site(self) -> Path:
        """The studio's site."""
        return self.root / "site"

    @property
    def store(self) -> Path:
        """The station's store."""
        return self.root / "store"

    def release(self, version: str) -> Path:
        """The vendor's folder of one release."""
        return self.root / "releases" / version

    def shots(self) -> Path:
        """The rendered shots."""
        return self.root / "shots"


@dataclass(frozen=True, slots=True)
class Step:
    """One step and how it must end.

    `commands` are run one after the other; all but the last must end with 0, the last with `exit_code` and with every
    text of `says` in what it printed. `before` prepares the world, `after` answers with what is wrong, or nothing.
    """

    title: str
    actor: Actor
    commands: tuple[tuple[str, ...], ...] = ()
    exit_code: int = 0
    says: tuple[str, ...] = ()
    before: Callable[[Stage], None] | None = None
    after: Callable[[Stage], str | None] | None = None
    looks: bool = False


def story(stage: Stage) -> tuple[Step, ...]:
    """Every step, in order; the world's preparation (shots, training) goes before them."""
    return (*_begin(stage), *_first(stage), *_better(stage), *_refused(stage), *_back(stage), *_nuke(stage))


def _begin(stage: Stage) -> tuple[Step, ...]:
    shots = tuple(_golden_add(stage, shot.name, shot.level) for shot in SHOTS)
    init = (
        "init",
        "--site",
        str(stage.site),
        "--store",
        str(stage.store),
        "--nuke-json",
        str(stage.root / "nuke.json"),
    )
    root = stage.repository / "metadata" / "1.root.json"
    trust = ("trust", "add", "acme", str(stage.repository), "--root", str(root), "--allow-executable")
    policy = ("promote", "--policy", "--reason", "this machine serves on its CPU")
    return (
        Step("the vendor makes its keys and an empty signed repository", "vendor", (_vendor(stage, "init"),)),
        Step("the studio makes its site, store, station and keys", "TD", (init,)),
        Step("the studio signs its policy", "TD", (policy,), before=_write_policy),
        Step("the studio trusts the vendor, by the root it got in person", "TD", (trust,)),
        Step("ten golden shots with approved mattes", "TD", (("golden", "set", "create", "hero"), *shots)),
    )


def _first(stage: Stage) -> tuple[Step, ...]:
    return (
        Step("1.0.0, trained just now, is published", "vendor", _publish(stage, LIVE)),
        Step(
            "1.0.0 is accepted with no baseline",
            "TD",
            (("sync",), _check(LIVE)),
            says=("accept", "no baseline"),
        ),
        Step(
            "1.0.0 is promoted, and the station changes over", "station", _serve(LIVE), looks=True, after=_serves(LIVE)
        ),
    )


def _better(stage: Stage) -> tuple[Step, ...]:
    return (
        Step("1.1.0 is published", "vendor", _publish(stage, "1.1.0")),
        Step(
            "1.1.0 is no worse on every metric, and accepted",
            "TD",
            (("sync",), _check("1.1.0")),
            says=("accept", "no worse than the current release"),
        ),
        Step("1.1.0 is promoted and changed over", "station", _serve("1.1.0"), looks=True, after=_serves("1.1.0")),
        Step("a script stamped 1.0.0 still resolves 1.0.0", "artist", after=_stamped(LIVE)),
    )


def _refused(stage: Stage) -> tuple[Step, ...]:
    return (
        Step(
            "1.2.0, 1.3.0 and 1.4.0 are published",
            "vendor",
            tuple(c for v in ("1.2.0", "1.3.0", "1.4.0") for c in _publish(stage, v)),
        ),
        Step(
            "one byte of 1.2.0 is changed on the way: refused, nothing installed",
            "thief",
            (("sync",), _check("1.2.0")),
            exit_code=5,
            says=("sha256", "expected"),
            before=_change_byte,
            after=_restore_byte,
        ),
        Step(
            "1.2.0 is better on average and breaks one shot: rejected, the shot named",
            "TD",
            ((*_check("1.2.0"), "--full"),),
            exit_code=3,
            says=("reject", "window"),
        ),
        Step(
            "1.2.0 cannot be promoted",
            "TD",
            (("promote", f"{MODEL}@1.2.0", "--reason", "looks good on average"),),
            exit_code=3,
            says=("reject",),
            after=_serves("1.1.0"),
        ),
        Step(
            "1.3.0 does not fit an 8 GiB host: refused, with the largest operating point that fits",
            "TD",
            (_check("1.3.0", HOSTS["8 GiB"]),),
            exit_code=3,
            says=("VRAM budget", "largest operating point that fits"),
        ),
        Step(
            "1.4.0 needs what an older GPU cannot do: refused on that host's facts",
            "TD",
            (_check("1.4.0", HOSTS["older GPU"]),),
            exit_code=3,
            says=("compute capability", "8.0"),
            looks=True,
            after=_serves("1.1.0"),
        ),
    )


def _back(stage: Stage) -> tuple[Step, ...]:
    del stage
    return (
        Step(
            "rollback: the station goes back, and holds",
            "station",
            (("rollback", "--reason", "the supervisor saw chatter"),),
            looks=True,
            after=_serves(LIVE),
        ),
        Step("an update does not undo it", "station", (("update",),), says=("held by",), after=_serves(LIVE)),
        Step(
            "the hold is lifted, and the next update goes forward again",
            "station",
            (("unhold", "--reason", "it was the grade"), ("update",)),
            looks=True,
            after=_serves("1.1.0"),
        ),
    )


def _nuke(stage: Stage) -> tuple[Step, ...]:
    folder = stage.root / "releases" / "edge-1.0.0"
    name = f"{CAT_MODEL}@1.0.0"
    checks = tuple(part for check in ("vram", "speed", "golden", "smoke") for part in ("--check", check))
    override = ("override", "add", name, *checks, "--reason", "opaque demonstration bytes", "--until", "1d")
    return (
        Step(
            "an opaque .cat is published (its bytes stand for one that only NukeX can make)",
            "vendor",
            (
                ("vendor", "register", str(folder), "--home", str(stage.vendor)),
                ("vendor", "publish", name, "--home", str(stage.vendor)),
            ),
        ),
        Step(
            "nothing here can measure a .cat: undecided",
            "TD",
            (("sync",), ("check", name, "--set", "hero")),
            exit_code=4,
            says=("inconclusive", "golden"),
        ),
        Step(
            "without a verdict or an override it is not promoted",
            "TD",
            (("promote", name, "--reason", "Nuke needs it"),),
            exit_code=4,
            says=("open: ", "golden"),
        ),
        Step(
            "a named, reasoned, expiring override lets it pass, and Nuke's own node finds it",
            "TD",
            (override, ("promote", name, "--reason", "Nuke needs it"), ("update",)),
            looks=True,
            after=_nuke_finds,
        ),
        Step("the record of all that holds", "TD", (("log", "--verify"), ("log", "--choice"), ("status",))),
    )


def _vendor(stage: Stage, command: str) -> tuple[str, ...]:
    return ("vendor", command, str(stage.vendor), "--name", "acme")


def _publish(stage: Stage, version: str) -> tuple[tuple[str, ...], ...]:
    folder, home = str(stage.release(version)), str(stage.vendor)
    return (
        ("vendor", "smoke", folder),
        ("vendor", "register", folder, "--home", home),
        ("vendor", "publish", f"{MODEL}@{version}", "--home", home),
    )


def _golden_add(stage: Stage, name: str, level: int) -> tuple[str, ...]:
    folder = stage.shots() / name
    return (
        *("golden", "add", "hero", name, "--plate", f"{folder}/plate.####.exr", "--matte", f"{folder}/matte.####.exr"),
        *("--channel", "A", "--colour", "scene-linear", "--level", str(level), "--alias", name),
        *("--approved-by", "Jane Doe"),
    )


def _check(version: str, host: str | None = None) -> tuple[str, ...]:
    return ("check", f"{MODEL}@{version}", "--set", "hero", *(("--host", host) if host else ()))


def _serve(version: str) -> tuple[tuple[str, ...], ...]:
    promote = ("promote", f"{MODEL}@{version}", "--reason", f"verdict of {version} read")
    return (promote, ("plan",), ("update",))


def _write_policy(stage: Stage) -> None:
    """Let this machine serve on its CPU, and time the models at a size that a CPU gets through while somebody waits."""
    path = stage.site / "policy.toml"
    text = path.read_text(encoding="utf-8").replace("serve_on_cpu = false", "serve_on_cpu = true")
    text = text.replace("# plates = [[1920, 1080], [4096, 2160]]", "plates = [[960, 540]]")
    path.write_text(text, encoding="utf-8")
    config = stage.config.read_text(encoding="utf-8")
    if "\n[[nukes]]" not in config:
        stage.config.write_text(f'{config}\n[[nukes]]\nversion = "{NUKE}"\n', encoding="utf-8")


def _object(stage: Stage) -> Path:
    import hashlib

    model = next(stage.release("1.2.0").glob("*/model.onnx"))
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    return stage.repository / "objects" / digest[:2] / digest


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))


def _change_byte(stage: Stage) -> None:
    _flip(_object(stage))


def _restore_byte(stage: Stage) -> str | None:
    _flip(_object(stage))
    left = list((stage.store / "releases").glob("acme/person-roto/1.2.0-*"))
    return f"something was installed: {left[0]}" if left else None


def _serves(version: str) -> Callable[[Stage], str | None]:
    """An unstamped node gets that version, from the channel."""

    def after(stage: Stage) -> str | None:
        seen = look(stage.store, f"{MODEL}", "python")
        wanted = f"{MODEL}@{version}"
        return None if seen.release == wanted and seen.exists else f"an unstamped node gets {seen}"

    return after


def _stamped(version: str) -> Callable[[Stage], str | None]:
    def after(stage: Stage) -> str | None:
        seen = look(stage.store, MODEL, "python", stamp=version)
        good = seen.release == f"{MODEL}@{version}" and seen.source == "stamp" and seen.exists
        return None if good else f"the stamped node gets {seen}"

    return after


def _nuke_finds(stage: Stage) -> str | None:
    seen: Seen = look(stage.store, CAT_MODEL, "nuke-inference")
    return None if seen.path.endswith(".cat") and seen.exists else f"Nuke's node gets {seen}"
