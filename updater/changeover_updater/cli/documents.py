"""``changeover documents``: what lies beside a release, and whether its OpenSSF signature holds."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from changeover_registry.errors import InvalidInputError
from changeover_updater.cli._context import JsonFlag, invocation
from changeover_updater.cli._output import emit, escape, mark, rows, say

if TYPE_CHECKING:
    from changeover_updater.documents import Listed

__all__ = ["documents"]


def documents(
    context: typer.Context,
    release: Annotated[str, typer.Argument(metavar="MODEL@VERSION", help="A release that the studio knows.")],
    name: Annotated[str, typer.Argument(help="Print this one, such as README.md; else list them all.")] = "",
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write them into this folder.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what lies beside a release: its bill of materials, model card, papers, and a signature if it has one."""
    from changeover_registry._fs import make_dirs, write_atomic
    from changeover_updater.documents import entry_of, find_document, list_documents
    from changeover_updater.studio import read_studio

    call = invocation(context)
    site = call.site()
    studio = read_studio(site, call.station())
    found = studio.find(release)
    entry = entry_of(studio.vendor_of(found).indexes, found)
    listed = list_documents(site.vendor_of(found.model), found, entry)
    where = f"{found.model}@{found.version}"
    wanted = (name,) if name else tuple(document.name for document in listed.documents) if out else ()
    texts = {one: find_document(listed, one, where=where) for one in wanted}
    if out is None and name:
        sys.stdout.write(_text(texts[name], name))
        return
    if out is not None:
        make_dirs(out.absolute())
        for one, data in texts.items():
            write_atomic(out.absolute() / one, data)
    emit(_answer(where, listed), as_json=as_json, show=lambda: _show(where, listed, out))


def _answer(where: str, listed: "Listed") -> dict[str, object]:
    found = [{**document.model_dump(), "here": document.name in listed.here} for document in listed.documents]
    return {"release": where, "documents": found, "signed_by": listed.signed_by}


def _show(where: str, listed: "Listed", out: Path | None) -> None:
    lines = [
        (escape(document.name), f"{document.length:,}", document.sha256[:12], "yes" if document.name in here else "no")
        for here in (listed.here,)
        for document in listed.documents
    ]
    rows(f"documents of {where}", ("name", "bytes", "sha256", "here"), lines, empty="none were published")
    if listed.signed_by is not None:
        say(f"{mark('ok')} OpenSSF signature over its files, by the key with sha256 {listed.signed_by}")
    if out is not None and listed.documents:
        say(f"{mark('ok')} written to {escape(str(out))}")


def _text(data: bytes, name: str) -> str:
    """A document as text for a terminal, without what would steer it.

    Raises:
        InvalidInputError: It is no text.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            "document",
            where=name,
            expected="a text in UTF-8",
            actual="other bytes",
            remedy="write it out with --out DIR",
        ) from error
    return "".join(sign for sign in text if sign.isprintable() or sign in "\n\t")
