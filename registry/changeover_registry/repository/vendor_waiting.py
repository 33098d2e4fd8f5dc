"""Where a change of a vendor's repository waits for signatures: one file below ``pending/``, named by what it changes.

The file (`VendorChange`) may be carried to another key holder and back. Nothing in it is believed: signatures are
verified when it is written, targets against the metadata that names them, and a copy that came back only adds what it
has. What a holder is shown must be all that they sign, so that a file is refused which would say something that is
never shown: a key under another key's id, a model's role that speaks for another model. Left out: writing a change that
is complete (`vendor_change`).
"""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import Key, Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Delegations, Metadata, Root, Targets

from changeover_registry import canonical
from changeover_registry._fs import fsync_dir, make_dirs, write_atomic, write_new
from changeover_registry.clock import format_time, parse_time
from changeover_registry.errors import InvalidInputError, LostRaceError
from changeover_registry.names import is_name
from changeover_registry.records.vendor_change import ChangedFile, ChangedTarget, VendorChange
from changeover_registry.repository.reached import Reached
from changeover_registry.repository.vendor_draft import Draft, merged, named_for, same, signed_by

__all__ = ["as_record", "file", "load", "path_of", "read_draft", "remove", "sign_copy", "waiting", "wanted_of"]

_NAME = re.compile(r"[1-9][0-9]{0,11}\.[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_LIMIT_BYTES = 16 * 1024 * 1024
_SEE = "see what waits with: changeover vendor keys sign"
_ASK = "ask whoever made the file; nothing was signed"


def file(folder: Path, reached: Reached, draft: Draft) -> Path:
    """Put a draft where changes wait, with the signatures of one of the same name and content that waits there.

    Returns:
        Its file.

    Raises:
        LostRaceError: Another change waits under that name.
        OSError: The folder cannot be written.
    """
    path = path_of(folder, draft.name)
    make_dirs(path.parent)
    data = as_record(draft, _wanted(draft, reached)).to_bytes()
    try:
        write_new(path, data)
    except FileExistsError:
        other = read_draft(path)
        if not same(other, draft):
            raise LostRaceError(
                "change",
                where=str(path),
                expected="no other change of that number",
                actual=f"one that waits for signatures since {format_time(other.when)}: {other.what}",
                remedy=f"sign it with changeover vendor keys sign {draft.name}, or take it back with --reject",
            ) from None
        write_atomic(path, as_record(merged(other, draft), _wanted(draft, reached)).to_bytes())
    return path


def sign_copy(path: Path, signers: Sequence[Signer]) -> tuple[str, ...]:
    """Add the signatures of these keys to a change in a file, as somebody does who has no home of the vendor.

    They sign what names them: the file's own metadata, or its list of who may. Whether that counts is verified at home.

    Returns:
        The roles that were signed; none where these keys may sign nothing in it, or have done so.

    Raises:
        InvalidInputError: It is no such file.
        ChangeoverError: A key is elsewhere and does not sign.
        OSError: The file cannot be written.
    """
    draft, wanted = read_draft(path), wanted_of(path)
    signed = signed_by(draft, None, signers, wanted)
    roles = tuple(
        role for role, held in signed.files.items() if len(held.signatures) > len(draft.files[role].signatures)
    )
    if roles:
        write_atomic(path, as_record(signed, wanted).to_bytes())
    return roles


def waiting(folder: Path) -> tuple[Path, ...]:
    """The files of all changes that wait."""
    return tuple(sorted(path for path in (folder / "pending").glob("*.json") if _NAME.fullmatch(path.stem)))


def load(folder: Path, name: str) -> Draft:
    """The change that waits under a name.

    Raises:
        InvalidInputError: There is none, or it is none in form.
    """
    return read_draft(path_of(folder, name))


def read_draft(path: Path) -> Draft:
    """A change that waits, from its file wherever that is; no signature in it is verified yet.

    Raises:
        InvalidInputError: It is no such file, what it would sign names other targets than it holds, or it says what no
            change of ours says and nobody would be shown.
    """
    record = _read(path)
    try:
        files: dict[str, Metadata[Any]] = {one.role: Metadata.from_bytes(one.text.encode()) for one in record.files}
    except (RepositoryError, ValueError) as error:
        raise _no_change(path, f"metadata that cannot be read ({error})", _ASK) from error
    targets = {one.path: one.text.encode() for one in record.targets}
    named: dict[str, str] = {}
    for role, held in files.items():
        if not isinstance(held.signed, Root if role == "root" else Targets):
            raise _no_change(path, f"metadata of another kind in the place of {role}", _ASK)
        if isinstance(held.signed, Targets):
            named |= {name: info.hashes.get("sha256", "") for name, info in held.signed.targets.items()}
        if strange := _strange(role, held.signed):
            raise _no_change(path, strange, _ASK)
    for name, data in targets.items():
        if named.get(name) != canonical.digest(data):
            raise _no_change(path, f"{name}, which its metadata does not name", _ASK)
    return Draft(record.what, parse_time(record.when), files, targets)


def wanted_of(path: Path) -> dict[str, tuple[str, ...]]:
    """By role, the ids of the keys that may sign a waiting change, as its file says."""
    return {one.role: one.signers for one in _read(path).files}


def remove(folder: Path, name: str) -> bool:
    """Take a change that waits away; whether there was one.

    Raises:
        InvalidInputError: There can be no change of that name.
        OSError: It cannot be removed.
    """
    path = path_of(folder, name)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    fsync_dir(path.parent)
    return True


def as_record(draft: Draft, wanted: Mapping[str, Collection[str]]) -> VendorChange:
    """A change as it stands in a file; `wanted` says by role whose keys may sign."""
    files = tuple(
        ChangedFile(role=role, text=held.to_bytes().decode(), signers=tuple(sorted(wanted[role])))
        for role, held in draft.files.items()
    )
    targets = tuple(ChangedTarget(path=path, text=data.decode()) for path, data in draft.targets.items())
    return VendorChange(what=draft.what, when=format_time(draft.when), files=files, targets=targets)


def _strange(role: str, signed: Root | Targets) -> str:
    """What a file of metadata says that no change of ours does; empty where it says nothing of that kind."""
    if isinstance(signed, Root):
        return _strange_keys(signed.keys) or ("" if signed.consistent_snapshot else "a root of another kind")
    if role != "targets" and not is_name(role):
        return f"a role of the name {role!r}"
    others = sorted(signed.targets.keys() - {"vendor.json" if role == "targets" else f"{role}/index.json"})
    if others:
        return f"{others[0]!r}, for which {role} does not speak"
    return "" if signed.delegations is None else _strange_delegations(role, signed.delegations)


def _strange_delegations(role: str, delegations: Delegations) -> str:
    if role != "targets" or delegations.roles is None:
        return f"roles below {role}"
    for name, by in delegations.roles.items():
        if not is_name(name) or by.paths != [f"{name}/*"] or not by.terminating:
            return f"a role {name!r} that speaks for {', '.join(by.paths or ['other models'])}"
    return _strange_keys(delegations.keys)


def _strange_keys(keys: Mapping[str, Key]) -> str:
    """TUF lets a file call a key what it likes; people compare ids, so that each has to be its key's own."""
    for key_id, key in keys.items():
        known = {"keytype": key.keytype, "scheme": key.scheme, "keyval": key.keyval}
        if canonical.digest(str(encode_canonical(known)).encode()) != key_id:
            return f"another key under the id {key_id[:12]}"
    return ""


def _wanted(draft: Draft, reached: Reached) -> dict[str, set[str]]:
    return {role: {key for keys in named_for(draft, reached, role) for key in keys} for role in draft.files}


def _read(path: Path) -> VendorChange:
    try:
        with path.open("rb") as stream:
            data = stream.read(_LIMIT_BYTES + 1)
    except FileNotFoundError as error:
        raise _no_change(path, "no such file") from error
    if len(data) > _LIMIT_BYTES:
        raise _no_change(path, "a larger file", _ASK)
    try:
        return VendorChange.from_bytes(data, where=str(path))
    except InvalidInputError as error:
        raise _no_change(
            path, f"{error.rule}: {error.where.removeprefix(f'{path}: ')}: {error.actual}", _ASK
        ) from error


def path_of(folder: Path, name: str) -> Path:
    """Where a change of that name waits.

    Raises:
        InvalidInputError: There can be no change of that name.
    """
    if _NAME.fullmatch(name) is None:
        raise _no_change(Path(name), "no such file")
    return folder / "pending" / f"{name}.json"


def _no_change(path: Path, actual: str, remedy: str = _SEE) -> InvalidInputError:
    if remedy == _ASK and path.parent.name == "pending" and _NAME.fullmatch(path.stem):
        # It stands in the way of what else waits, and of the list of keys.
        remedy = f"ask whoever made it, and take it away with: changeover vendor keys sign {path.stem} --reject"
    return InvalidInputError(
        "change",
        where=str(path),
        expected="a change of a vendor's repository that waits for signatures",
        actual=actual,
        remedy=remedy,
    )
