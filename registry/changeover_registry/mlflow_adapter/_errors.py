"""What goes wrong with MLflow, in our words: one line each, with its own cause and its own remedy. Pure.

MLflow tells of the same failure in many ways: a number inside a sentence, a page of a proxy inside another sentence, an
error of its database. Here the signs are looked for in one order, the clearest first. What no sign explains keeps the
first line of what was said. A password that stands in an address never comes out of here.
"""

import errno
import re
from collections.abc import Callable
from dataclasses import dataclass

from changeover_registry.errors import TrustError, UnreachableError

__all__ = ["Failure", "altered", "full_disk", "missing", "not_installed", "too_many", "unreachable", "wrong_version"]

_LINE = 240
_EXTRAS = {"boto3": "changeover[s3]", "botocore": "changeover[s3]", "psycopg": "psycopg[binary]"}
_RETRIES = re.compile(r"too many (\d{3}) error responses")
_STATUS = re.compile(r"error code (\d{3}) !=|\b(\d{3}) (?:Client|Server) Error")
_WHO = re.compile(r"(?<=//)[^/@\s]+:[^/@\s]+@")
_POOL = re.compile(r"host='([^']+)', port=(\d+)")
_URL = re.compile(r"for url: \w+://(?:[^/@\s]*@)?([^/\s]+)")


@dataclass(frozen=True, slots=True)
class Failure:
    """What a foreign error says: its text, MLflow's name for it, an HTTP status; and the server's host:port."""

    text: str
    code: str = ""
    status: int | None = None
    host: str = ""

    def number(self) -> int | None:
        """The HTTP status, also where it only stands in the text."""
        if self.status is not None:
            return self.status
        found = _RETRIES.search(self.text) or _STATUS.search(self.text)
        return int(next(group for group in found.groups() if group)) if found else None

    def elsewhere(self) -> str | None:
        """The host and port that were asked where they are others than MLflow's: a store that the client is sent to."""
        pool, url = _POOL.search(self.text), _URL.search(self.text)
        asked = f"{pool.group(1)}:{pool.group(2)}" if pool else url.group(1) if url else ""
        return asked if asked and self.host and asked not in {self.host, self.host.partition(":")[0]} else None


@dataclass(frozen=True, slots=True)
class _Cause:
    """One way to fail: its rule, what is expected, and what a person can do."""

    rule: str
    expected: str
    remedy: str
    signs: Callable[[Failure], bool]


def _says(*words: str) -> Callable[[Failure], bool]:
    found = re.compile("|".join(words), re.IGNORECASE)
    return lambda failure: found.search(failure.text) is not None


def _answers(*numbers: int) -> Callable[[Failure], bool]:
    return lambda failure: failure.number() in numbers


_FULL = _says(r"No space left on device", r"database or disk is full", r"quota exceeded", r"could not extend file")
_SIGN_IN = _says(r"You are not authenticated")
_STORE = _says(
    r"EndpointConnectionError", r"Could not connect to the endpoint URL", r"NoCredentialsError", r"NoSuchBucket"
)
_PAGE = _says(r"<!doctype html", r"<html")
_CAUSES = (
    _Cause(
        "MLflow's disk",
        "room where MLflow keeps its database and its files",
        "make room there, then run this again; what half arrived is cleared away by the next run",
        lambda failure: _FULL(failure) or failure.number() == 507,
    ),
    _Cause(
        "MLflow's host names",
        "a server that answers to this host name",
        "start it with --allowed-hosts and this name; behind a proxy, pass the name on (nginx: proxy_set_header Host)",
        _says(r"Invalid Host header", r"DNS rebinding"),
    ),
    _Cause(
        "MLflow sign-in",
        "a user that MLflow knows",
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, for this user",
        lambda failure: (
            failure.number() == 401 or failure.code in {"UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"} or _SIGN_IN(failure)
        ),
    ),
    _Cause(
        "MLflow permission",
        "a user who may do this there",
        "ask its administrator for EDIT on the experiment and the registered model, or for READ if you only publish",
        lambda failure: failure.number() == 403 or failure.code == "PERMISSION_DENIED",
    ),
    _Cause(
        "upload size",
        "a way to MLflow that lets a file of this size through",
        "raise the limit of the proxy in front of it (nginx: client_max_body_size 0), then run this again",
        _answers(413),
    ),
    # MLflow calls any trouble of its database unavailable, so that what the database says comes before that.
    _Cause(
        "MLflow's database",
        "a database that can be read",
        "take it back from a backup; or move the file away, and what is registered or synced next makes a new one",
        _says(r"file is not a database", r"disk image is malformed"),
    ),
    _Cause(
        "MLflow's database",
        "a database whose tables are those of this MLflow",
        "upgrade it once with: mlflow db upgrade ADDRESS, or install the MLflow that last wrote it",
        _says(r"Can't locate revision", r"out-of-date database schema", r"no such (table|column)"),
    ),
    _Cause(
        "MLflow's database",
        "a database that answers this user",
        "correct user, password and name of the database in the address, and what it lets in",
        _says(r"authentication failed", r"role \"[^\"]*\" does not exist", r"database \"[^\"]*\" does not exist"),
    ),
    _Cause(
        "MLflow's database",
        "a database that nobody else is writing for longer than a moment",
        "run this again; where several people write, use a server on PostgreSQL",
        _says(r"database is locked"),
    ),
    _Cause(
        "MLflow behind its proxy",
        "an answer before the proxy gives up",
        "have the proxy wait longer (nginx: proxy_read_timeout 3600s; proxy_request_buffering off), then run it again",
        lambda failure: failure.number() == 504 or failure.code == "DEADLINE_EXCEEDED",
    ),
    _Cause(
        "MLflow behind its proxy",
        "an MLflow that the proxy reaches",
        "start MLflow, or correct the address that the proxy passes on to",
        lambda failure: failure.number() in {502, 503} or failure.code == "TEMPORARILY_UNAVAILABLE",
    ),
    _Cause(
        "MLflow's patience",
        "a server that takes one more request",
        "wait a minute and run this again",
        _answers(408, 429),
    ),
    _Cause(
        "MLflow's experiment",
        "an experiment that nobody deleted",
        "restore it: mlflow experiments restore --experiment-id NUMBER, then run this again",
        _says(r"experiment .{1,80} must be in the 'active' state"),
    ),
    _Cause(
        "MLflow's certificate",
        "a certificate that this machine trusts",
        "set MLFLOW_TRACKING_SERVER_CERT_PATH to the studio's own authority",
        _says(r"CERTIFICATE_VERIFY_FAILED", r"SSLError", r"SSLCertVerificationError"),
    ),
    _Cause(
        "store behind MLflow",
        "a way from this machine to the store that MLflow sends it to",
        "open that way, or start the server with MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD=false and "
        "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD=false, so that bytes go through it",
        lambda failure: failure.elsewhere() is not None or _STORE(failure),
    ),
    _Cause(
        "MLflow",
        "an MLflow that answers",
        "start it, or correct the address; is this machine let through to it?",
        _says(r"Max retries exceeded", r"Connection refused", r"Name or service not known", r"connection to server"),
    ),
    _Cause(
        "transfer",
        "a connection that lasts until the last byte",
        "run this again; nothing that was cut off is kept",
        _says(
            r"IncompleteRead", r"Connection broken", r"ChunkedEncodingError", r"Connection aborted", r"reset by peer"
        ),
    ),
    _Cause(
        "MLflow's address",
        "the address of an MLflow of 3.15 or newer",
        "correct the address, with the path that the proxy or --static-prefix gives it",
        lambda failure: failure.code == "ENDPOINT_NOT_FOUND" or (failure.number() == 404 and not failure.code),
    ),
    _Cause(
        "MLflow's address",
        "MLflow's answer, not a page for people",
        "correct the address; a sign-in page in front of it must let this user's token through",
        lambda failure: _PAGE(failure) and failure.number() is None,
    ),
    _Cause(
        "MLflow",
        "an MLflow that does its work",
        "see the log of its server; then run this again",
        lambda failure: failure.number() in {500, 501} or failure.text.startswith("INTERNAL_ERROR"),
    ),
)
_OTHER = _Cause(
    "MLflow",
    "an MLflow that answers and takes this",
    "see whether it runs, is this version's (3.15 or newer), has room and lets you in; then run this again",
    lambda _: True,
)


def unreachable(location: str, failure: Failure) -> UnreachableError:
    """MLflow, its database, its store or the way to them said no: the line for it."""
    cause = next((cause for cause in _CAUSES if cause.signs(failure)), _OTHER)
    return UnreachableError(
        cause.rule, where=location, expected=cause.expected, actual=_actual(failure), remedy=cause.remedy
    )


def full_disk(failure: Failure) -> OSError | None:
    """The error of this machine's own disk, where a download says that it is full."""
    local = "while downloading" in failure.text and "[Errno 28]" in failure.text
    named = re.search(r"\[Errno 28\][^:]*: '([^']+)'", failure.text)
    return OSError(errno.ENOSPC, "No space left on device", named.group(1) if named else "") if local else None


def missing(where: str) -> TrustError:
    """A registered file that is not there any more."""
    return TrustError(
        "registered files",
        where=where,
        expected="the file as it was registered",
        actual="no such file",
        remedy="somebody removed it from MLflow; register the release again under a new version",
    )


def altered(where: str, expected: str, actual: str) -> TrustError:
    """A registered file whose bytes are others."""
    return TrustError(
        "wrong digest",
        where=where,
        expected=expected,
        actual=actual,
        remedy="it was changed since it was registered; nothing was signed; register the release under a new version",
    )


def not_installed(location: str, error: ImportError) -> UnreachableError:
    """A package is not in this environment: MLflow's own, or one that its database or store needs."""
    name = (error.name or "mlflow").partition(".")[0]
    return UnreachableError(
        "MLflow",
        where=location,
        expected=f"the package {name} in this environment",
        actual=str(error),
        remedy=f"install it with: pip install '{_EXTRAS.get(name, 'changeover[mlflow]')}'",
    )


def wrong_version(where: str, found: str, oldest: str) -> UnreachableError:
    """An MLflow, here or at the server, that is too old."""
    return UnreachableError(
        "MLflow's version",
        where=where,
        expected=f"{oldest} or newer",
        actual=found,
        remedy="upgrade it there: pip install --upgrade mlflow, and mlflow db upgrade for its database",
    )


def too_many(where: str, most: int) -> UnreachableError:
    """A registered model that is as large as MLflow stays quick with."""
    return UnreachableError(
        "versions of a model",
        where=where,
        expected=f"fewer than {most} versions, beyond which each alias and tag takes MLflow seconds",
        actual=f"{most} of them",
        remedy="delete in MLflow versions that nobody looks at any more, or go on under another model's name",
    )


def _actual(failure: Failure) -> str:
    """What was found: the number and the server's own words where there are some."""
    number, elsewhere = failure.number(), failure.elsewhere()
    if number is not None:
        words = _body(failure.text)
        return f"HTTP {number}: {words}" if words else f"HTTP {number}"
    if _PAGE(failure):
        return f"a web page ({_body(failure.text) or 'without a title'})"
    said = _said(failure.text)
    return f"{said} (to {elsewhere})" if elsewhere else said


def _body(text: str) -> str:
    """What a server wrote beside its number: of a page its title, else the message, in one line."""
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    if title:
        return _short(title.group(1))
    body = re.search(r"Response body: '(.*)'", text, re.DOTALL)
    if body is None and (_RETRIES.search(text) or _STATUS.search(text)):
        return ""
    return "" if body and "<" in body.group(1)[:20] else _short(body.group(1) if body else text)


def _said(text: str) -> str:
    """The system's own words where there was no connection; else the first line, without what libraries wrap it in."""
    refused = re.search(r"\[Errno -?\d+\] ([A-Za-z ]+)", text)
    if "Max retries exceeded" in text or "Could not connect to the endpoint" in text:
        if "timed out" in text.lower():
            return "no connection (no answer in time)"
        return f"no connection ({refused.group(1)})" if refused else "no connection"
    broken = re.search(r"IncompleteRead\((\d+) bytes read, (\d+) more expected\)", text)
    if broken:
        return f"a connection that ended after {broken.group(1)} bytes, {broken.group(2)} more expected"
    return _short(text.strip() or "no words")


def _short(text: str) -> str:
    line = _WHO.sub("", next((line.strip() for line in text.splitlines() if line.strip()), ""))
    return line if len(line) <= _LINE else f"{line[: _LINE - 3]}..."
