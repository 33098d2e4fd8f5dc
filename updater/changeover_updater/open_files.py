"""Whether any process of this host has a file of a folder open or mapped: asked of the kernel, which knows.

Linux grants a write lease on a file only while nobody else has it open or mapped, so asking for one, and giving it
back, answers. It is granted to the file's owner alone and on local disks: elsewhere nobody can tell, and leases and
retention must do. Left out: hosts that read the same share.
"""

import errno
import os
import signal
import stat
import sys
from pathlib import Path

__all__ = ["is_open"]


def is_open(folder: Path) -> bool | None:
    """Whether a process of this host uses a file below `folder`; None where that cannot be told of each of them.

    Raises:
        OSError: The folder cannot be read.
    """
    answers = {_file_is_open(path) for path in sorted(folder.rglob("*")) if stat.S_ISREG(path.lstat().st_mode)}
    return True if True in answers else None if None in answers else False


def _file_is_open(path: Path) -> bool | None:
    if sys.platform != "linux":
        return None
    import fcntl  # The module exists on POSIX alone.

    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        # Who opens the file while this holds the lease has us be signalled; SIGIO, the default, would end us.
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return True if error.errno in {errno.EAGAIN, errno.EBUSY} else None
    finally:
        os.close(handle)
    return False
