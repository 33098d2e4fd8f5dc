"""Whatever stands in a file from outside, a parser answers with a value or a refusal of ours; ``make fuzz`` insists."""

import base64
import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope

from changeover_registry import canonical
from changeover_registry.bundle_file import Piece, open_bundle, write_container
from changeover_registry.errors import ChangeoverError
from changeover_registry.openssf import PUBLIC_KEY, SIGNATURE, check_signature
from changeover_registry.records.base import Record
from changeover_registry.records.bundle import Bundle, BundleMember
from changeover_registry.records.policy import Policy
from changeover_registry.records.release import Release
from changeover_registry.schemas import RECORDS
from changeover_updater.nuke_script import parse_script
from changeover_updater.release_toml import ReleaseToml

SAMPLES = Path(__file__).parents[1] / "samples"
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**63, 2**64, 10**400, "", "../x", "/etc/passwd", "\u0000", "e\u0301", "\ud800", "x" * 5000),
    *([], {}, [[]], {"": None}, ["a"] * 100),
)
SCRIPT = (
    b"#! Nuke\nversion 15.1 v3\nRoot {\n inputs 0\n name /a/b.nk\n addUserKnob {20 User}\n}\n"
    b'Inference {\n modelFile "/a b/\\[value x].cat"\n name Inference1\n}\n'
    b"Group {\n name G\n}\n Blur {\n name B\n}\nend_group\n"
)
MARKS = (b"{", b"}", b'"', b"\\", b"[", b"\n", b"\xff\xfe")
POLICY = b'schema = "changeover.policy/1"\nfollow = ["a"]\n[vram]\nplate = [1, 2]\n'
fuzzed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@st.composite
def edited(draw: st.DrawFn, data: bytes) -> bytes:
    """The data with some bytes changed, put in, taken out, cut off or doubled."""
    found = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(found) - 1, 0)))
        end = min(len(found), at + draw(st.integers(0, 40)))
        kind = draw(st.sampled_from(("set", "insert", "delete", "cut", "double")))
        if kind == "set":
            found[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif kind == "insert":
            found[at:at] = draw(
                st.binary(max_size=8) | st.sampled_from((b"{", b"}", b'"', b"\\", b"[", b"\n", b"\xff\xfe"))
            )
        elif kind == "delete":
            del found[at:end]
        elif kind == "cut":
            del found[at:]
        else:
            found[at:at] = found[at:end]
    return bytes(found)


@st.composite
def bent(draw: st.DrawFn, data: bytes) -> bytes:
    """A JSON document with one value somewhere in it replaced by an odd one."""
    body = json.loads(data)
    at, key = body, draw(st.sampled_from(sorted(body)))
    while isinstance(at[key], dict | list) and at[key] and draw(st.booleans()):
        at = at[key]
        key = draw(st.sampled_from(sorted(at))) if isinstance(at, dict) else draw(st.integers(0, len(at) - 1))
    at[key] = draw(st.sampled_from(ODD))
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=draw(st.booleans())).encode(
        "utf-8", errors="surrogatepass"
    )


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.NAME)
@fuzzed
@given(choice=st.data())
def test_a_record_is_read_or_refused_and_what_is_read_writes_itself(
    record: type[Record], choice: st.DataObject
) -> None:
    sample = (SAMPLES / f"{record.NAME}-1.json").read_bytes()
    data = choice.draw(edited(sample) | bent(sample))

    try:
        value = record.from_bytes(data, where="fuzz")
    except ChangeoverError:
        return

    assert value.to_bytes() == data


@fuzzed
@given(data=st.binary(max_size=200) | edited(b'{"a":[1,{"b":"\\u00e9"}],"c":null}'))
def test_canonical_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        value = canonical.loads(data, where="fuzz")
    except ChangeoverError:
        return

    assert canonical.dumps(value) == data


@fuzzed
@given(choice=st.data())
def test_toml_of_people_is_read_or_refused(choice: st.DataObject) -> None:
    sample = (SAMPLES / "release-toml-1.toml").read_bytes()

    for read, data in (
        (ReleaseToml.from_toml, choice.draw(edited(sample))),
        (
            Policy.from_toml,
            choice.draw(edited(POLICY)),
        ),
    ):
        try:
            read(data, where="fuzz")
        except ChangeoverError:
            continue


@fuzzed
@given(data=edited(SCRIPT) | st.binary(max_size=300))
def test_a_script_is_read_or_refused(data: bytes) -> None:
    try:
        found = parse_script(data, "fuzz.nk", frozenset({"Inference", "Blur"}))
    except ChangeoverError:
        return

    assert found.sha256 == canonical.digest(data)


def bundle() -> bytes:
    """A container with two members."""
    bodies = {"policy.toml": b"x" * 700, "vendors/acme/metadata/timestamp.json": b"{}"}
    members = tuple(
        BundleMember(path=path, sha256=canonical.digest(body), size=len(body)) for path, body in bodies.items()
    )
    base = Bundle.from_bytes((SAMPLES / "bundle-1.json").read_bytes(), where="sample")
    file = io.BytesIO()
    manifest = base.model_copy(update={"members": members})
    pieces = [Piece(member, partial(iter, (bodies[member.path],))) for member in members]
    write_container(file, manifest, pieces, lambda *_: None)
    return file.getvalue()


@fuzzed
@given(data=edited(bundle()) | st.binary(max_size=1600))
def test_a_bundle_is_read_or_refused_and_no_member_lies_outside_it(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "fuzz.tar"
    path.write_bytes(data)

    try:
        found = open_bundle(path)
        for member in found.members:
            found.check(member)
    except ChangeoverError:
        return

    assert all(found.offsets[name] + member.size <= len(data) for name, member in found.members.items())


KEY = ec.derive_private_key(20260101, ec.SECP256R1())
"""The same in every run, and signing the same each time, so that what was found once is found again."""
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
RELEASE = Release.from_bytes((SAMPLES / "release-1.json").read_bytes(), where="sample")


def statement() -> bytes:
    """What an OpenSSF signature of the sample release is made over."""
    files = {f"{variant.id}/{file.path}": file.sha256 for variant in RELEASE.variants for file in variant.files}
    items = [{"name": name, "algorithm": "sha256", "digest": digest} for name, digest in sorted(files.items())]
    root = canonical.digest(b"".join(bytes.fromhex(item["digest"]) for item in items))
    return json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "model", "digest": {"sha256": root}}],
            "predicateType": "https://model_signing/signature/v1.0",
            "predicate": {"serialization": {"method": "files", "hash_type": "sha256"}, "resources": items},
        }
    ).encode()


def signature(payload: bytes) -> bytes:
    """A Sigstore bundle with a valid signature over any payload."""
    kind = "application/vnd.in-toto+json"
    made = KEY.sign(Envelope(payload, kind, {}).pae(), ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    signed = {"sig": base64.b64encode(made).decode(), "keyid": ""}
    envelope = {"payload": base64.b64encode(payload).decode(), "payloadType": kind, "signatures": [signed]}
    media = "application/vnd.dev.sigstore.bundle.v0.3+json"
    return json.dumps({"mediaType": media, "verificationMaterial": {}, "dsseEnvelope": envelope}).encode()


@fuzzed
@given(choice=st.data())
def test_a_signature_of_model_files_holds_or_is_refused(choice: st.DataObject) -> None:
    """Also what a vendor's own key signed: whoever holds that may still put anything under it."""
    whole = signature(statement())
    assert check_signature({SIGNATURE: whole, PUBLIC_KEY: PUBLIC}, RELEASE, where="fuzz")
    odd = choice.draw(edited(statement()) | bent(statement()))

    for data, public in (
        (signature(odd), PUBLIC),
        (choice.draw(edited(whole) | bent(whole)), PUBLIC),
        (whole, choice.draw(edited(PUBLIC))),
    ):
        try:
            check_signature({SIGNATURE: data, PUBLIC_KEY: public}, RELEASE, where="fuzz")
        except ChangeoverError:
            continue
