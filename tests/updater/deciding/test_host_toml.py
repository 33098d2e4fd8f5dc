import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from changeover_registry.errors import InvalidInputError
from changeover_updater.host_toml import add_runtime, with_runtime

WHOLE = """\
# This machine.
schema = "changeover.host/1"   # keep
site = "/mnt/site"

[runtimes]   # interpreters
default = "/opt/run/bin/python"   # ours
# "old" = "/gone"

# Private keys.
[keys]
site = "/secure/site.pem"

[[nukes]]
version = "15.1v3"
"""


def test_one_line_is_added_below_the_last_entry_and_every_other_stays() -> None:
    after = with_runtime(WHOLE, "torch-2.1.1", "/x/bin/python", where="host.toml")

    lines = WHOLE.splitlines()
    place = lines.index('default = "/opt/run/bin/python"   # ours') + 1
    assert after.splitlines() == [*lines[:place], '"torch-2.1.1" = "/x/bin/python"', *lines[place:]]


@pytest.mark.parametrize(
    "text",
    [
        "",
        'schema = "changeover.host/1"',
        'schema = "changeover.host/1"\n[keys]\nsite = "/k"\n',
        'schema = "changeover.host/1"\n[runtimes]\n',
        'schema = "changeover.host/1"\n[runtimes]',
        'schema = "changeover.host/1"\n[runtimes]\n[keys]\n',
        'schema = "changeover.host/1"\n[ runtimes ]\na = "/a"\n\n\n[[nukes]]\nversion = "15.1"\n',
        'schema = "changeover.host/1"\r\n[runtimes]\r\na = "/a"\r\n',
    ],
)
def test_the_new_text_says_what_the_old_one_said_and_the_entry_besides(text: str) -> None:
    before = tomllib.loads(text or 'schema = "changeover.host/1"')

    after = tomllib.loads(with_runtime(text, "b", "/b", where="host.toml"))

    assert after == {**before, "runtimes": {**before.get("runtimes", {}), "b": "/b"}}


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text(st.characters(exclude_categories=["Cs"])))
@settings(deadline=None)
def test_any_name_and_any_path_are_read_back_as_they_were(name: str, path: str) -> None:
    assert tomllib.loads(with_runtime("", name, path, where="host.toml"))["runtimes"] == {name: path}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[runtimes\n", "correct it first"),
        ('[runtimes]\nb = "/there"\n', "found /there"),
        ('runtimes = { a = "/a" }\n', 'add this to it by hand: "b" = "/b"'),
        ('runtimes.a = "/a"\n', 'add this to it by hand: "b" = "/b"'),
        ("runtimes = 3\n", "by hand"),
        ('who = """\n[runtimes]\n"""\n', "by hand"),
    ],
)
def test_what_cannot_be_added_to_is_refused_with_what_to_do(text: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        with_runtime(text, "b", "/b", where="host.toml")


def test_the_file_is_written_whole_with_its_mode_and_a_refusal_leaves_it(tmp_path: Path) -> None:
    config = tmp_path / "host.toml"
    config.write_text(WHOLE, encoding="utf-8")
    config.chmod(0o600)

    add_runtime(config, "new", "/new")
    written = config.read_bytes()
    with pytest.raises(InvalidInputError):
        add_runtime(config, "new", "/other")

    assert tomllib.loads(written.decode())["runtimes"]["new"] == "/new"
    assert config.read_bytes() == written
    assert config.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == [".host.toml.lock", "host.toml"]


def test_a_machine_without_the_file_gets_one(tmp_path: Path) -> None:
    add_runtime(tmp_path / "new" / "host.toml", "a", "/a")

    body = tomllib.loads((tmp_path / "new" / "host.toml").read_text(encoding="utf-8"))
    assert body == {"schema": "changeover.host/1", "runtimes": {"a": "/a"}}
