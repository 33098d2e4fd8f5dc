"""The container of a bundle: an uncompressed tar that has one spelling, read from front to back or from any offset.

Rules: plain files alone, in the order of the manifest, which is the first member; its checksum is the second. Owner,
time and mode are always the same, so that each header follows from a path and a size: a reader makes it again and
refuses any other bytes, and so there is no room for links, folders, other paths, a second file of the same name or
bytes between files. The size of the whole follows from the manifest. Nothing is compressed, so nothing swells. Any tar
program can list and unpack it. Left out: whether what is in it may be believed, which its signed metadata decides.
"""

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from changeover_registry import canonical
from changeover_registry.errors import InvalidInputError, TrustError
from changeover_registry.records.bundle import Bundle, BundleMember

__all__ = ["BundleFile", "Piece", "container_size", "member_header", "open_bundle", "write_container"]

MANIFEST = "bundle.json"
CHECKSUM = "bundle.json.sha256"
MANIFEST_LIMIT_BYTES = 32 * 1024 * 1024
"""What no manifest is larger than: about 200,000 members."""

_BLOCK = 512
_CHUNK_BYTES = 1024 * 1024
_END = bytes(2 * _BLOCK)
_OCTAL_LIMIT = 8**11
_NAME_BYTES, _PREFIX_BYTES = 100, 155


@dataclass(frozen=True, slots=True)
class Piece:
    """One member on its way into a bundle, and how its bytes are had."""

    member: BundleMember
    pieces: Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A bundle whose container is right: the manifest, its digest, and where the bytes of each member begin."""

    path: Path
    manifest: Bundle
    digest: str
    offsets: Mapping[str, int]
    members: Mapping[str, BundleMember]

    def stream(self, path: str, *, offset: int = 0, length: int | None = None) -> Generator[bytes, None, None]:
        """The bytes of a member from `offset` on, as they are, at most `length`; nothing where it ends before.

        Raises:
            KeyError: There is no such member.
            OSError: The disk does not give them.
        """
        left = self.members[path].size - offset
        left = left if length is None else min(left, length)
        with self.path.open("rb") as file:
            file.seek(self.offsets[path] + offset)
            while left > 0 and (piece := file.read(min(_CHUNK_BYTES, left))):
                left -= len(piece)
                yield piece

    def check(self, path: str) -> None:
        """Hash a member.

        Raises:
            TrustError: It is not what the manifest says: damaged on its way, or changed.
        """
        digest = hashlib.sha256()
        for piece in self.stream(path):
            digest.update(piece)
        expected = self.members[path].sha256
        if digest.hexdigest() != expected:
            raise damaged(f"{self.path}: {path}", f"sha256 {expected}", f"sha256 {digest.hexdigest()}")

    def under(self, prefix: str) -> tuple[str, ...]:
        """The paths of the members below ``prefix``, in their order."""
        return tuple(path for path in self.members if path.startswith(f"{prefix}/"))


def open_bundle(path: Path) -> BundleFile:
    """Read the manifest and check the whole container, headers and ends of members, and not yet what is in them.

    Raises:
        InvalidInputError: It is no bundle.
        UndecidedError: A newer version wrote it.
        TrustError: It is cut short, damaged or changed; the message names the member.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        data = _manifest(path, file)
        try:
            manifest = Bundle.from_bytes(data, where=f"{path}: {MANIFEST}")
        except InvalidInputError as error:
            raise damaged(error.where, error.expected, error.actual) from error
        first = file.tell()
        places = dict(_places(manifest.members, first))
        _check_length(path, manifest.members, first)
        _check_frames(path, file, manifest.members, places)
    members = {member.path: member for member in manifest.members}
    return BundleFile(path, manifest, canonical.digest(data), places, members)


def write_container(
    file: BinaryIO, manifest: Bundle, pieces: Iterable[Piece], progress: Callable[[str, int], None]
) -> None:
    """Write manifest, checksum and every piece in the order of the manifest, hashing what is written.

    Raises:
        TrustError: The bytes of a piece are not those that its member names.
        OSError: The disk is full, read-only or gone.
    """
    data = manifest.to_bytes()
    own = ((MANIFEST, data), (CHECKSUM, _checksum(data)))
    file.writelines(member_header(path, len(body)) + body + _padding(len(body)) for path, body in own)
    for piece in pieces:
        file.write(member_header(piece.member.path, piece.member.size))
        _copy(file, piece, progress)
        file.write(_padding(piece.member.size))
    file.write(_END)


def container_size(manifest: Bundle) -> int:
    """How many bytes a bundle takes on the disk."""
    size = len(manifest.to_bytes())
    return _end_of(manifest.members, _framed(size) + _framed(len(_checksum(b"")))) + len(_END)


def damaged(where: str, expected: str, actual: str, rule: str = "bundle") -> TrustError:
    """The refusal of a bundle that is not as it was written."""
    remedy = "copy the bundle again from where it was made, or have it made again; nothing was changed here"
    return TrustError(rule, where=where, expected=expected, actual=actual, remedy=remedy)


def _copy(file: BinaryIO, piece: Piece, progress: Callable[[str, int], None]) -> None:
    digest, size = hashlib.sha256(), 0
    for data in piece.pieces():
        digest.update(data)
        size += len(data)
        file.write(data)
        progress(piece.member.path, len(data))
    if (size, digest.hexdigest()) != (piece.member.size, piece.member.sha256):
        raise TrustError(
            "digest",
            where=piece.member.path,
            expected=f"{piece.member.size} bytes, sha256 {piece.member.sha256}",
            actual=f"{size} bytes, sha256 {digest.hexdigest()}",
            remedy="run changeover doctor where these bytes are kept; no bundle was written",
        )


def _manifest(path: Path, file: BinaryIO) -> bytes:
    """The bytes of the manifest, in its own frame and with the checksum that follows; the file stands behind both."""
    head = file.read(_BLOCK)
    size = _declared_size(head)
    if head[:_NAME_BYTES].rstrip(b"\0") != MANIFEST.encode() or size is None:
        raise InvalidInputError(
            "bundle",
            where=str(path),
            expected=f"a file made by changeover export, which begins with {MANIFEST}",
            actual="an empty file" if not head else "something else",
            remedy="name the bundle's file",
        )
    if size > MANIFEST_LIMIT_BYTES:
        raise damaged(f"{path}: {MANIFEST}", f"at most {MANIFEST_LIMIT_BYTES} bytes", f"{size} bytes")
    data = _framed_bytes(path, file, head, MANIFEST, size)
    stated = _framed_bytes(path, file, file.read(_BLOCK), CHECKSUM, len(_checksum(b"")))
    if stated != _checksum(data):
        raise damaged(f"{path}: {MANIFEST}", f"the checksum in {CHECKSUM}", f"sha256 {canonical.digest(data)}")
    return data


def _framed_bytes(path: Path, file: BinaryIO, head: bytes, name: str, size: int) -> bytes:
    data = file.read(size)
    padding = file.read(len(_padding(size)))
    if len(head) < _BLOCK or len(data) < size or len(padding) < len(_padding(size)):
        raise _cut(path, name, "all of it")
    if head != member_header(name, size) or padding != _padding(size):
        raise damaged(f"{path}: {name}", "the frame that a bundle has around this member", "other bytes")
    return data


def _declared_size(head: bytes) -> int | None:
    field = head[124:136].rstrip(b"\0")
    return int(field, 8) if len(field) == 11 and field.isdigit() and not set(field) & set(b"89") else None


def _places(members: Iterable[BundleMember], first: int) -> Iterator[tuple[str, int]]:
    """Where the bytes of each member begin, behind its header."""
    at = first
    for member in members:
        yield member.path, at + _BLOCK
        at += _framed(member.size)


def _end_of(members: Iterable[BundleMember], first: int) -> int:
    return first + sum(_framed(member.size) for member in members)


def _check_length(path: Path, members: tuple[BundleMember, ...], first: int) -> None:
    """The size of the file follows from the manifest; one that is cut ends inside a member that can be named."""
    expected, actual = _end_of(members, first) + len(_END), path.stat().st_size
    if actual < expected:
        inside = next((m.path for m, end in _ends(members, first) if actual < end), "its end")
        raise _cut(path, inside, f"{expected} bytes in all", f"{actual} bytes: it ends before {inside} does")
    if actual > expected:
        raise damaged(str(path), f"{expected} bytes", f"{actual} bytes: something follows the end")


def _ends(members: Iterable[BundleMember], first: int) -> Iterator[tuple[BundleMember, int]]:
    at = first
    for member in members:
        at += _framed(member.size)
        yield member, at


def _check_frames(path: Path, file: BinaryIO, members: tuple[BundleMember, ...], places: Mapping[str, int]) -> None:
    for member in members:
        at = places[member.path]
        file.seek(at - _BLOCK)
        head = file.read(_BLOCK)
        file.seek(at + member.size)
        if head != member_header(member.path, member.size) or file.read(len(_padding(member.size))) != _padding(
            member.size
        ):
            raise damaged(
                f"{path}: {member.path}",
                f"a plain file of {member.size} bytes under this name, as the manifest says",
                _found(head),
            )
    if file.read(len(_END)) != _END:
        raise damaged(str(path), "an end of empty blocks", "other bytes")


def _found(head: bytes) -> str:
    """What stands in a member's place, as far as its header can be read; it is shown and never used."""
    name = head[:_NAME_BYTES].rstrip(b"\0").decode("utf-8", errors="replace")
    prefix = head[345:500].rstrip(b"\0").decode("utf-8", errors="replace")
    whole = f"{prefix}/{name}" if prefix else name
    kind = {b"1": "a link", b"2": "a link", b"5": "a folder"}.get(head[156:157], "other bytes, or a file")
    return f"{kind} named {whole!r}"


def _cut(path: Path, name: str, expected: str, actual: str = "the file ends inside it") -> TrustError:
    return damaged(f"{path}: {name}", expected, actual, rule="bundle cut short")


def _checksum(manifest: bytes) -> bytes:
    """A line as sha256sum writes and checks it."""
    return f"{canonical.digest(manifest)}  {MANIFEST}\n".encode()


def _framed(size: int) -> int:
    return _BLOCK + size + len(_padding(size))


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


def member_header(path: str, size: int) -> bytes:
    """The one header of a plain file: mode 644, nobody's, of no time (POSIX ustar; sizes from 8 GiB in GNU's form)."""
    name, prefix = _split(path)
    length = b"%011o\0" % size if size < _OCTAL_LIMIT else b"\x80" + size.to_bytes(11, "big")
    fields = (
        name.ljust(_NAME_BYTES, b"\0"),
        b"0000644\0" + b"0000000\0" * 2 + length + b"0" * 11 + b"\0",
        b" " * 8,
        b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2,
        prefix.ljust(_PREFIX_BYTES, b"\0") + bytes(12),
    )
    total = sum(sum(field) for field in fields)
    return b"".join((*fields[:2], b"%06o\0 " % total, *fields[3:]))


def _split(path: str) -> tuple[bytes, bytes]:
    """A path as ustar's name and prefix.

    Raises:
        InvalidInputError: It is too long for them.
    """
    data = path.encode("ascii")
    if len(data) <= _NAME_BYTES:
        return data, b""
    for at in (index for index, byte in enumerate(data) if byte == ord("/")):
        if len(data) - at - 1 <= _NAME_BYTES and at <= _PREFIX_BYTES:
            return data[at + 1 :], data[:at]
    raise InvalidInputError(
        "path in a bundle",
        where=path,
        expected="a file's name of at most 100 characters",
        actual=f"{len(data)} characters",
        remedy="rename the file",
    )
