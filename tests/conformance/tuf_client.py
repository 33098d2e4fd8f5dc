"""Our client behind the command line of theupdateframework/tuf-conformance (its CLIENT-CLI.md).

What verifies is `changeover_registry.client` over `changeover_registry.transport`, as `sync` and every station use
them; here is the command line, and the copies under the names that the suite asks for. Metadata and targets must lie in
the folders ``metadata`` and ``targets`` of one address, as in every repository that we read.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from changeover_registry._fs import write_atomic
from changeover_registry.client import Client
from changeover_registry.errors import ChangeoverError
from changeover_registry.transport import open_transport

_TRUSTED = "trusted-root"
_LIMIT_BYTES = 64 * 1024 * 1024


def main(arguments: Sequence[str]) -> int:
    """Run one command of the suite; 0 where all of it succeeded, 1 with one line on stderr otherwise."""
    asked = _parser().parse_args(arguments)
    metadata = Path(asked.metadata_dir)
    try:
        if asked.command == "init":
            write_atomic(metadata / _TRUSTED, Path(asked.root).read_bytes())
            return 0
        client = Client(open_transport(_location(asked)), metadata, (metadata / _TRUSTED).read_bytes())
        client.refresh()
        if asked.command == "download":
            _download(client, asked.target_name, Path(asked.target_dir))
    except (ChangeoverError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        _copy_root(metadata)
    return 0


def _download(client: Client, names: list[str], folder: Path) -> None:
    for name in names:
        file = folder / quote(name, safe="")
        data = client.target(name, limit=_LIMIT_BYTES, kept=file)
        if not file.is_file() or file.read_bytes() != data:
            write_atomic(file, data)


def _location(asked: argparse.Namespace) -> str:
    """The address of the repository, of which the suite names the two folders."""
    location, _, folder = asked.metadata_url.rstrip("/").rpartition("/")
    targets = (asked.target_base_url or f"{location}/targets").rstrip("/")
    if folder != "metadata" or targets != f"{location}/targets":
        message = f"expected ADDRESS/metadata and ADDRESS/targets, found {asked.metadata_url} and {targets}"
        raise OSError(message)
    return str(location)


def _copy_root(metadata: Path) -> None:
    """The newest verified root, under the name that the suite asks for; ours stand by version."""
    roots = sorted((metadata / "root_history").glob("*.root.json"), key=lambda path: int(path.name.split(".")[0]))
    for newest in roots[-1:]:
        write_atomic(metadata / "root.json", newest.read_bytes())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tuf-client")
    parser.add_argument("--metadata-dir", required=True)
    parser.add_argument("--metadata-url")
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-base-url")
    parser.add_argument("--target-dir")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("root")
    commands.add_parser("refresh")
    commands.add_parser("download")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
