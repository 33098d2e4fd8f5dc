"""A repository in a bucket of S3, or of a store that speaks as S3 does: ``s3://bucket/prefix``.

Rules: credentials, region and endpoint as boto3 finds them (``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE``, ``AWS_REGION``,
``AWS_ENDPOINT_URL_S3`` ...), or of the profile that ``?profile=NAME`` names, by which several stores can be used at
once; where it finds no credentials, a public bucket is read without. Four tries to get an
answer (``AWS_MAX_ATTEMPTS`` says otherwise), 10 s for a connection, 20 s without a byte. What is put is put in parts
where it is large; nothing is asked of the store but that it gives back what it took: neither checksums nor conditional
writes are relied on, since stores that speak as S3 does differ in both. Left out: a floor on throughput.
"""

import contextlib
import functools
import os
import re
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from changeover_registry.errors import InvalidInputError, UnreachableError
from changeover_registry.names import check_path
from changeover_registry.transport.interface import (
    CHUNK_BYTES,
    NoRangesError,
    NotThereError,
    bounded,
    read_limited,
    wrong_range,
)

__all__ = ["S3Place", "S3Transport"]

_NOT_THERE = frozenset({403, 404, 410})
"""A bucket answers 403 for what is not there when the reader may not list."""
_NOT_SATISFIABLE = 416
_WHOLE = 200
_REDIRECTED = 300
_READING = "check bucket, region, endpoint, credentials and the network, then run the command again"
_WRITING = {
    403: "let these credentials get, put and list objects under this prefix, then run: changeover vendor carry",
    404: "make the bucket, or correct its name in vendor.toml, then run: changeover vendor carry",
    507: "free space in the store or raise its quota, then run: changeover vendor carry",
}
_PUTTING = "check bucket, region, endpoint, credentials and the network, then run: changeover vendor carry"
_PART_BYTES = 16 * 1024 * 1024
"""From here on a file goes in parts of this size, several at once; S3 takes none under 5 MiB but the last."""
_PARTS_AT_ONCE = 4


class S3Transport:
    """Reads the objects under one prefix of a bucket.

    Args:
        location: ``s3://bucket`` or ``s3://bucket/prefix``, with or without a slash at the end; a profile of AWS's own
            configuration may follow as ``?profile=NAME``.

    Raises:
        InvalidInputError: No bucket is named, or something else is asked for.
    """

    def __init__(self, location: str) -> None:
        parts = urlsplit(location)
        self._location = location.rstrip("/")
        self._bucket = parts.netloc
        self._prefix = parts.path.strip("/")
        self._address = f"s3://{self._bucket}/{self._prefix}".rstrip("/")
        asked = re.fullmatch(r"(?:profile=(?P<profile>[^&=]+))?", parts.query)
        self._profile = asked["profile"] if asked else None
        if not self._bucket or asked is None or parts.fragment:
            raise InvalidInputError(
                "location",
                where=location,
                expected="s3://BUCKET or s3://BUCKET/PREFIX, and ?profile=NAME",
                actual="another form",
                remedy="name the bucket; AWS_REGION and AWS_ENDPOINT_URL_S3 of the environment say the rest",
            )

    @property
    def location(self) -> str:
        """The address."""
        return self._location

    def read(self, path: str, *, limit: int) -> bytes:
        """See `Transport.read`."""
        return read_limited(self, path, limit)

    def stream(self, path: str, *, offset: int = 0, length: int | None = None) -> Generator[bytes, None, None]:
        """See `Transport.stream`."""
        check_path(path, where=self._address)
        with self._wrapping(path):
            answer = self._get(path, offset, length)
            if answer is None:
                return
            with answer["Body"] as raw:
                if length is not None and answer["ResponseMetadata"]["HTTPStatusCode"] == _WHOLE:
                    raise self._unreachable(NoRangesError, path, "the whole file, where a part of it was asked for")
                start = _start(answer)
                if start > offset or (length is not None and start != offset):
                    raise wrong_range(f"{self._address}/{path}", offset, answer.get("ContentRange"))
                yield from bounded(self._pieces(path, raw, answer.get("ContentLength")), offset - start, length)

    def _get(self, path: str, offset: int, length: int | None) -> dict[str, Any] | None:
        """The answer to one request; None where the object ends before `offset`."""
        from botocore.exceptions import ClientError

        last = "" if length is None else offset + length - 1
        part = {"Range": f"bytes={offset}-{last}"} if offset or length is not None else {}
        try:
            answer: dict[str, Any] = _client(self._profile).get_object(Bucket=self._bucket, Key=self._key(path), **part)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == _NOT_SATISFIABLE:
                return None
            raise
        return answer

    def _key(self, path: str) -> str:
        return f"{self._prefix}/{path}" if self._prefix else path

    def _pieces(self, path: str, raw: Any, expected: int | None) -> Iterator[bytes]:  # noqa: ANN401 - has no types
        """What comes, as it comes; the body's own reader would wait for whole pieces. A proxy may say no length."""
        left = expected or 0
        while piece := raw.read1(CHUNK_BYTES, decode_content=False):
            left -= len(piece)
            yield piece
        if left > 0:
            raise self._unreachable(UnreachableError, path, f"an answer that was cut {left} bytes before its end")

    @contextlib.contextmanager
    def _wrapping(self, path: str) -> Iterator[None]:
        try:
            from boto3.exceptions import Boto3Error
            from botocore.exceptions import BotoCoreError, ClientError
            from botocore.parsers import ResponseParserError
            from urllib3.exceptions import HTTPError
        except ModuleNotFoundError as error:
            raise self._not_installed(error) from error

        try:
            yield
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            code = error.response["Error"].get("Code", "no code")
            kind = NotThereError if status in _NOT_THERE else UnreachableError
            raise self._unreachable(kind, path, f"HTTP status {status} ({code})") from error
        except ResponseParserError as error:
            raise self._unreachable(UnreachableError, path, "an answer that is none of a store's") from error
        except RecursionError as error:
            # botocore follows an answer that leads elsewhere, such as to a login page, by asking the same again.
            raise self._unreachable(
                UnreachableError, path, "an answer that leads elsewhere, again and again"
            ) from error
        except (Boto3Error, BotoCoreError, HTTPError, OSError, ValueError) as error:
            raise self._unreachable(UnreachableError, path, str(error)) from error

    def _not_installed(self, error: ModuleNotFoundError) -> InvalidInputError:
        return InvalidInputError(
            "installation",
            where=self._address,
            expected="the Python package boto3",
            actual=str(error),
            remedy="install it where changeover runs: pip install 'changeover[s3]'",
        )

    def _unreachable(self, kind: type[UnreachableError], path: str, actual: str) -> UnreachableError:
        return kind(
            "bucket",
            where=f"{self._address}/{path}",
            expected="an answer with the object",
            actual=actual,
            remedy=_READING,
        )


class S3Place(S3Transport):
    """A prefix of a bucket that can be filled. Credentials must be allowed to get, put and list under it."""

    def find(self, path: str, *, limit: int) -> bytes | None:
        """See `Place.find`."""
        try:
            return self.read(path, limit=limit)
        except NotThereError:
            return None

    def put(self, path: str, data: bytes) -> None:
        """See `Place.put`."""
        check_path(path, where=self._address)
        with self._taking(path):
            _client(self._profile).put_object(Bucket=self._bucket, Key=self._key(path), Body=data, **_headers(path))

    def put_file(self, path: str, source: Path, told: Callable[[int], None]) -> None:
        """See `Place.put_file`; of a large file, parts that a killed process left are taken away first."""
        if source.stat().st_size < _PART_BYTES:
            data = source.read_bytes()
            self.put(path, data)
            told(len(data))
            return
        check_path(path, where=self._address)
        with source.open("rb") as file:
            self._discard_parts(path)
            with self._taking(path):
                _client(self._profile).upload_fileobj(
                    file,
                    self._bucket,
                    self._key(path),
                    ExtraArgs=_headers(path),
                    Callback=told,
                    Config=_in_parts(),
                )

    def names(self) -> tuple[str, ...]:
        """See `Place.names`; what a probe could not take away has a hidden name, and is none."""
        prefix = f"{self._prefix}/" if self._prefix else ""
        with self._taking(""):
            answer = _client(self._profile).list_objects_v2(
                Bucket=self._bucket, Prefix=prefix, Delimiter="/", MaxKeys=100
            )
        keys = [item["Key"] for item in answer.get("Contents", ())]
        keys += [item["Prefix"] for item in answer.get("CommonPrefixes", ())]
        names = {key.removeprefix(prefix).rstrip("/") for key in keys} - {""}
        return tuple(sorted(name for name in names if not name.startswith(".")))

    def tried(self, what: str, path: str, then: Callable[..., None] | None = None, **asked: object) -> int:
        """The HTTP status of one call of boto3's client by its name, for `s3_probe`; `then` goes on with its answer.

        Raises:
            UnreachableError: The store does not answer.
        """
        from botocore.exceptions import ClientError

        client, name = _client(self._profile), {"Bucket": self._bucket, "Key": self._key(path)}
        with self._taking(path):
            try:
                answer = getattr(client, what)(**name, **asked)
                if then is not None:
                    then(client, name, answer)
            except ClientError as error:
                return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
            return int(answer["ResponseMetadata"]["HTTPStatusCode"])

    def removed(self, path: str) -> bool:
        """Whether an object could be taken away; nothing but what `s3_probe` wrote ever is."""
        return self.tried("delete_object", path) < _REDIRECTED

    def _discard_parts(self, path: str) -> None:
        """Parts of a file that was never finished are stored, and paid for, until somebody takes them away."""
        from botocore.exceptions import ClientError

        key = self._key(path)
        with self._taking(path), contextlib.suppress(ClientError):
            for upload in (
                _client(self._profile).list_multipart_uploads(Bucket=self._bucket, Prefix=key).get("Uploads", ())
            ):
                if upload["Key"] == key:
                    _client(self._profile).abort_multipart_upload(
                        Bucket=self._bucket, Key=key, UploadId=upload["UploadId"]
                    )

    @contextlib.contextmanager
    def _taking(self, path: str) -> Iterator[None]:
        """As `_wrapping`, with what a place that takes nothing in needs."""
        try:
            with self._wrapping(path):
                yield
        except UnreachableError as error:
            status = error.actual.removeprefix("HTTP status ").partition(" ")[0]
            raise UnreachableError(
                "bucket",
                where=error.where.rstrip("/"),
                expected="an object that is taken in" if path else "a list of what is there",
                actual=error.actual,
                remedy=_WRITING.get(int(status) if status.isdecimal() else 0, _PUTTING),
            ) from error


@functools.lru_cache
def _client(profile: str | None) -> Any:  # noqa: ANN401 - boto3 has no types
    """One client of a profile for all threads, made when it is first needed; which reads files and takes a while."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    session = boto3.session.Session(profile_name=profile)
    tries = {} if "AWS_MAX_ATTEMPTS" in os.environ else {"total_max_attempts": 4}
    known = session.get_credentials() is not None
    return session.client(
        "s3",
        region_name=session.region_name or "us-east-1",
        config=Config(
            connect_timeout=10,
            read_timeout=20,
            max_pool_connections=8,
            retries={**tries, "mode": "standard"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            **({} if known else {"signature_version": UNSIGNED}),
        ),
    )


def _start(answer: dict[str, Any]) -> int:
    """The offset of the first byte of the answer."""
    start = str(answer.get("ContentRange", "")).removeprefix("bytes ").partition("-")[0]
    return int(start) if start.isdecimal() else 0


def _in_parts() -> Any:  # noqa: ANN401 - boto3 has no types
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(
        multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE
    )


def _headers(path: str) -> dict[str, str]:
    """What caches in front of a bucket are told: files named by digest never change, the timestamp may any minute."""
    kept = path.startswith(("objects/", "targets/"))
    return {
        "CacheControl": "public, max-age=31536000, immutable" if kept else "no-cache",
        "ContentType": "application/json" if path.endswith(".json") else "application/octet-stream",
    }
