"""What lies beside a vendor's release: bill of materials, model card, further papers, and perhaps a signature.

They are made when a release is registered, kept in the home before MLflow shows the release, and published from there:
MLflow has copies, which nobody trusts. What was kept once stays as it is, so that registering and publishing again
change nothing; what was not there yet is added.
"""

import contextlib
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from pathlib import Path

from changeover_registry._fs import make_dirs, remove_tree, write_atomic
from changeover_registry.bom import BOM_NAME, make_bom
from changeover_registry.errors import InvalidInputError, UndecidedError
from changeover_registry.mlflow_adapter.registry import RECORD
from changeover_registry.model_card import CARD_NAME, complete_card, is_written_here, write_card
from changeover_registry.names import digest12
from changeover_registry.openssf import PUBLIC_KEY, SIGNATURE, check_signature, sign_release
from changeover_registry.records.release import Release
from changeover_registry.repository.documents import describe_documents
from changeover_updater.vendor_home import VendorHome

__all__ = [
    "FOLDER",
    "forget_documents",
    "keep_documents",
    "kept_documents",
    "make_documents",
    "plain_documents",
    "published_documents",
    "write_beside",
]

Notice = Callable[[str], None]

FOLDER = "documents"
"""The folder of a release folder whose files are published beside the release, each under its own name."""
_OURS = frozenset({BOM_NAME, CARD_NAME, PUBLIC_KEY, RECORD, SIGNATURE})
_SCRATCH = ".signing"


def make_documents(
    home: VendorHome,
    folder: Path,
    release: Release,
    files: Mapping[str, Path],
    now: datetime,
    *,
    key: Path | None,
    notice: Notice,
) -> dict[str, bytes]:
    """The documents of a release that is being registered; those that the home keeps already come as they are.

    Args:
        home: The vendor's home.
        folder: The release folder; its ``README.md`` and ``documents/`` are the vendor's own words.
        release: The release.
        files: Where its files are, by ``<variant>/<path>``.
        now: The moment, for the bill of materials.
        key: The private key of an OpenSSF signature; None for none.
        notice: Told of each document that stays as it was although the folder has another.

    Raises:
        InvalidInputError: A document's name or size cannot be published, a text is not UTF-8, or `key` is no such key.
        TrustError: A file changed while it was signed.
        UndecidedError: A library that makes one is not installed.
    """
    kept = kept_documents(home, release)
    made = {CARD_NAME: _card(folder, release), **_papers(folder, release)}
    if BOM_NAME not in kept:
        made[BOM_NAME] = make_bom(release, now)
    if key is not None and SIGNATURE not in kept:
        made |= _signed(folder, release, files, key)
    elif key is not None:
        notice(f"{SIGNATURE} is the one that was made before")
    for name in sorted(made.keys() & kept.keys()):
        if made[name] != kept[name]:
            notice(f"{name} stays as it was registered; a release with another one needs a new version")
    documents = {**made, **kept}
    describe_documents(documents)
    return documents


def plain_documents(release: Release, now: datetime) -> dict[str, bytes]:
    """A model card, and a bill of materials where the library for it is here and takes what the record says.

    For releases that no vendor registered, such as one that a studio adopted.
    """
    documents = {CARD_NAME: write_card(release)}
    with contextlib.suppress(InvalidInputError, UndecidedError):
        documents[BOM_NAME] = make_bom(release, now)
    return documents


def keep_documents(home: VendorHome, release: Release, documents: Mapping[str, bytes]) -> None:
    """Keep documents in the home; what is there stays.

    Raises:
        OSError: The home cannot be written.
    """
    place = _place(home, release)
    make_dirs(place)
    for name, data in documents.items():
        if not (place / name).is_file():
            write_atomic(place / name, data)


def forget_documents(home: VendorHome, release: Release, names: Collection[str]) -> None:
    """Keep none of these documents of a release that was not registered after all.

    Raises:
        OSError: The home cannot be written.
    """
    place = _place(home, release)
    for name in names:
        (place / name).unlink(missing_ok=True)
    if place.is_dir() and not any(place.iterdir()):
        remove_tree(place)


def kept_documents(home: VendorHome, release: Release) -> dict[str, bytes]:
    """The documents that the home keeps of a release, by name."""
    place = _place(home, release)
    found = sorted(place.iterdir()) if place.is_dir() else []
    return {path.name: path.read_bytes() for path in found if not path.name.startswith(".")}


def published_documents(home: VendorHome, release: Release, now: datetime) -> dict[str, bytes]:
    """What is published beside a release; of one that was registered without documents, they are made and kept now.

    Raises:
        TrustError: The signature among them is not of this release.
        UndecidedError: A library that makes one is not installed.
    """
    kept = kept_documents(home, release)
    if not {BOM_NAME, CARD_NAME} <= kept.keys():
        kept = {BOM_NAME: make_bom(release, now), CARD_NAME: write_card(release), **kept}
        keep_documents(home, release, kept)
    check_signature(kept, release, where=f"{release.model} {release.version}: {_place(home, release)}")
    return kept


def write_beside(folder: Path, documents: Mapping[str, bytes]) -> None:
    """Put what was made into the release folder; a card and papers of the vendor's own lie there already.

    Raises:
        OSError: The folder cannot be written.
    """
    for name in _OURS & documents.keys():
        if name != CARD_NAME or is_written_here(documents[name]):
            write_atomic(folder / name, documents[name])


def _place(home: VendorHome, release: Release) -> Path:
    own = home.own_record(release.model, release.version)
    return own.with_name(f"{release.version}-{digest12(release.digest())}")


def _card(folder: Path, release: Release) -> bytes:
    """The vendor's own card, with front matter put before it where it has none; else one made of the record."""
    path = folder / CARD_NAME
    own = path.read_bytes() if path.is_file() else b""
    if not own.strip() or is_written_here(own):
        return write_card(release)
    try:
        own.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad(path, "a text in UTF-8", str(error), "save it as UTF-8") from error
    return complete_card(own, release)


def _papers(folder: Path, release: Release) -> dict[str, bytes]:
    """Every file of ``documents/``."""
    place = folder / FOLDER
    if not place.is_dir() or any(variant.id == FOLDER for variant in release.variants):
        return {}
    found = {}
    for path in sorted(place.iterdir()):
        if path.is_symlink() or not path.is_file():
            raise _bad(path, "plain files, and no folder among them", "something else", "put the file itself there")
        if path.name in _OURS:
            raise _bad(path, f"none of the names {', '.join(sorted(_OURS))}", path.name, "rename it")
        found[path.name] = path.read_bytes()
    return found


def _signed(folder: Path, release: Release, files: Mapping[str, Path], key: Path) -> dict[str, bytes]:
    scratch = folder / _SCRATCH
    if scratch.exists():
        remove_tree(scratch)
    scratch.mkdir()
    try:
        return sign_release(release, files, key, scratch)
    finally:
        remove_tree(scratch)


def _bad(path: Path, expected: str, actual: str, remedy: str) -> InvalidInputError:
    return InvalidInputError("document", where=str(path), expected=expected, actual=actual, remedy=remedy)
