import signal
from typing import Any, get_args

import pytest

from changeover_registry.errors import InvalidInputError, MeasurementError, RefusedError, UndecidedError
from changeover_validators.runtimes.endings import (
    Cause,
    Death,
    cause_of_death,
    cause_of_error,
    failure,
    is_sticky,
    refusal,
    row_of_text,
    signal_rows,
    text_of,
    text_rows,
    xid_of,
)


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
        (
            {"returncode": -signal.SIGABRT, "stderr": "terminate called: std::bad_alloc\n"},
            "out of host memory",
            "bad_alloc",
        ),
        ({"returncode": -signal.SIGABRT, "stderr": "assertion failed"}, "crash", "SIGABRT"),
        ({"returncode": -signal.SIGILL}, "processor", "an instruction that this processor lacks"),
        ({"returncode": -signal.SIGBUS}, "crash", "SIGBUS"),
        ({"returncode": -signal.SIGKILL}, "crash", "SIGKILL"),
        ({"returncode": -signal.SIGKILL, "oom_kills": 1}, "out of host memory", "the kernel killed it for memory"),
        ({"returncode": -signal.SIGSEGV, "oom_kills": 1}, "crash", "SIGSEGV"),
        ({"returncode": -signal.SIGKILL, "killed_for": "hang", "oom_kills": 1}, "hang", "the watch ended it"),
        (
            {"returncode": -signal.SIGKILL, "killed_for": "out of host memory"},
            "out of host memory",
            "the watch ended it",
        ),
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
        ({"returncode": 1, "started": False, "stderr": "MemoryError"}, "out of host memory", "MemoryError"),
        ({"returncode": -60}, "crash", "signal 60"),
    ],
)
def test_an_ending_has_one_cause(changes: dict[str, Any], cause: str, found: str) -> None:
    got, words = cause_of_death(death(**changes))

    assert got == cause
    assert found in words


def test_a_fault_of_the_gpu_comes_before_what_the_exit_says() -> None:
    got, words = cause_of_death(death(returncode=-signal.SIGKILL, oom_kills=1, xid="Xid 79 on PCI:0000:01:00"))

    assert (got, words) == ("GPU fault", "Xid 79 on PCI:0000:01:00")


BUFFER = "bfc_arena.cc:360 AllocateRawInternal Failed to allocate memory for requested buffer of size 10"
SMALL = "bfc_arena.cc:360 AllocateRawInternal Available memory of 5 is smaller than requested bytes of 6"
ALLOWED = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 8 GiB of which 7 GiB is free. 4.00 GiB allowed; Of"


@pytest.mark.parametrize(
    ("kind", "text", "on_cpu", "on_cuda"),
    [
        ("Fail", SMALL, "over budget", "over budget"),
        ("OutOfMemoryError", ALLOWED, "over budget", "over budget"),
        ("RuntimeException", BUFFER, "out of host memory", "out of device memory"),
        ("RuntimeError", "DefaultCPUAllocator: can't allocate memory", "out of host memory", "out of host memory"),
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 20 MiB", *["out of device memory"] * 2),
        ("Fail", "CUDA failure 2: out of memory ; GPU=0", *["out of device memory"] * 2),
        ("RuntimeError", "CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate", *["out of device memory"] * 2),
        ("MemoryError", "", *["out of host memory"] * 2),
        ("Fail", "SafeIntOnOverflow() Integer overflow", "out of host memory", "out of device memory"),
        ("RuntimeError", "CUDA error: an illegal memory access was encountered", *["GPU fault"] * 2),
        ("Fail", "CUDA failure 719: unspecified launch failure ; GPU=0", *["GPU fault"] * 2),
        ("RuntimeError", "CUDA error: device-side assert triggered", *["GPU fault"] * 2),
        ("RuntimeError", "CUDA error: the launch timed out and was terminated", *["GPU fault"] * 2),
        ("InvalidProtobuf", "7 : INVALID_PROTOBUF : Protobuf parsing failed.", *["invalid model"] * 2),
        ("RuntimeError", "PytorchStreamReader failed reading zip archive", *["invalid model"] * 2),
        ("ValueError", "Required inputs (['x']) are missing from input feed (['image']).", *["invalid model"] * 2),
        ("Fail", "Load model from n.onnx failed: Unsupported model IR version: 99", *["runtime too old"] * 2),
        ("RuntimeError", "Unknown builtin op: aten::new_thing", *["runtime too old"] * 2),
        ("Fail", "External data path does not exist: /model/big.data", *["file missing"] * 2),
        ("Fail", "This session contains graph nodes that are assigned to the default CPU EP", *["provider"] * 2),
        ("RuntimeError", "CUDA error: no kernel image is available for execution", *["provider"] * 2),
        ("Fail", "something that nobody has seen", *["unknown"] * 2),
    ],
)  # fmt: skip
def test_texts_of_runtimes_are_understood(kind: str, text: str, on_cpu: str, on_cuda: str) -> None:
    assert (cause_of_error(kind, text), cause_of_error(kind, text, "cuda")) == (on_cpu, on_cuda)


def test_what_a_text_was_known_by_is_told_however_much_stands_before_it() -> None:
    before = "/onnxruntime_src/onnxruntime/core/graph/model.cc:256 " + "a name of a function, " * 30
    told = text_of("Fail", f"{before}Unsupported model IR version: 14, max supported IR version: 13")

    assert told.startswith("Fail: ... ")
    assert told.endswith("Unsupported model IR version: 14, max supported IR version: 13")
    assert len(told) <= 300
    assert text_of("Fail", "short, out of memory") == "Fail: short, out of memory"
    assert len(text_of("Fail", "nobody knows this " * 50)) == 300


def test_every_text_of_the_table_reaches_its_own_row() -> None:
    """A part that an earlier row has already would never be asked for."""
    for row in text_rows():
        for part in row.parts:
            found = row_of_text("Fail", f"words before, {part} words behind")
            assert found is not None
            assert found.id == row.id, part


def test_rows_of_the_table_say_whose_words_they_are_and_where_they_were_read() -> None:
    rows = text_rows()

    assert len({row.id for row in rows}) == len(rows)
    assert all(row.parts and row.runtime and row.source for row in rows)
    assert all(part == part.lower() for row in rows for part in row.parts)
    assert all(name in signal.Signals.__members__ for name in signal_rows())


def test_a_row_that_is_not_produced_here_says_why_not() -> None:
    for row in text_rows():
        assert row.produced or "no GPU here" in row.source or "earlier" in row.source, row.id


XID = "NVRM: Xid (PCI:0000:01:00): {number}, pid={pid}, name=python3, Ch 00000008, MMU Fault"


def test_a_fault_in_the_kernels_log_is_told_with_its_meaning_if_it_is_the_childs() -> None:
    log = "\n".join(["usb 1-1: new device", XID.format(number=13, pid=8), XID.format(number=31, pid=7)])

    assert xid_of(log, [6, 7]) == ("Xid 31 on PCI:0000:01:00: an access to an address that is not the process's own")
    assert xid_of(log, [5]) is None
    assert xid_of("", [7]) is None


def test_a_fault_that_names_no_process_is_everybodys() -> None:
    log = "NVRM: Xid (PCI:0000:65:00): 79, GPU has fallen off the bus."

    assert xid_of(log, []) == "Xid 79 on PCI:0000:65:00: the GPU has fallen off the bus"


def test_a_fault_that_the_table_does_not_know_is_still_one() -> None:
    assert xid_of(XID.format(number=999, pid=7), [7]) == (
        "Xid 999 on PCI:0000:01:00: a fault that the table does not know"
    )


def test_only_a_fault_of_the_gpu_outlives_its_call() -> None:
    assert [cause for cause in get_args(Cause) if is_sticky(cause)] == ["GPU fault"]


@pytest.mark.parametrize("cause", ["isolation", "runtime", "runtime too old"])
def test_what_says_nothing_of_the_release_is_undecided(cause: Any) -> None:
    assert isinstance(failure(cause, where="w", expected="e", actual="a"), UndecidedError)


@pytest.mark.parametrize("cause", sorted(set(get_args(Cause)) - {"isolation", "runtime", "runtime too old"}))
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
