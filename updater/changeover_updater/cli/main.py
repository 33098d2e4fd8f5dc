"""The root of the command line: global options, the exit codes, and no traceback for a user's mistake."""

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from changeover_registry.errors import ChangeoverError
from changeover_updater.cli import (
    _context,
    adopt,
    agent,
    audit,
    bundle,
    demo,
    doctor,
    documents,
    draft,
    farm,
    fits,
    fleet,
    golden,
    keys,
    measure,
    report,
    rollout,
    runtimes,
    score,
    search,
    station,
    store,
    studio,
    vendor,
)
from changeover_updater.cli._output import print_error, speak_anyhow

__all__ = ["app", "main", "run"]

_EXTRAS = {
    "run": {
        *("OpenEXR", "OpenImageIO", "PyOpenColorIO", "archspec", "jinja2", "numba", "numpy", "onnx", "onnxruntime"),
        *("pynvml", "scipy"),
    },
    "s3": {"boto3", "botocore"},
    "dask": {"distributed"},
    "torch": {"torch"},
    "mlflow": {"cyclonedx", "mlflow"},
    "signing": {"model_signing"},
    "hsm": {"pkcs11"},
}
"""Which extra of the distribution brings which package."""

app = typer.Typer(
    name="changeover",
    help="Change over the roto model that Nuke loads: signed, proven here, with the way back open.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
vendor.app.command()(draft.draft)
app.add_typer(vendor.app, name="vendor")
app.add_typer(golden.app, name="golden")
golden.app.command("score")(score.score)
app.add_typer(runtimes.app, name="runtimes")
app.add_typer(rollout.app, name="rollout")
app.add_typer(keys.app, name="keys")
app.command()(keys.approve)
studio.add_to(app)
bundle.add_to(app)
station.add_to(app)
store.add_to(app)
farm.add_to(app)
app.command()(adopt.adopt)
app.command()(report.report)
app.command()(documents.documents)
app.command()(doctor.doctor)
app.command()(audit.audit)
app.command()(search.search)
app.command()(fits.fits)
app.command()(agent.agent)
app.command()(fleet.fleet)
app.command()(measure.measure)
app.command()(demo.demo)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        sys.stdout.write(f"changeover {version('changeover')}\n")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="host.toml; else CHANGEOVER_CONFIG or the user's.")] = None,
    site: Annotated[Path | None, typer.Option(help="The studio's site; else CHANGEOVER_SITE or host.toml.")] = None,
    store: Annotated[Path | None, typer.Option(help="The store; else CHANGEOVER_STORE or host.toml.")] = None,
    station: Annotated[
        str | None, typer.Option(help="The station; else CHANGEOVER_STATION, host.toml or the host.")
    ] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Log to stderr, and show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Read the settings once, for every command."""
    del version
    _context.start(context, config=config, site=site, store=store, station=station, verbose=verbose)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        result = app(args=list(arguments), standalone_mode=False, prog_name="changeover")
    except ChangeoverError as error:
        return _failed(str(error), error.exit_code, arguments)
    except typer.TyperException as error:
        # A group that is named without a command has shown its help, and leaves nothing to say.
        return _failed(_usage(error), 2, arguments) if error.format_message().strip() else 2
    except (typer.Abort, KeyboardInterrupt):
        return _failed("interrupted; nothing is half done, run the command again", 130, arguments)
    except OSError as error:
        return _failed(_disk(error), 9, arguments)
    except Exception as error:  # noqa: BLE001 - a fault of ours is one line too, and exit code 1
        return _failed(*_fault(error), arguments)
    return int(result or 0)


def main() -> None:
    """The entry point of the command ``changeover``."""
    speak_anyhow()
    sys.exit(run(sys.argv[1:]))


def _usage(error: typer.TyperException) -> str:
    """What is wrong with the words of a command, and whose help to read."""
    context = getattr(error, "ctx", None)
    text = error.format_message()
    quote = "; quote words with spaces, and patterns of frames." if "unexpected extra arg" in text else ""
    return f"usage: {text}{quote} Try: {context.command_path if context else 'changeover'} --help"


def _fault(error: Exception) -> tuple[str, int]:
    """The line and exit code of a fault; a package that only an extra brings is not ours but the installation's."""
    module = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    extra = next((extra for extra, modules in _EXTRAS.items() if module in modules), None)
    if extra is not None:
        remedy = f"install it where changeover runs: pip install 'changeover[{extra}]'"
        return f"installation: {module}: expected this Python package, found none; {remedy}", 2
    if type(error).__name__ == "ValidationError" and type(error).__module__.startswith("pydantic"):
        first = error.errors()[0]  # type: ignore[attr-defined]  # importing pydantic for its name costs every command
        field = ".".join(map(str, first["loc"])) or type(error).__name__
        given = repr(first["input"])[:80]
        return f"value: {field}: expected {first['msg']}, found {given}; correct it and run the command again", 2
    return f"a fault in Changeover itself: {' '.join(repr(error).split())}; run again with -v and report it", 1


def _disk(error: OSError) -> str:
    where = error.filename or (error.args[1] if len(error.args) > 1 else "")
    gone = isinstance(error, FileNotFoundError)
    denied = isinstance(error, PermissionError)
    remedy = (
        "bring it back, or name another"
        if gone
        else "mend the permission, or be a user who has it"
        if denied
        else "free space or mend the permission"
    )
    return f"local disk: {where}: {error.strerror or error}; {remedy}, then run the command again"


def _failed(line: str, code: int, arguments: Sequence[str]) -> int:
    if {"-v", "--verbose"} & set(arguments):
        traceback.print_exc()
    print_error(line)
    return code
