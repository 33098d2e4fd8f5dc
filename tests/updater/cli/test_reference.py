import subprocess
import sys
from pathlib import Path

from changeover_updater.cli._reference import page

PUBLISHED = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"


def test_the_published_page_is_that_of_the_commands() -> None:
    assert PUBLISHED.read_text(encoding="utf-8") == page(), "run `make reference`"


def test_the_page_names_every_required_argument_and_no_path_of_this_machine() -> None:
    text = page()

    assert "changeover promote [RELEASE] [OPTIONS]" in text
    assert "changeover hold --reason REASON [OPTIONS]" in text
    assert str(Path.home()) not in text
    assert str(Path(__file__).parents[3]) not in text


def test_the_page_is_written_by_one_command(tmp_path: Path) -> None:
    file = tmp_path / "cli.md"

    subprocess.run([sys.executable, "-m", "changeover_updater.cli._reference", str(file)], check=True)

    assert file.read_text(encoding="utf-8") == page()
