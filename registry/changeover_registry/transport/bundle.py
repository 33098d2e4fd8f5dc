"""A repository inside a bundle that was carried here: read from its file, without a network.

What the carrier's disk damaged is told from what nobody signed: a member that is read whole is hashed against the
manifest first. That decides nothing; the client verifies what comes out as it verifies a web server's answer.
"""

import contextlib
from collections.abc import Generator, Iterator

from changeover_registry.bundle_file import BundleFile
from changeover_registry.errors import UnreachableError
from changeover_registry.names import check_path
from changeover_registry.transport.interface import NotThereError, too_much

__all__ = ["BundleTransport"]


class BundleTransport:
    """Reads the members of a bundle below one of its folders.

    Args:
        bundle: The bundle.
        prefix: The folder inside it that is the repository's root: ``vendors/<vendor>`` or ``choice``.
    """

    def __init__(self, bundle: BundleFile, prefix: str) -> None:
        self._bundle = bundle
        self._prefix = prefix

    @property
    def location(self) -> str:
        """The bundle's path, a colon, and the folder inside it."""
        return f"{self._bundle.path}: {self._prefix}"

    def read(self, path: str, *, limit: int) -> bytes:
        """See `Transport.read`."""
        member = self._member(path)
        if self._bundle.members[member].size > limit:
            raise too_much(f"{self._bundle.path}: {member}", limit)
        with self._wrapping(member):
            self._bundle.check(member)
        return b"".join(self.stream(path))

    def stream(self, path: str, *, offset: int = 0, length: int | None = None) -> Generator[bytes, None, None]:
        """See `Transport.stream`."""
        member = self._member(path)
        with self._wrapping(member):
            yield from self._bundle.stream(member, offset=offset, length=length)

    @contextlib.contextmanager
    def _wrapping(self, member: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UnreachableError(
                "bundle",
                where=f"{self._bundle.path}: {member}",
                expected="a file that can be read",
                actual=error.strerror or type(error).__name__,
                remedy="check the drive and its cable, then run the command again; it goes on where it stopped",
            ) from error

    def _member(self, path: str) -> str:
        member = f"{self._prefix}/{check_path(path, where=self.location)}"
        if member not in self._bundle.members:
            raise NotThereError(
                "member of a bundle",
                where=f"{self._bundle.path}: {member}",
                expected="this file",
                actual="no such member",
                remedy="have the bundle made again with this version's changeover export",
            )
        return member
