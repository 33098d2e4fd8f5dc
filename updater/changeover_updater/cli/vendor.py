"""The vendor's commands: init, smoke, register, publish, withdraw, renew, carry, places; keys."""

import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changeover_updater.cli import vendor_keys, vendor_places
from changeover_updater.cli._context import JsonFlag, invocation
from changeover_updater.cli._output import emit, escape, mark, notice, progress, say

if TYPE_CHECKING:
    from changeover_updater.vendor import Smoked
    from changeover_updater.vendor_home import VendorHome

__all__ = ["app"]

app = typer.Typer(
    help="For vendors: prove, register, sign and publish releases.", no_args_is_help=True, rich_markup_mode="rich"
)

app.add_typer(vendor_keys.app, name="keys")
vendor_places.add_to(app)

HomeFlag = Annotated[
    Path | None, typer.Option("--home", help="The vendor's home; else CHANGEOVER_VENDOR_HOME or the current folder.")
]
ReleaseDir = Annotated[Path, typer.Argument(metavar="RELEASE_DIR", help="The folder that holds release.toml.")]
PythonFlag = Annotated[Path, typer.Option("--python", help="A Python that holds Changeover and the runtimes.")]
RamFlag = Annotated[int, typer.Option("--ram-mib", min=256, help="The most memory that a model may take, in MiB.")]
Target = Annotated[str, typer.Argument(metavar="MODEL@VERSION", help="A release, such as person-roto@1.0.0.")]


@app.command()
def init(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="HOME", help="A new or empty folder.")],
    name: Annotated[str, typer.Option("--name", help="The vendor's name; its models are NAME/….")],
    mlflow_uri: Annotated[str, typer.Option(help="An MLflow server; by default a SQLite file in HOME.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Make a vendor's home: keys, an empty signed repository, and an MLflow."""
    from changeover_updater.vendor_home import make_home

    with progress() as line:
        line.step("making keys, repository and MLflow")
        made = make_home(folder, name, mlflow_uri, invocation(context).now)

    def show() -> None:
        home = made.home
        verb = "made" if made.new else "there already"
        say(f"{mark('ok' if made.new else 'skip')} home of [bold]{name}[/] {verb}: {escape(str(home.folder))}")
        say(f"    repository to publish by any web server or disk: {escape(str(home.repository))}")
        say(f"    root for your studios, sha256 {made.root_digest}: {escape(str(made.root))}")
        say(f"    keys to move to another disk now: {escape(str(home.keys.root.parent))}")

    answer = {
        "vendor": name,
        "home": str(made.home.folder),
        "repository": str(made.home.repository),
        "root": str(made.root),
        "root_sha256": made.root_digest,
        "new": made.new,
    }
    emit(answer, as_json=as_json, show=show)


@app.command()
def smoke(
    folder: ReleaseDir,
    python: PythonFlag = Path(sys.executable),
    again: Annotated[bool, typer.Option("--again", help="Record anew where a smoke file is there.")] = False,
    ram_mib: RamFlag = 8192,
    as_json: JsonFlag = False,
) -> None:
    """Run each variant isolated and record smoke.npz, by which a studio's machine sees that it runs as here."""
    from changeover_updater import vendor

    with progress() as line:
        done = vendor.smoke(folder, interpreter=str(python), again=again, ram_mib=ram_mib, step=line.step)
    signs = {"written": "ok", "kept": "ok", "skipped": "skip"}

    def show() -> None:
        for item in done:
            say(f"{mark(signs[item.outcome])} {item.variant}: smoke {item.outcome}; {escape(item.detail)}")
            _show_values(item)

    answer = [
        {
            "variant": item.variant,
            "outcome": item.outcome,
            "detail": item.detail,
            "matte": asdict(item.values) if item.values else None,
        }
        for item in done
    ]
    emit(answer, as_json=as_json, show=show)


def _show_values(item: "Smoked") -> None:
    """The recorded matte in numbers, since nobody looks at it; a wrong contract often shows as one value everywhere."""
    if (found := item.values) is None:
        return
    span = f"lowest {found.lowest:.3g}, highest {found.highest:.3g}, mean {found.mean:.3g}"
    say(f"    recorded matte: {span}")
    if found.flat:
        notice(
            f"{item.variant}: the recorded matte is the same everywhere; if the model is not meant to answer so, look "
            "at colour, mean, scale, channels and output in its contract"
        )


@app.command()
def register(
    context: typer.Context,
    folder: ReleaseDir,
    home: HomeFlag = None,
    python: PythonFlag = Path(sys.executable),
    ram_mib: RamFlag = 8192,
    model_signing: Annotated[
        Path | None,
        typer.Option(metavar="KEY.pem", help="Also sign the files as OpenSSF model signing does, with this EC key."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Inspect a release, run its smoke files isolated, write release.json and put the bytes into MLflow.

    Beside it lie its bill of materials, a model card and whatever stands in RELEASE_DIR/documents.
    """
    from changeover_updater import vendor
    from changeover_updater.vendor_documents import kept_documents

    notices: list[str] = []
    with progress() as line:
        release, made = vendor.register(
            _home(home),
            folder,
            invocation(context).now,
            interpreter=str(python),
            ram_mib=ram_mib,
            model_signing=model_signing,
            step=line.step,
            notice=notices.append,
        )
    for text in notices:
        notice(text)
    documents = sorted(kept_documents(_home(home), release))

    def show() -> None:
        verb = "registered" if made.new else "registered already, nothing changed"
        number = made.registered.number
        say(f"{mark('ok' if made.new else 'skip')} [bold]{release.ref()}[/] {verb}; MLflow version {number}")
        say(f"    beside it: {escape(', '.join(documents))}")
        if parent := release.provenance.parent_release:
            say(f"    it descends from {escape(parent)}")
        target = f"{release.model.partition('/')[2]}@{release.version}"
        where = f" --home {shlex.quote(str(home))}" if home else ""
        say(f"    publish it with: changeover vendor publish {target}{escape(where)}")

    answer = {
        "release": str(release.ref()),
        "model": release.model,
        "version": release.version,
        "digest": release.digest(),
        "parent_release": release.provenance.parent_release,
        "mlflow_version": made.registered.number,
        "documents": documents,
        "new": made.new,
    }
    emit(answer, as_json=as_json, show=show)


@app.command()
def publish(
    context: typer.Context,
    release: Target,
    record: Annotated[
        Path | None, typer.Option(help="release.json as it was registered, for a home that did not register it.")
    ] = None,
    home: HomeFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Take a release out of MLflow, compare every digest, sign it into the repository, and carry it to every place."""
    from changeover_updater import vendor
    from changeover_updater.vendor_home import which_release

    with progress() as line:
        place = _home(home)
        model, version = which_release(release, place.vendor)
        kept = record.read_bytes() if record is not None else None
        done = vendor.publish(place, model, version, invocation(context).now, record=kept, step=line.step)
    verb = "published" if done.new else "published already, nothing changed"
    line_of = (
        f"{mark('ok' if done.new else 'skip')} [bold]{done.release.ref()}[/] {verb}: {escape(str(place.repository))}"
    )
    answer = {"release": str(done.release.ref()), "repository": str(place.repository), "new": done.new}
    _carry(place, answer, line_of, as_json=as_json)


@app.command()
def withdraw(
    context: typer.Context,
    release: Target,
    why: Annotated[str, typer.Option("--why", help="What studios will read.")],
    home: HomeFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Mark a published release as withdrawn; it stays readable for scripts that are stamped with it."""
    from changeover_updater import vendor
    from changeover_updater.vendor_home import which_release

    place = _home(home)
    model, version = which_release(release, place.vendor)
    new = vendor.withdraw(place, model, version, why, invocation(context).now)
    verb = "withdrawn" if new else "withdrawn already, nothing changed"
    answer = {"model": model, "version": version, "why": why, "new": new}
    _carry(place, answer, f"{mark('ok' if new else 'skip')} [bold]{model}@{version}[/] {verb}", as_json=as_json)


@app.command()
def renew(context: typer.Context, home: HomeFlag = None, as_json: JsonFlag = False) -> None:
    """Sign anew what expires, so that studios go on trusting what is published. Run it every week."""
    from changeover_updater import vendor
    from changeover_updater.vendor_signing import held

    place, now = _home(home), invocation(context).now
    roles = vendor.renew(place, now)
    # What the keys here may not sign ends all the same, and whoever reads a timer's mail has to know.
    for text in dict.fromkeys(one.remedy(now) for one in held(place, now) if one.near):
        notice(text)
    _carry(place, {"renewed": list(roles)}, f"{mark('ok')} renewed: {', '.join(roles)}", as_json=as_json)


def _carry(home: "VendorHome", answer: dict[str, object], line: str, *, as_json: bool) -> None:
    """Bring what was just signed to every place, then say what was signed and where it went."""
    from changeover_updater.cli._places import answer_of, carried, raise_failed, show_carried

    went = carried(home)

    def show() -> None:
        say(line)
        show_carried(went)

    emit({**answer, "places": answer_of(went)}, as_json=as_json, show=show)
    raise_failed(went)


def _home(flag: Path | None) -> "VendorHome":
    from changeover_updater.vendor_home import find_home, open_home

    return open_home(find_home(flag, os.environ, Path.cwd()))
