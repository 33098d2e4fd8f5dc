"""Publishing to S3: the same steps on moto, which is shaped as AWS is, and on OpenStack Swift; cut at every request."""

import contextlib
import functools
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

import pytest

from changeover_registry.client import Client
from changeover_registry.errors import InvalidInputError, RefusedError, UnreachableError
from changeover_registry.repository import vendor
from changeover_registry.repository.carrying import carry, look, verify
from changeover_registry.repository.objects import object_path
from changeover_registry.repository.outlet import TIMESTAMP
from changeover_registry.repository.vendor import fetch_record, open_vendor
from changeover_registry.transport import Transport, open_transport, s3
from changeover_registry.transport.writing import Place, open_place
from changeover_servers import Cut, CuttingProxy, S3Store

pytest.importorskip("boto3", reason="the extra s3 is not installed")

Acme = Any
LARGE = bytes(range(256)) * 4096 * 20
"""More than one part."""
LARGE_CUTS = len(LARGE) // 16
NUMBERS = count()


@dataclass
class Bucket:
    """A bucket behind a cable that can be cut: the vendor writes through it, studios read beside it."""

    store: S3Store
    name: str
    proxy: CuttingProxy

    def prefix(self) -> str:
        """A prefix that nothing uses yet."""
        return f"acme{next(NUMBERS)}"

    def place(self, prefix: str) -> Place:
        return open_place(f"s3://{self.name}/{prefix}?profile=through")

    def reader(self, prefix: str) -> Transport:
        return open_transport(f"s3://{self.name}/{prefix}?profile=direct")

    def copy(self, source: str, target: str) -> None:
        client = self.store.client()
        for path in self.paths(source):
            data = client.get_object(Bucket=self.name, Key=f"{source}/{path}")["Body"].read()
            client.put_object(Bucket=self.name, Key=f"{target}/{path}", Body=data)

    def paths(self, prefix: str) -> list[str]:
        listed = self.store.client().list_objects_v2(Bucket=self.name, Prefix=f"{prefix}/")
        return [item["Key"].removeprefix(f"{prefix}/") for item in listed.get("Contents", ())]

    def parts(self) -> list[str]:
        """The files of which parts lie there that belong to nothing."""
        listed = self.store.client().list_multipart_uploads(Bucket=self.name)
        return [upload["Key"] for upload in listed.get("Uploads", ())]


@pytest.fixture(scope="module")
def buckets() -> Callable[[S3Store], str]:
    """One bucket in each store; every test has prefixes of its own in it."""
    return functools.cache(lambda store: store.bucket())


@pytest.fixture(params=["moto", "swift"])
def bucket(
    buckets: Callable[[S3Store], str],
    request: pytest.FixtureRequest,
    cutting_proxy: Callable[[str], CuttingProxy],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Bucket]:
    store: S3Store = request.getfixturevalue(request.param)
    proxy = cutting_proxy(store.endpoint)
    profiles = [
        f"[profile {name}]\nregion = {store.region}\nendpoint_url = {endpoint}\n"
        f"aws_access_key_id = {store.access_key}\naws_secret_access_key = {store.secret_key}\n"
        for name, endpoint in (("direct", store.endpoint), ("through", proxy.url))
    ]
    (tmp_path / "aws").write_text("\n".join(profiles), encoding="utf-8")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3._client.cache_clear()
    yield Bucket(store, buckets(store), proxy)
    s3._client.cache_clear()


def seen(acme: Acme, transport: Transport, state: Path) -> tuple[str, ...]:
    """The releases that a studio of this vendor sees, each read in full and held against its digests."""
    view = open_vendor(Client(transport, state, acme.root), acme.name)
    for name, index in view.indexes.items():
        for entry in index.releases:
            record, _ = fetch_record(transport, entry, f"{acme.name}/{name}")
            for file in record.variants[0].files:
                data = b"".join(transport.stream(object_path(file.sha256)))
                assert hashlib.sha256(data).hexdigest() == file.sha256
    return tuple(
        f"{name}@{entry.version}{'-' if entry.withdrawn else ''}"
        for name, index in view.indexes.items()
        for entry in index.releases
    )


def test_bytes_at_the_place_are_the_homes(acme: Acme, bucket: Bucket, tmp_path: Path) -> None:
    acme.publish(acme.make(content=LARGE))
    prefix = bucket.prefix()

    carry(acme.folder, acme.root, bucket.place(prefix))

    reader = bucket.reader(prefix)
    for path in bucket.paths(prefix):
        assert b"".join(reader.stream(path)) == (acme.folder / path).read_bytes()
    assert seen(acme, reader, tmp_path / "state") == ("person-roto@1.0.0",)
    assert verify(acme.folder, acme.root, bucket.place(prefix)) == ()
    assert bucket.parts() == []


CHANGES: dict[str, Callable[[Acme], object]] = {
    "publish": lambda acme: acme.publish(acme.make("hair", "2.0.0", b"hair")),
    "withdraw": lambda acme: vendor.withdraw(acme.folder, acme.keys, "person-roto", "1.0.0", "flickers", acme.now),
    "renew": lambda acme: vendor.renew(acme.folder, acme.keys, acme.now),
}


@dataclass
class Story:
    """A place that serves a state, and a home that has a newer one."""

    acme: Acme
    bucket: Bucket
    tmp: Path
    source: str
    before: tuple[str, ...]
    states: Path

    def cut_and_retry(self, cut: Cut, name: str, after: tuple[str, ...]) -> bool:
        """Carry, cut; look as a studio that knows the old state does; carry again, and look. Whether it was cut."""
        prefix = self.bucket.prefix()
        self.bucket.copy(self.source, prefix)
        state = self.tmp / name
        shutil.copytree(self.states, state)
        self.bucket.proxy.cut(cut)
        with contextlib.suppress(UnreachableError):
            carry(self.acme.folder, self.acme.root, self.bucket.place(prefix))
        was_cut = self.bucket.proxy.was_cut
        between = seen(self.acme, self.bucket.reader(prefix), state)
        assert between in {self.before, after}, cut
        self.bucket.proxy.heal()
        carry(self.acme.folder, self.acme.root, self.bucket.place(prefix))
        assert seen(self.acme, self.bucket.reader(prefix), state) == after, cut
        assert not [key for key in self.bucket.parts() if key.startswith(f"{prefix}/")]
        return was_cut


def begin(acme: Acme, bucket: Bucket, tmp: Path) -> Story:
    acme.publish(acme.make())
    prefix = bucket.prefix()
    carry(acme.folder, acme.root, bucket.place(prefix))
    before = seen(acme, bucket.reader(prefix), tmp / "states")
    return Story(acme, bucket, tmp, prefix, before, tmp / "states")


@pytest.mark.parametrize(("change", "when"), [("publish", "before"), ("publish", "after"), ("withdraw", "within")])
def test_cut_at_any_request_the_old_repository_holds_and_the_next_try_completes(
    acme: Acme, bucket: Bucket, tmp_path: Path, whole: bool, change: str, when: Literal["before", "within", "after"]
) -> None:
    story = begin(acme, bucket, tmp_path)
    CHANGES[change](acme)
    prefix = bucket.prefix()
    bucket.copy(story.source, prefix)
    bucket.proxy.heal()
    carry(acme.folder, acme.root, bucket.place(prefix))
    requests = len(bucket.proxy.requests)
    after = seen(acme, bucket.reader(prefix), tmp_path / "after")

    numbers = sample(requests, bucket.store.name, when, whole=whole)
    cuts = [story.cut_and_retry(Cut(request=n, when=when), f"{n}", after) for n in numbers]

    assert story.before != after
    assert requests > 10
    assert all(cuts)


def sample(requests: int, store: str, when: str, *, whole: bool) -> list[int]:
    """At which requests to cut: every one in `make sweeps`, else some, and the one that moves the timestamp."""
    if whole:
        return list(range(1, requests + 1))
    if store == "swift" and when == "within":
        pytest.skip("part of make sweeps")
    every = 7 if (store, when) == ("moto", "before") else requests
    return sorted({*range(every, requests, every), requests - 1})


@pytest.mark.parametrize("direction", ["up", "down"])
def test_cut_at_any_byte_of_a_large_file_nothing_of_it_is_left_behind(
    acme: Acme, bucket: Bucket, tmp_path: Path, whole: bool, direction: Literal["up", "down"]
) -> None:
    story = begin(acme, bucket, tmp_path)
    acme.publish(acme.make("hair", "2.0.0", LARGE))
    after = ("hair@2.0.0", "person-roto@1.0.0")
    if bucket.store.name == "swift" and not whole:
        pytest.skip("part of make sweeps")
    cuts = range(LARGE_CUTS // 2, len(LARGE), LARGE_CUTS) if whole else (len(LARGE) * 3 // 4,)

    for byte in cuts:
        assert story.cut_and_retry(Cut(byte=byte, direction=direction), f"{byte}", after)


def test_what_is_there_says_how_long_caches_may_keep_it(acme: Acme, bucket: Bucket) -> None:
    acme.publish(acme.make())
    prefix = bucket.prefix()
    carry(acme.folder, acme.root, bucket.place(prefix))
    client = bucket.store.client()

    kept = {
        path: client.head_object(Bucket=bucket.name, Key=f"{prefix}/{path}")["CacheControl"]
        for path in bucket.paths(prefix)
    }

    assert kept[TIMESTAMP] == kept["metadata/1.root.json"] == "no-cache"
    assert {kept[path] for path in kept if path.startswith(("objects/", "targets/"))} == {
        "public, max-age=31536000, immutable"
    }


def test_a_prefix_that_holds_other_things_is_left_as_it_is(acme: Acme, bucket: Bucket) -> None:
    prefix = bucket.prefix()
    bucket.store.client().put_object(Bucket=bucket.name, Key=f"{prefix}/films/a.mov", Body=b"x")

    with pytest.raises(RefusedError, match="found other things: films"):
        carry(acme.folder, acme.root, bucket.place(prefix))

    assert bucket.paths(prefix) == ["films/a.mov"]


def test_what_a_probe_left_is_nobodys(acme: Acme, bucket: Bucket, tmp_path: Path) -> None:
    acme.publish(acme.make())
    prefix = bucket.prefix()
    bucket.store.client().put_object(Bucket=bucket.name, Key=f"{prefix}/.probe-0123/first", Body=b"x")

    assert carry(acme.folder, acme.root, bucket.place(prefix)).before == "empty"

    assert seen(acme, bucket.reader(prefix), tmp_path / "state") == ("person-roto@1.0.0",)


def test_a_bucket_that_is_not_there_is_named_with_what_to_do(acme: Acme, bucket: Bucket) -> None:
    with pytest.raises(UnreachableError, match=r"s3://nobodys-bucket: .*404 \(NoSuchBucket\); make the bucket"):
        carry(acme.folder, acme.root, open_place("s3://nobodys-bucket?profile=direct"))


def test_a_profile_that_is_not_there_is_named(acme: Acme, bucket: Bucket) -> None:
    with pytest.raises(UnreachableError, match=r"The config profile \(other\) could not be found"):
        look(acme.folder, acme.root, open_place(f"s3://{bucket.name}/x?profile=other"))


def test_credentials_that_are_refused_are_said_to_be(
    acme: Acme, swift: S3Store, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in swift.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")

    with pytest.raises(
        UnreachableError, match=r"403 \(SignatureDoesNotMatch\); let these credentials get, put and list"
    ):
        carry(acme.folder, acme.root, open_place(f"s3://{bucket.name}/x"))


@pytest.mark.parametrize(
    "location", ["s3://", "s3://b?profile=", "s3://b?endpoint=x", "s3://b/x?profile=a&b=c", "s3://b#x"]
)
def test_an_address_of_another_form_is_refused(location: str) -> None:
    with pytest.raises(InvalidInputError, match="expected s3://BUCKET or s3://BUCKET/PREFIX"):
        open_place(location)
