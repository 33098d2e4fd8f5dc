import os
import time
from pathlib import Path

from changeover_validators.runtimes.kernel_log import kernel_lines


def test_only_what_was_written_since_is_read(tmp_path: Path) -> None:
    log = tmp_path / "kmsg"
    log.write_text("6,1,1000000,-;long ago\n SUBSYSTEM=pci\n3,2,9000000,-;NVRM: Xid (PCI:0000:01:00): 31\nno record\n")

    assert kernel_lines(8_500_000, log) == "NVRM: Xid (PCI:0000:01:00): 31"
    assert kernel_lines(0, log).splitlines()[0] == "long ago"


def test_a_log_that_may_not_be_read_is_empty(tmp_path: Path) -> None:
    assert kernel_lines(0, tmp_path / "nothing") == ""
    assert kernel_lines(0, tmp_path) == ""


def test_a_device_is_read_to_its_last_record_and_does_not_wait_for_more(tmp_path: Path) -> None:
    pipe = tmp_path / "kmsg"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)
    os.write(writer, b"6,1,5000000,-;one fault\n")

    assert kernel_lines(5_000_000, pipe) == "one fault"
    os.close(writer)


def test_the_real_log_ends_and_says_nothing_of_the_future() -> None:
    assert kernel_lines(time.monotonic_ns() // 1000 + 3_600_000_000) == ""
