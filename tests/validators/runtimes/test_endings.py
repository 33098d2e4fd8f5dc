import signal
from typing import Any

import pytest

from changeover_registry.errors import InvalidInputError, MeasurementError, RefusedError, UndecidedError
from changeover_validators.runtimes.endings import Death, cause_of_death, cause_of_error, failure, refusal


def death(**changes: Any) -> Death:
    fields: dict[str, Any] = {
        "returncode": -signal.SIGSEGV,
        "launched": False,
        "killed_for": None,
        "oom_kills": 0,
        "stderr": "",
        "started": True,
    }
    return Death(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "cause", "found"),
    [
        ({}, "crash", "SIGSEGV"),
        ({"returncode": 128 + signal.SIGSEGV, "launched": True}, "crash", "SIGSEGV"),
        ({"returncode": 128 + signal.SIGSEGV}, "crash", "exit status 139"),
        ({"returncode": -signal.SIGABRT, "stderr": "terminate called: std::bad_alloc\n"}, "out of memory", "bad_alloc"),
        ({"returncode": -signal.SIGABRT, "stderr": "assertion failed"}, "crash", "SIGABRT"),
        ({"returncode": -signal.SIGILL}, "crash", "an instruction that this processor lacks"),
        ({"returncode": -signal.SIGBUS}, "crash", "SIGBUS"),
        ({"returncode": -signal.SIGKILL}, "crash", "SIGKILL"),
        ({"returncode": -signal.SIGKILL, "oom_kills": 1}, "out of memory", "the kernel killed it for memory"),
        ({"returncode": -signal.SIGSEGV, "oom_kills": 1}, "crash", "SIGSEGV"),
        ({"returncode": -signal.SIGKILL, "killed_for": "hang", "oom_kills": 1}, "hang", "the watch ended it"),
        ({"returncode": -signal.SIGKILL, "killed_for": "out of memory"}, "out of memory", "the watch ended it"),
        ({"returncode": -signal.SIGXCPU}, "hang", "its processor time ran out"),
        ({"returncode": 0}, "crash", "exit status 0"),
        ({"returncode": None}, "crash", "exit status None"),
        ({"returncode": 3, "stderr": "first\n  last words \n"}, "crash", "exit status 3: last words"),
        ({"returncode": 1, "started": False, "stderr": "bwrap: No permissions"}, "isolation", "bwrap: No permissions"),
        ({"returncode": 125, "started": False, "stderr": "jail: [Errno 1]"}, "isolation", "jail: [Errno 1]"),
        ({"returncode": 1, "started": False, "stderr": "unshare: failed"}, "isolation", "unshare: failed"),
        ({"returncode": 1, "started": True, "stderr": "bwrap: a model wrote this"}, "crash", "exit status 1"),
        (
            {"returncode": 1, "started": False, "stderr": "x: No module named 'changeover_validators'"},
            "runtime",
            "No mod",
        ),
        ({"returncode": 1, "started": False, "stderr": "MemoryError"}, "out of memory", "MemoryError"),
        ({"returncode": -60}, "crash", "signal 60"),
    ],
)
def test_an_ending_has_one_cause(changes: dict[str, Any], cause: str, found: str) -> None:
    got, words = cause_of_death(death(**changes))

    assert got == cause
    assert found in words


@pytest.mark.parametrize(
    ("kind", "text", "cause"),
    [
        ("Fail", "Available memory of 5 is smaller than requested bytes of 6", "out of memory"),
        ("RuntimeException", "Failed to allocate memory for requested buffer of size 10", "out of memory"),
        ("RuntimeError", "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory", "out of memory"),
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 20 MiB", "out of memory"),
        ("MemoryError", "", "out of memory"),
        ("InvalidProtobuf", "[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Protobuf parsing failed.", "invalid model"),
        ("RuntimeError", "PytorchStreamReader failed reading zip archive", "invalid model"),
        ("ValueError", "Required inputs (['x']) are missing from input feed (['image']).", "invalid model"),
        ("Fail", "Load model from n.onnx failed: Unsupported model IR version: 99", "runtime too old"),
        ("RuntimeError", "Unknown builtin op: aten::new_thing", "runtime too old"),
        ("Fail", "This session contains graph nodes that are assigned to the default CPU EP, but", "provider"),
        ("RuntimeError", "CUDA error: no kernel image is available for execution on the device", "provider"),
        ("Fail", "something that nobody has seen", "unknown"),
    ],
)  # fmt: skip
def test_texts_of_runtimes_are_understood(kind: str, text: str, cause: str) -> None:
    assert cause_of_error(kind, text) == cause


@pytest.mark.parametrize("cause", ["isolation", "runtime", "runtime too old"])
def test_what_says_nothing_of_the_release_is_undecided(cause: Any) -> None:
    assert isinstance(failure(cause, where="w", expected="e", actual="a"), UndecidedError)


@pytest.mark.parametrize("cause", ["out of memory", "hang", "crash", "invalid model", "provider", "unknown"])
def test_what_a_model_did_is_a_failed_measurement(cause: Any) -> None:
    assert isinstance(failure(cause, where="w", expected="e", actual="a"), MeasurementError)


def test_a_models_text_is_printed_as_one_short_line() -> None:
    error = failure("unknown", where="w", expected="e", actual="red \x1b[31m\n and\x00" + "long " * 200)

    assert "\x1b" not in str(error)
    assert "\n" not in str(error)
    assert len(error.actual) == 300


def test_a_refusal_comes_back_as_the_error_that_it_was() -> None:
    head = {
        "class": "InvalidInputError", "rule": "plane", "where": "port p", "expected": "e", "actual": "a", "remedy": "r"
    }  # fmt: skip

    error = refusal(head, where="net.onnx")

    assert type(error) is InvalidInputError
    assert str(error) == "plane: net.onnx: port p: expected e, found a; r"


@pytest.mark.parametrize("name", ["ClassVar", "nothing", None, "ValueError", "ChangeoverError", "TrustError"])
def test_a_refusal_of_no_known_class_is_a_failed_measurement(name: str | None) -> None:
    assert type(refusal({"class": name}, where="net.onnx")) is MeasurementError


def test_a_refusal_without_words_still_has_every_part_that_a_record_wants() -> None:
    error = refusal({"class": "RefusedError", "rule": "\n", "expected": ""}, where="net.onnx")

    assert type(error) is RefusedError
    assert str(error) == "not said: net.onnx: not said: expected not said, found not said; not said"
