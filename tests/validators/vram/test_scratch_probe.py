import pytest

from changeover_validators.vram import scratch_probe


def test_scratch_memory_is_what_kernels_really_take(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")

    assert scratch_probe.main([]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(scratch_probe.QUESTIONS)
    assert not any("said" in line for line in lines)


def test_scratch_memory_grows_with_threads_as_kernels_do() -> None:
    pytest.importorskip("onnxruntime")

    found = list(scratch_probe.answers(threads=2))

    assert [one.question for one in found if one.said != one.taken] == []
    assert sum(one.taken > 0 for one in found) >= 25
