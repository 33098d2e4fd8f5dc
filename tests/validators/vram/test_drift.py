import sys
from pathlib import Path

import pytest

from changeover_registry.errors import MeasurementError
from changeover_registry.records.memory import MemoryRange
from changeover_validators.vram import drift
from changeover_validators.vram.environments import lend_packages
from changeover_validators.vram.native import NativeSession
from changeover_validators.vram.zoo import architectures


def row(low: int, high: int, *measured: int, release: str = "1.2.3") -> drift.Row:
    return drift.Row(release, "net", "fixed", MemoryRange(low_bytes=low, high_bytes=high, sessions=5), measured)


@pytest.mark.parametrize(
    ("found", "error"),
    [
        (row(100, 100, 100), 0.0),
        (row(100, 200, 100, 150, 200), 0.0),
        (row(100, 100, 100, 200), -0.5),
        (row(150, 160, 100), 0.5),
    ],
)
def test_error_is_the_way_from_the_range_to_the_process_furthest_from_it(found: drift.Row, error: float) -> None:
    assert found.error == pytest.approx(error)


@pytest.mark.parametrize("markdown", [False, True])
def test_table_says_how_far_each_release_is_off_and_what_an_old_prediction_costs(*, markdown: bool) -> None:
    text = drift.table([row(4_000_000, 4_000_000, 2_000_000), row(1, 1, 4_000_000, release="1.3.0")], markdown=markdown)

    assert "1.2.3: at most 100.00% off" in text
    assert "-100.0%" in text
    assert text.startswith("|") == markdown


@pytest.mark.skipif(sys.platform != "linux", reason="sessions are built in the sandbox of Linux")
def test_prediction_holds_on_the_release_of_this_interpreter(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")

    assert drift.main(["--here", "--only", "pyramid", "--sessions", "1"]) == 0

    assert "at most 0.00% off" in capsys.readouterr().out


def test_log_of_a_run_tells_what_the_statistics_tell(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    pytest.importorskip("onnxruntime")
    (architecture,) = (item for item in architectures() if item.name == "mobilenet")
    architecture.build(tmp_path / "model.onnx", 128, 64)
    with NativeSession(tmp_path / "model.onnx") as session:
        for _ in range(3):
            session.run({"image": numpy.zeros((1, 3, 64, 128), numpy.float32)})
        told = session.statistics()

    logged = drift.arena_of_runs(Path(sys.executable), tmp_path / "model.onnx", architecture.feeds(128, 64))

    assert told is not None
    assert logged == told.total_allocated


def test_model_that_does_not_run_is_a_measurement_error(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "model.onnx").write_bytes(b"no model")

    with pytest.raises(MeasurementError, match=r"model\.onnx"):
        drift.arena_of_runs(Path(sys.executable), tmp_path / "model.onnx", {})


def test_environment_imports_changeover_from_here_and_keeps_its_own_first(tmp_path: Path) -> None:
    site = tmp_path / "lib" / "python3.99" / "site-packages"
    site.mkdir(parents=True)

    lend_packages(tmp_path / "bin" / "python")

    (lent,) = site.glob("*.pth")
    folders = [Path(line) for line in lent.read_text("utf-8").splitlines()]
    assert {"changeover_registry", "changeover_validators"} <= {
        name.name for path in folders for name in path.iterdir()
    }
