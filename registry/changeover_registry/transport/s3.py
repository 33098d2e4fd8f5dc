"""A repository in a bucket of S3, or of a store that speaks as S3 does: ``s3://bucket/prefix``.

Rules: credentials, region and endpoint as boto3 finds them (``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE``, ``AWS_REGION``,
``AWS_ENDPOINT_URL_S3`` ...); where it finds no credentials, a public bucket is read without. Four tries to get an
answer, 10 s for a connection, 20 s without a byte. Left out: writing, and a floor on throughput.
"""

import contextlib
import functools
from collections.abc import Generator, Iterator
from typing import Any
from urllib.parse import urlsplit

from changeover_registry.errors import InvalidInputError, UnreachableError
from changeover_registry.names import check_path
from changeover_registry.transport.interface import CHUNK_BYTES, NotThereError, bounded, read_limited, wrong_range

__all__ = ["S3Transport"]

_NOT_THERE = frozenset({403, 404, 410})
"""A bucket answers 403 for what is not there when the reader may not list."""
_NOT_SATISFIABLE = 416


class S3Transport:
    """Reads the objects under one prefix of a bucket.

    Args:
        location: ``s3://bucket`` or ``s3://bucket/prefix``, with or without a slash at the end.

    Raises:
        InvalidInputError: No bucket is named.
    """

    def __init__(self, location: str) -> None:
        parts = urlsplit(location)
        self._location = location.rstrip("/")
        self._bucket = parts.netloc
        self._prefix = parts.path.strip("/")
        if not self._bucket or parts.query or parts.fragment:
            raise InvalidInputError(
                "location",
                where=location,
                expected="s3://BUCKET or s3://BUCKET/PREFIX",
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
        check_path(path, where=self._location)
        with self._wrapping(path):
            answer = self._get(path, offset, length)
            if answer is None:
                return
            started = _start(answer)
            if started != offset:
                raise wrong_range(f"{self._location}/{path}", offset, answer.get("ContentRange"))
            with answer["Body"] as raw:
                yield from bounded(self._pieces(path, raw, answer["ContentLength"]), 0, length)

    def _get(self, path: str, offset: int, length: int | None) -> dict[str, Any] | None:
        """The answer to one request; None where the object ends before `offset`."""
        from botocore.exceptions import ClientError

        last = "" if length is None else offset + length - 1
        part = {"Range": f"bytes={offset}-{last}"} if offset or length is not None else {}
        key = f"{self._prefix}/{path}" if self._prefix else path
        try:
            answer: dict[str, Any] = _client().get_object(Bucket=self._bucket, Key=key, **part)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == _NOT_SATISFIABLE:
                return None
            raise
        return answer

    def _pieces(self, path: str, raw: Any, expected: int) -> Iterator[bytes]:  # noqa: ANN401 - botocore has no types
        """What comes, as it comes; the body's own reader would wait for whole pieces."""
        left = expected
        while piece := raw.read1(CHUNK_BYTES, decode_content=False):
            left -= len(piece)
            yield piece
        if left > 0:
            raise self._unreachable(UnreachableError, path, f"an answer that was cut {left} bytes before its end")

    @contextlib.contextmanager
    def _wrapping(self, path: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            code = error.response["Error"].get("Code", "no code")
            kind = NotThereError if status in _NOT_THERE else UnreachableError
            raise self._unreachable(kind, path, f"HTTP status {status} ({code})") from error
        except (BotoCoreError, HTTPError, OSError) as error:
            raise self._unreachable(UnreachableError, path, str(error)) from error

    def _unreachable(self, kind: type[UnreachableError], path: str, actual: str) -> UnreachableError:
        return kind(
            "bucket",
            where=f"{self._location}/{path}",
            expected="an answer with the object",
            actual=actual,
            remedy="check bucket, region, endpoint, credentials and the network, then run the command again",
        )


@functools.lru_cache(maxsize=1)
def _client() -> Any:  # noqa: ANN401 - boto3 has no types
    """One client for all threads, made when it is first needed; making it reads files and takes a while."""
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    session = boto3.session.Session()
    known = session.get_credentials() is not None
    return session.client(
        "s3",
        region_name=session.region_name or "us-east-1",
        config=Config(
            connect_timeout=10,
            read_timeout=20,
            max_pool_connections=8,
            retries={"total_max_attempts": 4, "mode": "standard"},
            response_checksum_validation="when_required",
            **({} if known else {"signature_version": UNSIGNED}),
        ),
    )


def _start(answer: dict[str, Any]) -> int:
    """The offset of the first byte of the answer."""
    start = str(answer.get("ContentRange", "")).removeprefix("bytes ").partition("-")[0]
    return int(start) if start.isdecimal() else 0
