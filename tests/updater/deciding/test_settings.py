import os
import subprocess
import sys
from pathlib import Path

import pytest

from changeover_registry.errors import InvalidInputError, UndecidedError
from changeover_updater.settings import config_path, load_settings, short_host

WAYS = ("flag", "environment", "host.toml")


@pytest.fixture
def host_toml(tmp_path: Path) -> Path:
    path = tmp_path / "host.toml"
    path.write_text(
        f'schema = "changeover.host/1"\nsite = "{tmp_path}/file-site"\nstore = "{tmp_path}/file-store"\n'
        'station = "file-station"\nwho = "ana"\n'
        '[runtimes]\ntorch = "/b"\ndefault = "/a"\n[keys]\npromoter = "/keys/promoter.pem"\n'
        '[[nukes]]\nversion = "15.1v3"\n',
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("name", ["site", "store", "station"])
def test_flag_goes_before_environment_before_host_toml_before_default(
    tmp_path: Path, host_toml: Path, name: str, first: int
) -> None:
    variable = f"CHANGEOVER_{name.upper()}"
    flags = {name: tmp_path / "flag" if name != "station" else "flag"} if first == 0 else {}
    environment = {variable: str(tmp_path / "env") if name != "station" else "env"} if first <= 1 else {}
    config = host_toml if first <= 2 else tmp_path / "nothing.toml"

    found = load_settings(environment, config=config, **flags)  # type: ignore[arg-type]

    folder = (tmp_path / "flag", tmp_path / "env", tmp_path / f"file-{name}", None)
    station = ("flag", "env", "file-station", short_host())
    assert getattr(found, name) == (station if name == "station" else folder)[first]
    default = "host" if name == "station" else "nowhere"
    assert dict(found.origins)[name] == ("flag", variable, str(host_toml), default)[first]


def test_host_toml_says_the_rest(host_toml: Path) -> None:
    found = load_settings({}, config=host_toml)

    assert found.config == host_toml
    assert found.who == "ana"
    assert found.runtimes == (("default", "/a"), ("torch", "/b"))
    assert (found.keys.promoter, found.keys.root) == ("/keys/promoter.pem", None)
    assert found.nukes == ("15.1v3",)
    assert found.host == short_host()
    assert dict(found.origins)["who"] == str(host_toml)


def test_only_a_nuke_that_is_said_to_be_licensed_may_be_started_by_a_check(host_toml: Path) -> None:
    more = '[[nukes]]\nversion = "16.0v2"\npath = "/n16"\n[[nukes]]\nversion = "17.0v3"\nlicensed = true\n'
    more += '[[nukes]]\nversion = "15.2v1"\npath = "/n152"\nlicensed = true\nreads = ["/tools"]\n'
    host_toml.write_text(host_toml.read_text(encoding="utf-8") + more, encoding="utf-8")

    found = load_settings({}, config=host_toml)

    assert found.nukes == ("15.1v3", "16.0v2", "17.0v3", "15.2v1")
    assert found.licensed_nukes == (("15.2v1", ("/n152", "/tools")),)


def test_gpu_that_nuke_is_set_to_is_said_by_host_toml_alone(tmp_path: Path, host_toml: Path) -> None:
    uuid = "GPU-9b36c24f-b9bc-1dfa-b6c7-1ea6b42c5b75"
    host_toml.write_text(f'nuke_gpu = "{uuid}"\n' + host_toml.read_text(encoding="utf-8"), encoding="utf-8")

    found, silent = load_settings({}, config=host_toml), load_settings({}, config=tmp_path / "nothing.toml")

    assert (found.nuke_gpu, dict(found.origins)["nuke_gpu"]) == (uuid, str(host_toml))
    assert (silent.nuke_gpu, dict(silent.origins)["nuke_gpu"]) == (None, "nowhere")


def test_empty_variable_says_nothing(host_toml: Path) -> None:
    found = load_settings({"CHANGEOVER_STATION": "", "CHANGEOVER_SITE": ""}, config=host_toml)

    assert dict(found.origins)["station"] == str(host_toml)
    assert dict(found.origins)["site"] == str(host_toml)


def test_without_host_toml_the_login_asks(tmp_path: Path) -> None:
    found = load_settings({}, config=tmp_path / "nothing.toml")

    assert found.who.endswith(f"@{short_host()}")
    assert dict(found.origins)["who"] == "login"


def test_folder_is_made_absolute_and_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    found = load_settings({}, config=tmp_path / "nothing.toml", site=tmp_path / "x" / ".." / "link")

    assert found.site == tmp_path / "link"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("site = [", "a TOML file in UTF-8"),
        ('schema = "changeover.host/1"\nsight = "/x"\n', "sight: expected no such field"),
        ('schema = "changeover.host/1"\nsite = 3\n', "site"),
        ('schema = "changeover.host/1"\n[keys]\nmaster = "/x"\n', "keys.master"),
        ('site = "/x"\n', "changeover.host/1"),
    ],
)
def test_bad_host_toml_is_refused_by_file_and_field(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "host.toml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(InvalidInputError, match=says) as caught:
        load_settings({}, config=path)

    assert caught.value.exit_code == 2
    assert caught.value.where.startswith(str(path))


def test_host_toml_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "host.toml"
    path.write_bytes(b'schema = "\xff"')

    with pytest.raises(InvalidInputError, match="a TOML file in UTF-8"):
        load_settings({}, config=path)


def test_host_toml_of_a_newer_version_is_undecided(tmp_path: Path) -> None:
    path = tmp_path / "host.toml"
    path.write_text('schema = "changeover.host/9"\n', encoding="utf-8")

    with pytest.raises(UndecidedError, match="needs changeover >= 9"):
        load_settings({}, config=path)


@pytest.mark.parametrize("name", ["site", "store"])
def test_folder_that_is_not_named_or_not_there_is_asked_for(tmp_path: Path, name: str) -> None:
    none = load_settings({}, config=tmp_path / "nothing.toml")
    gone = load_settings({f"CHANGEOVER_{name.upper()}": str(tmp_path / "gone")}, config=tmp_path / "nothing.toml")

    for found, says, do in (
        (none, "none named", f"give --{name} DIR"),
        (gone, "no such folder", f"mount it, or correct --{name}"),
    ):
        with pytest.raises(InvalidInputError, match=says) as caught:
            getattr(found, f"need_{name}")()
        assert do in caught.value.remedy


@pytest.mark.parametrize("name", ["site", "store"])
def test_folder_that_is_there_is_answered(tmp_path: Path, name: str) -> None:
    found = load_settings({f"CHANGEOVER_{name.upper()}": str(tmp_path)}, config=tmp_path / "nothing.toml")

    assert getattr(found, f"need_{name}")() == tmp_path


def test_host_toml_is_found_by_flag_then_variable_then_user_then_machine(tmp_path: Path) -> None:
    environment = {"CHANGEOVER_CONFIG": "/named.toml", "XDG_CONFIG_HOME": str(tmp_path / "xdg"), "HOME": "/home/ana"}

    assert config_path(environment, Path("/flag.toml")) == Path("/flag.toml")
    assert config_path(environment) == Path("/named.toml")
    del environment["CHANGEOVER_CONFIG"]
    user = tmp_path / "xdg" / "changeover" / "host.toml"
    user.parent.mkdir(parents=True)
    user.touch()
    assert config_path(environment) == user
    machine = Path("/etc/changeover/host.toml")
    at_home = Path("/home/ana/.config/changeover/host.toml")
    assert config_path({"HOME": "/home/ana"}) == (machine if machine.exists() else at_home)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become a user who has no name")
def test_user_without_a_name_is_unknown_and_no_failure() -> None:
    code = (
        "import os; from changeover_updater.settings import _login; os.setresuid(54321, 54321, 0);"
        "print(_login({'USER': 'x'}), _login({})); os.setresuid(0, 0, 0)"
    )
    environment = {
        name: text for name, text in os.environ.items() if name not in {"LOGNAME", "USER", "LNAME", "USERNAME"}
    }

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)

    assert done.stdout == "x unknown\n"
