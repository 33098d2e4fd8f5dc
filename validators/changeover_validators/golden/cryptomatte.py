"""Cryptomatte: the coverage of one object by its name, out of ranks of identifiers.

A layer is ranks of (identifier, coverage) pairs in the channels of ``<layer>00``, ``<layer>01``, ...; an identifier is
a MurmurHash3 of the object's name, its bits kept in a float that is neither NaN nor infinite (Cryptomatte specification
1.2). What names there are stands in a manifest, in the file or in a JSON file beside it. An object that no manifest
names is asked for by its identifier, ``0x1a2b3c4d``. Left out: previews, and choosing objects by a pattern.
"""

import difflib
import json
import re
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from changeover_registry.errors import InvalidInputError
from changeover_validators.golden.frames import at_frame
from changeover_validators.golden.held import Held, held
from changeover_validators.golden.images import Image, Part, decode, opened

__all__ = ["check_object", "identifier", "named", "objects", "read_coverage", "read_object", "without_object"]

_MAX_MANIFEST = 2**26
"""Bytes of a manifest beside a file; a crowd of a million objects takes less."""

_MAX_RANKS = 32
_BITS = re.compile(r"0x([0-9a-fA-F]{8})")
_ENTRY = re.compile(r"cryptomatte/([0-9a-zA-Z]{1,16})/(name|manifest|manif_file|hash|conversion)")
_PAIRS = ((("R", "red", "r"), ("G", "green", "g")), (("B", "blue", "b"), ("A", "alpha", "a")))
"""Each rank's two pairs: how files name the identifier's channel, and the coverage's."""

_SHOWN = 20
"""How many objects a message lists."""
_LONGEST = 2000
"""Letters of what was found: so many objects have room, and damaged text is cut."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer as the header describes it: its name, its manifest in the file, and that of a file beside it."""

    name: str
    manifest: str
    beside: str


def identifier(name: str) -> int:
    """The identifier of an object: 32 bits that are a normal float's.

    MurmurHash3_x86_32 of the UTF-8 name, seed 0; an exponent of all zeros or all ones has its lowest bit turned.
    """
    bits = _murmur3(name.encode())
    exponent = bits >> 23 & 255
    return bits ^ (1 << 23) if exponent in {0, 255} else bits


def named(name: str) -> int:
    """The identifier that a shot's record means: that of the name, or the bits that ``0x`` and eight digits spell."""
    spelled = _BITS.fullmatch(name)
    return int(spelled[1], 16) if spelled else identifier(name)


def objects(path: Path, layer: str) -> Mapping[str, int]:
    """Every object that the manifest of `layer` names, with its identifier; empty where there is no manifest.

    Raises:
        InvalidInputError: The file is damaged, has no such layer, or its manifest is damaged or lies elsewhere.
    """
    with held(path) as file:
        return _objects(file, layer)


def check_object(files: Mapping[int, Path], layer: str, name: str) -> None:
    """See that some frame's manifest names an object, with the identifier that `named` gives.

    An object that enters late, or leaves, is in the manifests of some frames only. A manifest beside a file is not kept
    with a shot, so an object whose identifier is not its name's own has to be asked for by that.

    Args:
        files: OpenEXR files by frame number, at least one.
        layer: The layer's name.
        name: The object's name; an identifier needs no manifest.

    Raises:
        InvalidInputError: No manifest names it, it has another identifier, or a file is damaged; names file and frame.
    """
    if _BITS.fullmatch(name):
        return
    known: dict[str, int] = {}
    for number, path in sorted(files.items()):
        with at_frame(number), held(path) as file:
            known |= _objects(file, layer)
        if name not in known:
            continue
        if known[name] != named(name):
            spelled = f"0x{known[name]:08x}"
            raise _damaged(path, f"the identifier of the name {name!r}", spelled, f"name the object as {spelled}")
        return
    raise _unknown(files[min(files)], layer, name, known)


def without_object(path: Path, layer: str) -> InvalidInputError | None:
    """What to say of a file's Cryptomatte layer that was named without an object; None where it is no such layer."""
    known: Mapping[str, int] = {}
    try:
        with held(path) as file:
            _layer(file, layer)
    except InvalidInputError:
        return None
    with suppress(InvalidInputError):
        known = objects(path, layer)
    listed = _listed(known, "") if known else "no manifest"
    remedy = "this is a Cryptomatte layer: add --object NAME"
    return _damaged(path, f"an object of {layer}", f"none named; the file has {listed}", remedy)


def read_object(path: Path, layer: str, name: str) -> Image:
    """The coverage of an object, float32 [H, W, 1], the display window.

    Args:
        path: An OpenEXR file.
        layer: The layer's name, as ``CryptoObject``.
        name: The object's name in the manifest, or its identifier as ``0x1a2b3c4d``.

    Raises:
        InvalidInputError: As `objects`; or no object has that name, and close names are listed.
    """
    with held(path) as file:
        if _BITS.fullmatch(name):
            return read_coverage(file, layer, named(name))
        known = _objects(file, layer)
        if name not in known:
            raise _unknown(path, layer, name, known)
        return read_coverage(file, layer, known[name])


def read_coverage(file: Held, layer: str, wanted: int) -> Image:
    """The sum over all ranks of the coverage where the identifier is `wanted`, float32 [H, W, 1].

    An object that is not in the picture covers nothing.

    Raises:
        InvalidInputError: The file is damaged, or has no such layer.
    """
    channels = _rank_channels(file, layer)
    image = decode(file, channels)
    if image.pixels.dtype != np.float32:
        raise _damaged(file.path, f"float channels in {layer}", "half, which cannot hold identifiers")
    coverage = np.zeros(image.pixels.shape[:2], np.float32)
    for index in range(0, len(channels), 2):
        bits = np.ascontiguousarray(image.pixels[..., index]).view(np.uint32)
        coverage += np.where(bits == np.uint32(wanted), image.pixels[..., index + 1], np.float32(0))
    return Image(coverage[..., None], image.pixel_aspect, image.lossy, image.aspect_stated)


def _objects(file: Held, layer: str) -> dict[str, int]:
    described = _layer(file, layer)
    if described.manifest:
        return _parsed(file.path, described.manifest)
    return _parsed(file.path, _beside(file.path, described.beside)) if described.beside else {}


def _layer(file: Held, wanted: str) -> _Layer:
    with opened(file) as (_, parts):
        layers = [layer for part in parts for layer in _layers(part)]
    for layer in layers:
        if layer.name == wanted:
            return layer
    found = ", ".join(sorted({layer.name for layer in layers})) or "no Cryptomatte"
    raise _damaged(file.path, f"a Cryptomatte layer {wanted}", found, "name one of its layers")


def _layers(part: Part) -> list[_Layer]:
    entries: dict[str, dict[str, str]] = {}
    for attribute in part.spec.extra_attribs:
        if match := _ENTRY.fullmatch(attribute.name):
            entries.setdefault(match[1], {})[match[2]] = str(attribute.value)
    return [
        _Layer(entry["name"], entry.get("manifest", ""), entry.get("manif_file", ""))
        for entry in entries.values()
        if entry.get("name")
    ]


def _rank_channels(file: Held, layer: str) -> list[str]:
    """The channels of all ranks: identifier, coverage, identifier, coverage, ..."""
    with opened(file) as (_, parts):
        names = {name for part in parts for name in part.channels()}
    found = []
    for rank in range(_MAX_RANKS):
        for pair in _PAIRS:
            present = [
                f"{layer}{rank:02d}.{end}" for ends in pair for end in ends if f"{layer}{rank:02d}.{end}" in names
            ]
            if len(present) == 2:
                found += present
    if not found:
        raise _damaged(file.path, f"channels {layer}00.R and {layer}00.G", "none", "name a Cryptomatte layer it has")
    return found


def _beside(path: Path, name: str) -> str:
    """The text of a manifest beside the file, which its header names; nothing outside the file's folder is read."""
    relative = PurePosixPath(name)
    if "\\" in name or len(relative.parts) != 1 or relative.name in {"", ".", ".."} or not name.isprintable():
        raise _damaged(path, "a manifest beside the file", f"manif_file {name!r}", "put the manifest beside the file")
    place = path.parent / relative.name
    if not place.is_file() or place.resolve().parent != path.parent.resolve():
        remedy = f"bring it back, or name the object by its identifier (0x{'0' * 8})"
        raise _damaged(path, f"the manifest {name} beside it", "no file", remedy)
    if place.stat().st_size > _MAX_MANIFEST:
        raise _damaged(place, f"a manifest of at most {_MAX_MANIFEST} bytes", f"{place.stat().st_size}")
    try:
        return place.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _damaged(place, "a manifest in UTF-8", str(error)) from error


def _parsed(path: Path, text: str) -> dict[str, int]:
    try:
        found = json.loads(text)
        return {str(name): int(bits, 16) & 0xFFFFFFFF for name, bits in found.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, "a manifest that maps names to identifiers", f"{type(error).__name__}: {error}") from error


def _unknown(path: Path, layer: str, name: str, known: Mapping[str, int]) -> InvalidInputError:
    if not known:
        remedy = "name the object by its identifier, as 0x1a2b3c4d"
        return _damaged(path, f"an object {name!r} in the manifest of {layer}", "no manifest", remedy)
    return _damaged(path, f"an object {name!r} in {layer}", _listed(known, name), "name one of its objects")


def _listed(known: Mapping[str, int], name: str) -> str:
    """How many objects there are and the first of them by name, those closest to `name` before all others."""
    near = difflib.get_close_matches(name, known, _SHOWN, 0.4)
    shown = [*near, *(other for other in sorted(known) if other not in near)][:_SHOWN]
    such = ": " if len(shown) == len(known) else ", such as "
    return f"{len(known)} objects{such}{', '.join(map(repr, shown))}"


def _damaged(path: Path, expected: str, actual: str, remedy: str = "render the file again") -> InvalidInputError:
    return InvalidInputError("cryptomatte", where=str(path), expected=expected, actual=actual[:_LONGEST], remedy=remedy)


def _murmur3(data: bytes) -> int:
    """MurmurHash3_x86_32 with seed 0, after its public definition."""
    bits, whole = 0, len(data) & ~3
    for (block,) in struct.iter_unpack("<I", data[:whole]):
        bits ^= _scrambled(block)
        bits = (_rotated(bits, 13) * 5 + 0xE6546B64) & 0xFFFFFFFF
    bits ^= _scrambled(int.from_bytes(data[whole:], "little")) ^ len(data)
    bits ^= bits >> 16
    bits = bits * 0x85EBCA6B & 0xFFFFFFFF
    bits ^= bits >> 13
    bits = bits * 0xC2B2AE35 & 0xFFFFFFFF
    return bits ^ bits >> 16


def _scrambled(block: int) -> int:
    return _rotated(block * 0xCC9E2D51 & 0xFFFFFFFF, 15) * 0x1B873593 & 0xFFFFFFFF


def _rotated(bits: int, by: int) -> int:
    return (bits << by | bits >> 32 - by) & 0xFFFFFFFF
