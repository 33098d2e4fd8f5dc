"""The model card of a release: a README in Markdown, with the front matter that Hugging Face's pages read.

Made of the release record alone, always the same from the same record; its last line says so, and with it one that we
wrote is told from one that a vendor wrote. Left out: scores, which are a studio's.
"""

import json
from collections.abc import Iterator, Sequence

from changeover_registry.records.release import Contract, Release, Variant

__all__ = ["CARD_NAME", "complete_card", "is_written_here", "write_card"]

CARD_NAME = "README.md"
"""The name of the card beside ``release.json``."""

_MARK = "<!-- written by changeover from release.json sha256 "
_LIBRARIES = {"onnx": "onnx", "torchscript": "pytorch", "nuke-cat": "nuke"}
_LICENCES = frozenset(
    {
        *("afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear"),
        *("bsl-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0"),
        *("cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0"),
        *("cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-1.0"),
        *("cdla-permissive-2.0", "cdla-sharing-1.0", "ecl-2.0", "epl-1.0", "epl-2.0", "eupl-1.1", "eupl-1.2"),
        *("gpl-2.0", "gpl-3.0", "isc", "lgpl-2.1", "lgpl-3.0", "lppl-1.3c", "mit", "mpl-2.0", "ms-pl", "ncsa"),
        *("ofl-1.1", "osl-3.0", "postgresql", "unlicense", "wtfpl", "zlib"),
    }
)
"""The identifiers that the Hub knows and that are an SPDX identifier in lower case."""


def write_card(release: Release) -> bytes:
    """The card of a release, as UTF-8 with one newline at the end."""
    lines = [
        *_front_matter(release),
        f"# {release.model} {release.version}",
        "",
        release.summary,
        *_section("What is new", [release.changes]),
        *_section("What goes in and comes out", _ports(release)),
        *_section("Forms", _variants(release)),
        *_section("Licences", _licences(release)),
        *_section("Where it comes from", _provenance(release)),
        *_section("Files", _files(release)),
        "",
        f"{_MARK}{release.digest()} -->",
    ]
    return ("\n".join(lines) + "\n").encode()


def complete_card(own: bytes, release: Release) -> bytes:
    """A vendor's own card, with front matter put before it where it has none."""
    text = own.removeprefix(b"\xef\xbb\xbf")
    return text if text.startswith(b"---") else "\n".join(_front_matter(release)).encode() + b"\n" + text


def is_written_here(card: bytes) -> bool:
    """Whether a card is one of `write_card`, for whatever release, and not a vendor's own."""
    return card.rstrip().rpartition(b"\n")[2].startswith(_MARK.encode())


def _front_matter(release: Release) -> Iterator[str]:
    """YAML; a JSON string is a YAML string, whatever stands in it."""
    known = _hub_licence(release.licences.weights)
    yield "---"
    yield f"license: {known or 'other'}"
    if known is None:
        yield f"license_name: {json.dumps(release.licences.weights, ensure_ascii=False)}"
    yield f"library_name: {_LIBRARIES[release.variants[0].runtime]}"
    yield "pipeline_tag: image-segmentation"
    yield f"model_name: {json.dumps(release.model)}"
    yield f"version: {json.dumps(release.version)}"
    yield "tags:"
    yield from (f"- {tag}" for tag in ("matting", "rotoscoping", "vfx", "changeover"))
    yield "---"
    yield ""


def _hub_licence(spdx: str) -> str | None:
    """What the Hub calls a licence; None where it has no name for it, and says ``other``."""
    plain = spdx.lower().removesuffix("-only").removesuffix("-or-later")
    return plain if plain in _LICENCES else None


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"## {title}", "", *lines] if lines else []


def _ports(release: Release) -> list[str]:
    ports = [("in", port) for port in release.interface.inputs] + [("out", port) for port in release.interface.outputs]
    rows = [(way, port.name, ", ".join(port.channels), port.colour) for way, port in ports]
    knobs = [f"- `{knob.name}` ({knob.kind}, {knob.default} by default)" for knob in release.interface.knobs]
    return [*_table(("", "image", "channels", "colour"), rows), *(["", "Controls:", "", *knobs] if knobs else [])]


def _variants(release: Release) -> list[str]:
    rows = [
        (
            variant.id,
            f"{variant.runtime} {variant.precision}",
            ", ".join(variant.loaders),
            f"{sum(file.size for file in variant.files):,}",
            ", ".join(str(tile) for tile in variant.contract.tiles),
            _how(variant.contract),
        )
        for variant in release.variants
    ]
    needs = [f"- {variant.id}: {text}" for variant in release.variants if (text := _needs(variant))]
    table = _table(("form", "kind", "loaded by", "bytes", "tiles", "takes"), rows)
    return [*table, *(["", "What each needs of a host:", "", *needs] if needs else [])]


def _how(contract: Contract) -> str:
    each = "each frame by itself" if contract.evaluation == "stateless" else "frames in their order"
    size = f", {contract.resize[0]} x {contract.resize[1]} pixels" if contract.resize else ""
    return f"{each}{size}, {contract.colour} values"


def _needs(variant: Variant) -> str:
    needs = variant.requires
    said = {
        "ONNX opset": needs.opset,
        "TorchScript file version": needs.torchscript_version,
        "PyTorch": needs.torch_line,
        "compute capability": needs.compute_capability,
    }
    return ", ".join(f"{name} {value}" for name, value in said.items() if value is not None)


def _licences(release: Release) -> list[str]:
    licences = release.licences
    rows = [("code", licences.code), ("weights", licences.weights), ("training data", licences.training_data)]
    return _table(("of", "licence"), rows)


def _provenance(release: Release) -> list[str]:
    said = release.provenance.model_dump(exclude_none=True)
    rows = [(name.replace("_", " "), f"`{value}`") for name, value in said.items()]
    if release.adopted is not None:
        rows += [("adopted from", f"`{release.adopted.source}`")]
        rows += [("unknown", ", ".join(release.adopted.unknown) or "nothing")]
    return _table(("what", "value"), rows) if rows else []


def _files(release: Release) -> list[str]:
    files = [(f"{variant.id}/{file.path}", file) for variant in release.variants for file in variant.files]
    return _table(("file", "bytes", "sha256"), [(name, f"{file.size:,}", f"`{file.sha256}`") for name, file in files])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table; a cell is one line, and what a vendor wrote in it starts no other cell."""
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *cells)]
