import copy
import pickle
from collections.abc import Callable

import pytest

from changeover_registry import errors


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ChangeoverError", 1),
        ("InvalidInputError", 2),
        ("RefusedError", 3),
        ("UndecidedError", 4),
        ("TrustError", 5),
        ("UnreachableError", 6),
        ("LostRaceError", 7),
        ("MeasurementError", 8),
    ],
)
def test_each_class_has_its_documented_exit_code(name: str, code: int) -> None:
    error = getattr(errors, name)

    assert error.exit_code == code
    assert issubclass(error, errors.ChangeoverError)


def test_every_public_error_has_an_exit_code_of_its_own() -> None:
    codes = [getattr(errors, name).exit_code for name in errors.__all__]

    assert sorted(codes) == list(range(1, 9))


def test_an_error_reads_as_one_line_that_names_all_five_parts() -> None:
    error = errors.RefusedError(
        "VRAM budget", where="onnx-fp16", expected="at most\n6144 MiB", actual="7300 MiB", remedy="use tile 1024+64"
    )

    assert str(error) == "VRAM budget: onnx-fp16: expected at most 6144 MiB, found 7300 MiB; use tile 1024+64"


def test_what_a_terminal_would_obey_is_written_as_an_escape() -> None:
    error = errors.TrustError("name", where="\x1b]0;owned\x07", expected="é", actual="\u202e", remedy="look\x9b again")

    assert str(error) == r"name: \x1b]0;owned\x07: expected é, found \u202e; look\x9b again"


def test_the_parts_stay_readable_one_by_one() -> None:
    error = errors.TrustError("digest", where="a", expected="b", actual="c", remedy="d")

    assert (error.rule, error.where, error.expected, error.actual, error.remedy) == ("digest", "a", "b", "c", "d")


@pytest.mark.parametrize("carried", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])  # noqa: S301 - our own bytes
def test_another_process_gets_an_error_whole(carried: Callable[[Exception], Exception]) -> None:
    error = errors.MeasurementError("crash", where="shot a, frame 7", expected="b", actual="c", remedy="d")

    again = carried(error)

    assert type(again) is errors.MeasurementError
    assert str(again) == str(error)
