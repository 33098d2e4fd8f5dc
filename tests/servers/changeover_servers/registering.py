"""Registers releases from a process of its own, for tests with several of them at once.

    python -m changeover_servers.registering URI FOLDER MODEL@VERSION=CHANGES...

Prints `ready` when it is, begins at the first line of its standard input, and prints one JSON list for each release:
model, version, and its number in MLflow and whether it is new, or the error and what it says was there.
"""

import json
import sys
from pathlib import Path

from changeover_registry.errors import ChangeoverError
from changeover_registry.mlflow_adapter.registry import Registry
from changeover_servers.releases import put_files, small_release

__all__ = ["CONTENT"]

CONTENT = b"weights" * 500


def main(arguments: list[str]) -> None:
    """Register each release."""
    uri, folder, *releases = arguments
    files = put_files(Path(folder), CONTENT)
    registry = Registry(uri)
    registry.versions("acme/none")
    _say("ready")
    sys.stdin.readline()
    for spelled in releases:
        model, _, rest = spelled.partition("@")
        version, _, changes = rest.partition("=")
        try:
            made = registry.register_release(small_release(model, version, CONTENT, changes=changes), files, {})
            _say(json.dumps([model, version, made.registered.number, made.new]))
        except ChangeoverError as error:
            _say(json.dumps([model, version, type(error).__name__, error.actual]))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
