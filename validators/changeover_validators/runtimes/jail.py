"""The inside of the namespaces: builds the view of the machine, drops every capability, and starts the child.

``unshare`` runs this file as the first process of new user, mount, process, network, IPC and host-name namespaces,
with ``python -I -S jail.py PLAN -- COMMAND...``. It is the way where bubblewrap is missing, and does what bubblewrap
does: a fresh root in memory, read-only binds of a closed list, a new /proc, then no way to mount anything again.
Needs Linux 5.12 (mount_setattr). Standard library only; imports nothing of Changeover, for Changeover's folder is not
mounted yet.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000
_MNT_DETACH = 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_ATTR_RDONLY_NOSUID_NODEV = 0x1 | 0x2 | 0x4
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SYS_MOUNT_SETATTR = 442
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_SECUREBITS, _PR_SET_NO_NEW_PRIVS = 1, 24, 28, 38
_NO_ROOT_LOCKED = 0x2F
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522
_ROOM = "/tmp"  # noqa: S108 - covered by an empty file system of our own before anything is made in it
_NODES = ("null", "zero", "full", "random", "urandom")

_libc = ctypes.CDLL(None, use_errno=True)


def main(arguments: list[str]) -> NoReturn:
    """Build the view that the plan names, then run the command in it and end as it ends."""
    plan, command = json.loads(arguments[0]), arguments[2:]
    try:
        build_root(plan)
        drop_capabilities()
    except OSError as error:
        sys.stderr.write(f"jail: {error}\n")
        sys.exit(125)
    sys.exit(supervise(command))


def build_root(plan: dict[str, Any]) -> None:
    """Make the new root of the process: what `plan` lists and nothing else."""
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    _tmpfs(_ROOM, 1 << 20)
    for name in (f"{_ROOM}/new", f"{_ROOM}/old"):
        Path(name).mkdir()
    _tmpfs(f"{_ROOM}/new", 1 << 20)
    _pivot(_ROOM, f"{_ROOM}/old")
    _devices(plan["devices"])
    # Scratch first: an interpreter or a checkout may lie below /tmp, and a later mount would hide it.
    for place in plan["scratch"]:
        Path(f"/new{place}").mkdir(parents=True, exist_ok=True)
        _tmpfs(f"/new{place}", plan["scratch_bytes"])
    for outside, inside in plan["read_only"]:
        _bind(f"/old{outside}", f"/new{inside}", read_only=True)
    _proc()
    _call(_libc.umount2, b"/old", _MNT_DETACH)
    os.chdir("/new")
    _pivot(".", ".")
    _call(_libc.umount2, b".", _MNT_DETACH)
    os.chdir(plan["scratch"][0])
    _read_only("/", recursive=False)


def drop_capabilities() -> None:
    """Leave no capability in any set, for good: root inside is nobody."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_SECUREBITS, _NO_ROOT_LOCKED)
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="ascii"))
    for capability in range(last + 1):
        _prctl(_PR_CAPBSET_DROP, capability)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _syscall(_SYS_CAPSET, header, (ctypes.c_uint32 * 6)())
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def supervise(command: list[str]) -> int:
    """Run the command as a second process and answer its status; the first process of a namespace defies signals."""
    child = os.fork()
    if child == 0:
        os.setsid()
        try:
            os.execv(command[0], command)  # noqa: S606 - the command is a list made by the sandbox
        except OSError as error:
            sys.stderr.write(f"jail: {command[0]}: {error.strerror}\n")
            os._exit(126)
    for descriptor in (0, 1):
        os.close(descriptor)
    return _wait(child)


def _wait(child: int) -> int:
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _devices(nodes: list[str]) -> None:
    Path("/new/dev/shm").mkdir(parents=True)
    for node in (*(f"/dev/{name}" for name in _NODES), *nodes):
        _bind(f"/old{node}", f"/new{node}", read_only=False)


def _proc() -> None:
    Path("/new/proc").mkdir()
    _mount("proc", "/new/proc", "proc", _MS_NOSUID | _MS_NODEV)


def _bind(source: str, target: str, *, read_only: bool) -> None:
    place = Path(target)
    if Path(source).is_dir():
        place.mkdir(parents=True, exist_ok=True)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    _mount(source, target, None, _MS_BIND | _MS_REC)
    if read_only:
        _read_only(target, recursive=True)


def _read_only(target: str, *, recursive: bool) -> None:
    attributes = (ctypes.c_uint64 * 4)(_ATTR_RDONLY_NOSUID_NODEV, 0, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    arguments = (_AT_FDCWD, os.fsencode(target), flags, attributes, ctypes.sizeof(attributes))
    _call(_libc.syscall, _SYS_MOUNT_SETATTR, *arguments)


def _tmpfs(target: str, size_bytes: int) -> None:
    _mount("tmpfs", target, "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={size_bytes},mode=0755")


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    _call(_libc.mount, texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])


def _pivot(new: str, old: str) -> None:
    _syscall(_SYS_PIVOT_ROOT, os.fsencode(new), os.fsencode(old))
    if old != ".":
        os.chdir("/")


def _prctl(option: int, value: int) -> None:
    _call(_libc.prctl, option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))


def _syscall(numbers: dict[str, int], *arguments: Any) -> None:  # noqa: ANN401 - ctypes takes what the call takes
    machine = os.uname().machine
    if machine not in numbers:
        raise OSError(0, f"no isolation by namespaces is written for {machine}")
    _call(_libc.syscall, numbers[machine], *arguments)


def _call(function: Any, *arguments: Any) -> None:  # noqa: ANN401 - ctypes takes what the call takes
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        shown = [argument.decode() for argument in arguments if isinstance(argument, bytes)]
        raise OSError(number, f"{os.strerror(number)} ({' '.join(shown)})")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1:])
