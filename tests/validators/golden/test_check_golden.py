from changeover_registry.errors import InvalidInputError, MeasurementError, RefusedError, UndecidedError
from changeover_registry.records.findings import NotRun, Passed, Refused
from changeover_registry.records.release import Tile
from changeover_registry.records.verdict import OperatingPoint
from changeover_validators.checks.golden import check_golden
from changeover_validators.golden.judge import Judgement

POINT = OperatingPoint(variant="onnx-fp32", precision="fp32", tile=Tile(size=1024, overlap=64), provider="cpu")
SAID = {
    "where": "golden shot ab010, frame 7",
    "expected": "a matte",
    "actual": "signal 11",
    "remedy": "tell the vendor",
}


def test_findings_of_a_judgement_are_about_the_operating_point() -> None:
    refused = Refused(check="golden", rule="floor", expected="0.5", actual="0.4", remedy="keep the current release")
    judged = Judgement("reject", "floor", (), (refused, Passed(check="golden")))
    found = check_golden(POINT, judged)
    assert [finding.subject for finding in found] == ["onnx-fp32/1024+64/cpu"] * 2
    assert [finding.outcome for finding in found] == ["refused", "passed"]


def test_a_measurement_that_broke_is_not_run_as_an_error() -> None:
    for error in (MeasurementError("crash", **SAID), InvalidInputError("crash", **SAID)):
        (finding,) = check_golden(POINT, error)
        assert isinstance(finding, NotRun)
        assert finding.error
        assert finding.why == str(error)


def test_what_nobody_can_decide_is_not_run() -> None:
    (finding,) = check_golden(POINT, UndecidedError("isolation", **SAID))
    assert isinstance(finding, NotRun)
    assert not finding.error


def test_what_is_refused_while_scoring_is_a_refusal() -> None:
    (finding,) = check_golden(POINT, RefusedError("colour", **SAID))
    assert isinstance(finding, Refused)
    assert finding.actual == "golden shot ab010, frame 7: signal 11"
    assert finding.subject == "onnx-fp32/1024+64/cpu"
