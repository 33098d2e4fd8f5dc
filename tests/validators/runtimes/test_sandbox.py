import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from changeover_registry.errors import RefusedError, UndecidedError
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.interpreter import Interpreter, inspect_interpreter
from changeover_validators.runtimes.sandbox import (
    Isolation,
    available,
    child_environment,
    choose,
    launch,
    wrap,
)
from changeover_validators.runtimes.view import MODEL, View, make_view, nvidia_devices

PROBE = """
import json, os, socket, sys

def attempt(act):
    try:
        act()
        return "done"
    except OSError as error:
        return type(error).__name__ + " " + str(error.errno)

def connect(kind, address):
    with socket.socket(kind, socket.SOCK_STREAM) as s:
        s.settimeout(2)
        s.connect(address)

def write(path):
    with open(path, "w") as file:
        file.write("x")

def fill():
    with open("/tmp/large", "wb") as file:
        for _ in range(200):
            file.write(bytes(1 << 20))

port, unix, home, plates = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
print(json.dumps({
    "connect": attempt(lambda: connect(socket.AF_INET, ("127.0.0.1", port))),
    "connect out": attempt(lambda: connect(socket.AF_INET, ("192.0.2.1", 80))),
    "connect unix": attempt(lambda: connect(socket.AF_UNIX, unix)),
    "read model": attempt(lambda: open("/model/net.onnx", "rb").close()),
    "write model": attempt(lambda: write("/model/planted")),
    "change model": attempt(lambda: open("/model/net.onnx", "ab").close()),
    "write home": attempt(lambda: write(os.path.join(home, "planted"))),
    "write system": attempt(lambda: write("/usr/planted")),
    "write root": attempt(lambda: write("/planted")),
    "write dev": attempt(lambda: write("/dev/planted")),
    "write tmp": attempt(lambda: write("/tmp/scratch")),
    "fill tmp": attempt(fill),
    "read plates": attempt(lambda: os.listdir(plates)),
    "read passwords": attempt(lambda: open("/etc/passwd").close()),
    "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
    "interfaces": [name for _, name in socket.if_nameindex()],
    "environment": sorted(os.environ),
    "capabilities": [l.split()[1] for l in open("/proc/self/status") if l.startswith(("CapEff", "CapPrm", "CapBnd"))],
    "no new privileges": [l.split()[1] for l in open("/proc/self/status") if l.startswith("NoNewPrivs")],
    "remount": os.system("mount -o remount,rw /model >/dev/null 2>&1") != 0,
    "unmount": os.system("umount /model >/dev/null 2>&1") != 0,
    "own session": os.getsid(0) != int(sys.argv[5]),
}))
"""


@pytest.fixture
def listening() -> Iterator[tuple[int, str]]:
    """A TCP port and a Unix socket of this machine on which somebody listens."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(f"{folder}/socket")
        unix.listen()
        yield tcp.getsockname()[1], f"{folder}/socket"


@pytest.fixture
def model_folder(nets: Any) -> Path:
    path: Path = nets.weighted()
    return path.parent


def probe(isolation: Isolation, folder: Path, python: str, listening: tuple[int, str], prefix: tuple[str, ...]) -> Any:
    """What a plain Python finds in the place where a model would run."""
    view = make_view(folder, inspect_interpreter(sys.executable).folders, ())
    home = os.path.expanduser("~")  # noqa: PTH111
    arguments = (str(listening[0]), listening[1], home, str(Path(__file__).parent), str(os.getsid(0)))
    command = (*prefix, *wrap(isolation, view, (python, "-I", "-c", PROBE, *arguments)))
    done = subprocess.run(command, capture_output=True, env={"DO_NOT_TRACK": "1"}, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def check_probe(found: Any) -> None:
    assert found["connect"] in {"ConnectionRefusedError 111", "OSError 101"}
    assert found["connect out"] in {"OSError 101", "OSError 113"}
    assert found["connect unix"] == "FileNotFoundError 2"
    assert found["read model"] == "done"
    for attempt in ("write model", "change model", "write system", "write root", "write dev"):
        assert found[attempt] == "OSError 30", attempt
    # A home below /tmp is a name in the child's own empty /tmp: what is written there is gone with the child.
    of_its_own = {"done"} if Path.home().is_relative_to("/tmp") else set()  # noqa: S108 - it is where it is
    assert found["write home"] in {"FileNotFoundError 2", "OSError 30"} | of_its_own
    assert not (Path.home() / "planted").exists()
    assert found["write tmp"] == "done"
    assert found["fill tmp"] == "OSError 28"
    assert found["read plates"] == "FileNotFoundError 2"
    assert found["read passwords"] == "FileNotFoundError 2"
    assert len(found["processes"]) <= 3
    assert max(found["processes"]) < 20
    assert found["interfaces"] == ["lo"]
    assert set(found["environment"]) <= {"DO_NOT_TRACK", "LC_CTYPE", "PWD"}
    assert set(found["capabilities"]) == {"0000000000000000"}
    assert found["no new privileges"] == ["1"]
    assert found["remount"]
    assert found["unmount"]
    assert found["own session"]


def test_a_program_in_the_sandbox_can_do_no_harm(
    isolation: Isolation, model_folder: Path, listening: tuple[int, str]
) -> None:
    with socket.create_connection(("127.0.0.1", listening[0]), timeout=2):
        pass  # Outside, the same port answers, so that its silence inside means something.
    before = sorted(model_folder.iterdir())

    found = probe(isolation, model_folder, sys.executable, listening, ())

    check_probe(found)
    assert sorted(model_folder.iterdir()) == before


def test_the_same_holds_for_an_unprivileged_user(isolation: Isolation, listening: tuple[int, str]) -> None:
    setpriv, python = shutil.which("setpriv"), Path("/usr/bin/python3")
    if os.geteuid() != 0 or setpriv is None or not python.exists():
        pytest.skip("only root can become nobody")
    prefix = (setpriv, "--reuid=65534", "--regid=65534", "--clear-groups")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        folder, tools = Path(place), Path(place) / "tools"
        folder.chmod(0o755)
        tools.mkdir()
        (folder / "net.onnx").write_bytes(b"any")
        for path in (folder, folder / "net.onnx"):
            os.chown(path, 65534, 65534)  # It is nobody's own, so only the sandbox can keep nobody from writing.
        program = {"bubblewrap": "bwrap", "namespaces": "unshare"}[str(isolation.name)]
        tool = shutil.which(program)
        assert tool is not None
        view = make_view(folder, (), ())
        arguments = (str(listening[0]), listening[1], "/root", str(Path(__file__).parent), str(os.getsid(0)))
        wrapped = wrap(
            Isolation(isolation.name, "", tool, isolation.sized), view, (str(python), "-I", "-c", PROBE, *arguments)
        )
        jail = Path(__file__).parents[3] / "validators/changeover_validators/runtimes/jail.py"
        copy = tools / "jail.py"
        copy.write_bytes(jail.read_bytes())
        command = [str(copy) if part.endswith("runtimes/jail.py") else part for part in wrapped]
        done = subprocess.run([*prefix, *command], capture_output=True, env={"DO_NOT_TRACK": "1"}, check=False)

    assert done.returncode == 0, done.stderr.decode()
    check_probe(json.loads(done.stdout))


@pytest.fixture
def world_readable() -> Iterator[tuple[Path, Path]]:
    """A folder and an interpreter in it that every user can read, with this environment's packages."""
    system = Path(f"/usr/bin/python3.{sys.version_info.minor}")
    if os.geteuid() != 0 or shutil.which("setpriv") is None or not system.exists():
        pytest.skip("only root can become nobody, and only with an interpreter that nobody can read")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        folder = Path(place)
        folder.chmod(0o755)
        packages = folder / "env" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
        packages.mkdir(parents=True)
        (folder / "env" / "bin").mkdir()
        (folder / "env" / "bin" / "python").symlink_to(system)
        (folder / "env" / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
        roots = [path for path in sys.path if path and Path(path).is_dir() and Path(path).name != "lib-dynload"]
        ours = [path for path in roots if "site-packages" in path or Path(path).parent == Path(__file__).parents[3]]
        (packages / "here.pth").write_text("\n".join(ours) + "\n")
        python = folder / "env" / "bin" / "python"
        nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        reads = subprocess.run([*nobody, str(python), "-c", "import numpy"], capture_output=True, check=False, cwd="/")
        if reads.returncode != 0:
            pytest.skip("this checkout lies in a folder that nobody may enter")
        yield folder, python


def test_nobody_runs_a_model(
    isolation: Isolation, model_folder: Path, request_for: Callable[..., RunRequest], world_readable: tuple[Path, Path]
) -> None:
    folder, python = world_readable
    shutil.copy(model_folder / "net.onnx", folder / "net.onnx")
    tool = shutil.which({"bubblewrap": "bwrap", "namespaces": "unshare"}[str(isolation.name)])
    code = f"""
import os, sys
from pathlib import Path
import numpy as np
from changeover_registry.records.release import Contract, Tile
from changeover_validators.runtimes.interface import RunRequest
from changeover_validators.runtimes.process import ModelProcess
from changeover_validators.runtimes.sandbox import Isolation
contract = Contract.model_validate_json({request_for().contract.model_dump_json()!r})
request = RunRequest(sys.executable, Path({str(folder)!r}), "net.onnx", "onnx", contract, Tile(size=0), "cpu",
                     "required", 60.0, 1024)
assert os.geteuid() == 65534
with ModelProcess(request, Isolation({isolation.name!r}, "", {tool!r}, {isolation.sized!r})) as model:
    got = model.infer({{"plate": np.ones((4, 4, 3), np.float32)}}, reset=True)
    print(model.started.sandbox, got.matte.mean(), model.peak_rss_bytes > 20 * 2**20)
"""
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")

    done = subprocess.run([*nobody, str(python), "-c", code], capture_output=True, text=True, check=False, cwd="/")

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [isolation.name, "0.875", "True"]


def test_bubblewrap_is_preferred_and_namespaces_follow(only_unshare: str) -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")

    assert available().name == "bubblewrap"
    assert available(only_unshare).name in {"namespaces", None}


def test_with_neither_tool_the_reason_names_both(tmp_path: Path) -> None:
    found = available(str(tmp_path))

    assert found.name is None
    assert found.reason == "bwrap is not installed; unshare is not installed"


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("echo 'no permission to make namespaces' >&2; exit 1", "no permission to make namespaces"),
        ("exit 3", "no reason given"),
    ],
)
def test_a_tool_that_does_not_work_is_not_available(tmp_path: Path, script: str, complaint: str) -> None:
    for name in ("bwrap", "unshare"):
        tool = tmp_path / name
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)

    found = available(str(tmp_path))

    assert found == Isolation(None, f"bwrap fails: {complaint}; unshare fails: {complaint}")


def test_a_tool_that_is_no_program_is_not_available(tmp_path: Path) -> None:
    for name in ("bwrap", "unshare"):
        (tmp_path / name).write_bytes(b"\x7fELF broken")
        (tmp_path / name).chmod(0o755)

    found = available(str(tmp_path))

    assert found.name is None
    assert "Exec format error" in found.reason


@pytest.mark.parametrize("runtime", ["torchscript", "nuke-cat"])
def test_limits_only_is_refused_for_formats_that_are_code(request_for: Callable[..., RunRequest], runtime: str) -> None:
    request = request_for(sandbox="limits-only", runtime=runtime)

    with pytest.raises(RefusedError) as caught:
        choose(request, Isolation("bubblewrap", "there"))

    assert caught.value.remedy == "set sandbox = 'required' in the policy"


def test_no_isolation_launches_nothing(request_for: Callable[..., RunRequest]) -> None:
    with pytest.raises(UndecidedError, match="not run"):
        launch(request_for(), Isolation(None, "none"), Interpreter("/usr/bin/python3", ()), ("-I",))


def test_limits_only_starts_the_interpreter_itself(request_for: Callable[..., RunRequest], variant: Path) -> None:
    started = launch(request_for(sandbox="limits-only"), Isolation(None, ""), Interpreter("/py", ()), ("-I", "-m", "x"))

    assert started.argv == ("/py", "-I", "-m", "x")
    assert started.folder == str(variant)


def test_cuda_sees_the_devices_and_sysfs(tmp_path: Path) -> None:
    view = make_view(tmp_path, (), ("/dev/nvidia0", "/dev/nvidiactl"))

    argv = wrap(Isolation("bubblewrap", "", "bwrap"), view, ("true",))

    text = " ".join(argv)
    assert "--dev-bind /dev/nvidia0 /dev/nvidia0 --dev-bind /dev/nvidiactl /dev/nvidiactl" in text
    assert "--ro-bind /sys /sys" in text
    assert "--size" not in text
    plan = json.loads(wrap(Isolation("namespaces", "", "unshare"), view, ("/usr/bin/python3",))[-3])
    assert plan["devices"] == ["/dev/nvidia0", "/dev/nvidiactl"]
    assert ["/sys", "/sys"] in plan["read_only"]


def test_a_cuda_request_binds_what_this_machine_has(request_for: Callable[..., RunRequest]) -> None:
    started = launch(
        request_for(provider="cuda"), Isolation("bubblewrap", "", "bwrap"), Interpreter("/usr/bin/python3", ()), ()
    )

    assert ("/sys" in started.argv) == bool(nvidia_devices())


def test_a_view_lists_parents_once_and_the_model_last(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)

    view = make_view(inner, (str(tmp_path / "a"), str(inner), str(tmp_path / "a"), "/nowhere"), ())

    mine = [pair for pair in view.read_only if str(tmp_path) in pair[0]]
    assert mine == [(str(tmp_path / "a"), str(tmp_path / "a")), (str(inner), MODEL)]
    assert isinstance(view, View)


@pytest.mark.parametrize("place", ["/", "/home", "/tmp", "/var", os.path.expanduser("~")])  # noqa: PTH111, S108
def test_a_place_that_holds_homes_is_never_bound_whole(tmp_path: Path, place: str) -> None:
    view = make_view(tmp_path, (place,), ())

    assert place not in [inside for _, inside in view.read_only]


def test_the_childs_environment_is_ours_alone(request_for: Callable[..., RunRequest]) -> None:
    outer = {"CUDA_VISIBLE_DEVICES": "1", "AWS_SECRET_ACCESS_KEY": "s", "LD_PRELOAD": "/x.so", "HOME": "/home/td"}

    inner = child_environment(outer, request_for(threads=3))

    assert inner["ORT_DISABLE_TELEMETRY"] == inner["DO_NOT_TRACK"] == "1"
    assert inner["OMP_NUM_THREADS"] == "3"
    assert inner["CUDA_VISIBLE_DEVICES"] == "1"
    assert not {"AWS_SECRET_ACCESS_KEY", "LD_PRELOAD"} & set(inner)
    assert "td" not in inner["HOME"]


def test_card_that_nuke_is_set_to_is_the_only_one_that_the_child_sees(request_for: Callable[..., RunRequest]) -> None:
    outer = {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}

    bound, free = (child_environment(outer, request_for(gpu=gpu)) for gpu in ("GPU-9b36c24f", None))

    assert (bound["CUDA_VISIBLE_DEVICES"], free["CUDA_VISIBLE_DEVICES"]) == ("GPU-9b36c24f", "1")
    assert "CUDA_VISIBLE_DEVICES" not in child_environment({}, request_for())
