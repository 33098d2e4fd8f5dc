"""What python-tuf says, as rule, file, expected and actual.

python-tuf puts its facts into the text of its exceptions; the one table here takes them out again. A text that no line
of the table knows is passed on whole, so that a newer python-tuf is less tidy and never silent.
"""

import re
from dataclasses import dataclass

from tuf.api.exceptions import ExpiredMetadataError
from tuf.api.serialization import DeserializationError

__all__ = ["Refusal", "explain"]

_ASK = "ask whoever keeps the repository; do not use what it offers until this is explained"
_RENEW = "ask whoever keeps the repository to renew it; what is in use stays in use"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why metadata is not believed: rule, file under ``metadata/``, expected, actual, remedy."""

    rule: str
    file: str
    expected: str
    actual: str
    remedy: str


@dataclass(frozen=True, slots=True)
class _Line:
    """One form of text; the fields are templates over its named groups."""

    text: re.Pattern[str]
    rule: str
    file: str
    expected: str
    actual: str


def _line(text: str, rule: str, file: str, expected: str, actual: str) -> _Line:
    return _Line(re.compile(text), rule, file, expected, actual)


_TABLE = (
    _line(
        r"(?P<role>\S+) was signed by (?P<got>\d+)/(?P<need>\d+) keys",
        "signature", "{role}.json", "{need} signature(s) by the keys that may sign it", "{got} valid",
    ),
    _line(
        r"New (?P<role>timestamp|snapshot) version(?: (?P<a>\d+))? must be >= (?P<b>\d+)(?:, got version (?P<c>\d+))?",
        "rollback", "{role}.json", "version {b} or newer, which was seen here before", "version {a}{c}",
    ),
    _line(
        # python-tuf has the two numbers of this one the wrong way round.
        r"Expected (?P<file>\S+\.json) version (?P<a>\d+), got (?P<b>\d+)",
        "rollback", "{file}", "version {b} or newer, which was seen here before", "version {a}",
    ),
    _line(
        r"Expected (?P<role>\S+) (?:version |v)(?P<b>\d+),? (?:instead )?got (?:version |v)?(?P<a>\d+)",
        "version", "{role}.json", "version {b}", "version {a}",
    ),
    _line(
        r"Observed (?P<what>hash|length) (?P<a>\S+) does not match expected (?:hash|length) (?P<b>\S+)",
        "{what} of metadata", "{last}", "{b}", "{a}",
    ),
    _line(
        r"Expected '(?P<b>\w+)', got '(?P<a>\w+)'",
        "kind of metadata", "{last}", "{b} metadata", "{a} metadata",
    ),
    _line(
        r"New snapshot is missing info for '(?P<file>\S+)'",
        "rollback", "snapshot.json", "{file} in it, which was there before", "nothing about it",
    ),
)  # fmt: skip


def explain(error: Exception, last: str) -> Refusal:
    """The facts in one of python-tuf's errors.

    Args:
        error: What python-tuf raised.
        last: The file that was fetched last, for errors that name none.
    """
    text = str(error)
    if isinstance(error, ExpiredMetadataError):
        role = text.removesuffix(" is expired").rpartition(" ")[2].removesuffix(".json")
        return Refusal("expiry", f"{role}.json", "metadata that has not expired", text, _RENEW)
    if isinstance(error, DeserializationError):
        return Refusal("metadata", last or "root.json", "signed metadata in JSON", "other bytes", _ASK)
    for line in _TABLE:
        if match := line.text.search(text):
            facts = {name: value or "" for name, value in match.groupdict().items()} | {"last": last or "root.json"}
            rule, file, expected, actual = (
                part.format_map(facts) for part in (line.rule, line.file, line.expected, line.actual)
            )
            return Refusal(rule, file, expected, actual, _ASK)
    return Refusal("metadata", last or "root.json", "a repository that can be verified", text, _ASK)
