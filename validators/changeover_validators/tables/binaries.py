"""Reads what a compiled library says of itself: the GPU code that it carries, and the libraries that it asks for.

GPU code lies in an ELF file as containers ("fatbins") of entries, each for one architecture: machine code (``sm_XY``)
or intermediate code (``compute_XY``, PTX) with the version of its language. NVIDIA's ``cuobjdump`` lists the same; it
is not on a studio's machine, and headers are all that is needed: nothing is unpacked or executed. A host's own probe
reads the same names with less (`probe_child`, which may import nothing of ours); a test holds the two together.
"""

import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Code", "codes", "names_of", "needed"]

_CONTAINER = struct.pack("<IHH", 0xBA55ED50, 1, 16)
"""Magic, version and header size of a container; the size of its entries follows in 8 bytes."""
_ENTRY = struct.Struct("<HHIQ8xHHI8xQ")
"""Kind, version, header bytes, payload bytes, minor and major version, architecture, flags."""
_SUFFIXES = ((1 << 20, "a"), (1 << 21, "f"))
"""Flags of code for one architecture alone (``sm_90a``) and for one family (``sm_120f``)."""
_PTX = 1
_MACHINE = 2
_SECTION = struct.Struct("<IIQQQQIIQQ")
_DYNAMIC = 6
_NEEDED = 1


@dataclass(frozen=True, slots=True, order=True)
class Code:
    """One kind of GPU code in a library: architecture in tenths (86 is 8.6) and suffix; PTX has the version `isa`."""

    architecture: int
    suffix: str = ""
    isa: str = ""

    @property
    def name(self) -> str:
        """``sm_86`` or ``sm_90a`` for machine code, ``compute_90`` for PTX."""
        return f"{'compute' if self.isa else 'sm'}_{self.architecture}{self.suffix}"


def codes(path: Path) -> tuple[Code, ...]:
    """Every kind of GPU code in the file, once each, machine code first; empty where there is none.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return tuple(sorted(set(_entries(data)), key=lambda code: (bool(code.isa), code)))


def names_of(found: tuple[Code, ...]) -> tuple[str, ...]:
    """The names of all kinds of code, once each, in order."""
    return tuple(dict.fromkeys(code.name for code in found))


def needed(path: Path) -> tuple[str, ...]:
    """The libraries that an ELF file of 64 bits asks the loader for (DT_NEEDED), in its order.

    Raises:
        ValueError: It is no such file.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:6] != b"\x7fELF\x02\x01":
            message = f"expected an ELF file of 64 bits, found {data[:6].hex()}"
            raise ValueError(message)
        sections = list(_sections(data))
        table = next((section for section in sections if section[1] == _DYNAMIC), None)
        if table is None:
            return ()
        strings = sections[table[6]][4]
        return tuple(_text(data, strings + value) for tag, value in _pairs(data, table[4], table[5]) if tag == _NEEDED)


def _entries(data: mmap.mmap) -> Iterator[Code]:
    at = data.find(_CONTAINER)
    while at >= 0:
        start = at + 16
        (size,) = struct.unpack_from("<Q", data, at + 8)
        end = min(start + size, len(data))
        yield from _in_container(data, start, end)
        at = data.find(_CONTAINER, max(end, start))


def _in_container(data: mmap.mmap, at: int, end: int) -> Iterator[Code]:
    while at + _ENTRY.size <= end:
        kind, _, header, payload, minor, major, architecture, flags = _ENTRY.unpack_from(data, at)
        if kind not in {_PTX, _MACHINE} or header < _ENTRY.size:
            return
        suffix = next((letter for flag, letter in _SUFFIXES if flags & flag), "")
        yield Code(architecture, suffix, f"{major}.{minor}" if kind == _PTX else "")
        at += header + payload


def _sections(data: mmap.mmap) -> Iterator[tuple[int, ...]]:
    """Each section header: name, type, flags, address, offset, size, link, info, alignment, entry size."""
    (first,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    for index in range(count):
        yield _SECTION.unpack_from(data, first + index * size)


def _pairs(data: mmap.mmap, offset: int, size: int) -> Iterator[tuple[int, int]]:
    for at in range(offset, offset + size, 16):
        yield struct.unpack_from("<qQ", data, at)


def _text(data: mmap.mmap, at: int) -> str:
    found = re.compile(rb"[^\0]*").match(data, at)
    return "" if found is None else found.group().decode("ascii", "replace")
