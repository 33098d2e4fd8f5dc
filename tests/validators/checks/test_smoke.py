import pytest

from changeover_registry.errors import ChangeoverError, InvalidInputError, MeasurementError, UndecidedError
from changeover_registry.records.findings import NotRun, Passed, Refused
from changeover_validators.checks.smoke import check_smoke
from changeover_validators.runtimes.interface import SmokeResult


def test_a_difference_within_the_tolerance_passes_with_its_numbers() -> None:
    finding = check_smoke("onnx-fp32", "onnx", SmokeResult(2.5e-4, 1e-3, passed=True))

    assert isinstance(finding, Passed)
    assert finding.subject == "onnx-fp32"
    assert finding.detail == "worst difference 0.00025, tolerance 0.001"


def test_a_difference_above_the_tolerance_is_refused() -> None:
    finding = check_smoke("onnx-fp32", "onnx", SmokeResult(0.25, 1e-3, passed=False))

    assert isinstance(finding, Refused)
    assert finding.expected == "the recorded matte within 0.001"
    assert finding.actual == "a difference of 0.25"


def test_a_cat_is_not_run_outside_nuke() -> None:
    finding = check_smoke("cat", "nuke-cat", SmokeResult(0, 1, passed=True))

    assert isinstance(finding, NotRun)
    assert not finding.error


def test_what_was_not_tried_is_not_run() -> None:
    finding = check_smoke("onnx-fp32", "onnx", None)

    assert isinstance(finding, NotRun)
    assert not finding.error


@pytest.mark.parametrize(
    ("kind", "failed"), [(UndecidedError, False), (MeasurementError, True), (InvalidInputError, True)]
)
def test_an_error_is_not_run_and_says_whether_a_measurement_broke(kind: type[ChangeoverError], failed: bool) -> None:
    error = kind("crash", where="w", expected="e", actual="a", remedy="tell the vendor")

    finding = check_smoke("onnx-fp32", "onnx", error)

    assert isinstance(finding, NotRun)
    assert finding.error is failed
    assert finding.remedy == "tell the vendor"
    assert finding.why == str(error)
