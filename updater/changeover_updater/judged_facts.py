"""The facts that verdicts were made on, kept in the site under their digest, so that a later change can be told.

A verdict holds the digest of the facts alone. They are small, they hold no picture, and whoever reads them here
compares their digest with the signed one. What this leaves out: what a change means (`checks.impact`).
"""

from changeover_registry import _fs
from changeover_registry.errors import ChangeoverError
from changeover_registry.records.facts import HostFacts
from changeover_updater.site import Site

__all__ = ["judged_facts", "keep_facts"]


def keep_facts(site: Site, facts: HostFacts) -> str:
    """Keep the facts of a host, and answer their digest; what is there already stays.

    Raises:
        OSError: The site cannot be written.
    """
    digest = facts.digest()
    path = site.root / "facts" / f"{digest}.json"
    if not path.is_file():
        _fs.make_dirs(path.parent)
        _fs.write_atomic(path, facts.to_bytes())
    return digest


def judged_facts(site: Site, digest: str) -> HostFacts | None:
    """The facts of that digest; None where they were never kept, or are not what the digest says."""
    path = site.root / "facts" / f"{digest}.json"
    try:
        facts = HostFacts.from_bytes(path.read_bytes(), where=str(path))
    except (OSError, ChangeoverError):
        return None
    return facts if facts.digest() == digest else None
