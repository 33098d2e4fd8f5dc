"""The plug-in as a render user meets it: another user, on a mount that may only be read."""

import json
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PLUGIN = HERE.parents[2] / "plugins" / "nuke"
NOBODY = 65534
PYTHON = "/usr/bin/python3"

RENDER = """
import os
import changeover_nuke, changeover_nuke_session
node = changeover_nuke.new_node("roto")
nuke.render(nuke.createNode("Write"))
this = changeover_nuke_session.session()
answer = {
    "user": os.getuid(), "status": changeover_nuke.status(), "lease": this.opened.lease, "said": nuke.said,
    "path": node["modelFile"].value(), "readable": len(open(node["modelFile"].value(), "rb").read()),
}
"""


def _as_nobody(*words: str) -> list[str]:
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *words]


def _why_not() -> str:
    """Why this machine cannot play two users and a mount; an empty text where it can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "only root may mount and become another user"
    if missing := [tool for tool in ("unshare", "mount", "setpriv", PYTHON) if shutil.which(tool) is None]:
        return f"this machine has no {missing[0]}"
    probe = ["unshare", "--mount", "sh", "-c", f"mount --bind /usr /usr && {' '.join(_as_nobody(PYTHON, '-c', '1'))}"]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return f"it cannot be done here: {done.stderr.strip()[:200]}" if done.returncode else ""


WHY_NOT = _why_not()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=f"a read-only mount as another user: {WHY_NOT}")


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may enter, with the plug-in and the stand-in beside the place of the mount."""
    root = Path(tempfile.mkdtemp(prefix="changeover-ro-"))
    root.chmod(0o755)
    (root / "store").mkdir()
    for source, name in ((PLUGIN, "plugin"), (HERE / "standin", "standin")):
        shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in root.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    yield root
    shutil.rmtree(root)


def _render(store: Path, public: Path, how: str, lock: str = "") -> tuple[Any, str]:
    """Render as nobody, the store mounted as `how` says, in a mount namespace that ends with the command."""
    host = [PYTHON, "-I", "-S", "-B", str(public / "standin" / "host.py"), str(public / "plugin"), "15.1v3", "terminal"]
    # The folder of pytest is its user's alone, so the store is reached by the mount and by nothing else.
    script = 'mount --bind "$1" "$2" && mount -o "remount,bind,$3" "$2" && shift 3 && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(store), str(public / "store"), how]
    environment = {
        "PATH": os.environ["PATH"],
        "CHANGEOVER_STORE": str(public / "store"),
        "CHANGEOVER_STATION": "ws01",
        "CHANGEOVER_LOCK": lock,
    }
    done = subprocess.run(
        [*command, *_as_nobody(*host, RENDER)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture
def store(situation: Any) -> Any:
    """A store that root made and everybody may read; its release is locked for the job."""
    release = situation.release("acme/roto", "1.0.0")
    situation.put(situation.generation(1, release, stable=(release,)))
    for path in (situation.root, *situation.root.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o444)
    return release


@pytest.mark.parametrize("how", ["ro", "rw"], ids=["read-only mount", "files of another user"])
def test_a_render_user_opens_the_session_and_verifies_without_a_lease(
    situation: Any, store: Any, public: Path, how: str
) -> None:
    before = _tree(situation.root)
    lock = situation.lock(public / "job.lock", store)
    Path(lock).chmod(0o644)

    answer, errors = _render(situation.root, public, how, lock)

    assert (answer["user"], errors) == (NOBODY, "")
    assert answer["status"] == "This session keeps generation 1 of station ws01 (Nuke 15.1)."
    assert answer["lease"] == ""
    assert answer["path"].startswith(str(public / "store"))
    assert answer["readable"] > 0
    assert [text for text in answer["said"] if "The show of this node is not known" not in text] == []
    assert _tree(situation.root) == before


def test_a_render_user_leaves_a_lease_where_the_folder_of_leases_is_open_to_all(
    situation: Any, store: Any, public: Path
) -> None:
    leases = situation.folder / "leases"
    leases.chmod(0o1777)

    answer, errors = _render(situation.root, public, "rw")

    assert errors == ""
    assert Path(answer["lease"]).name.endswith(".json")
    assert list(leases.iterdir()) == [], "it is taken away at the end"
    assert stat.S_IMODE(leases.stat().st_mode) == 0o1777


def _tree(root: Path) -> list[tuple[str, int, int]]:
    return sorted((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in root.rglob("*"))


def test_what_nobody_may_read_is_one_sentence_and_nuke_goes_on(situation: Any, store: Any, public: Path) -> None:
    (situation.folder / "generations" / "1").chmod(0o700)
    script = "import changeover_nuke\nanswer = [changeover_nuke.status(), nuke.said]"
    environment = {"PATH": os.environ["PATH"], "CHANGEOVER_STORE": str(public / "store"), "CHANGEOVER_STATION": "ws01"}
    host = [PYTHON, "-I", "-S", "-B", str(public / "standin" / "host.py"), str(public / "plugin"), "15.1v3", "gui"]
    mount = f'mount --bind "{situation.root}" "{public / "store"}" && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", *_as_nobody(*host, script)]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")
    status, said = json.loads(done.stdout)
    assert "generation.json cannot be read (Permission denied)" in status
    assert said == ["Changeover: " + status]
