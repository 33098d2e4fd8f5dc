"""What a reader verified before, where it may not write it down: on a share that one account writes, others only read.

They work on a private copy of the account's state, which goes with them. So an artist sees no older repository than the
account saw, and leaves nothing behind.
"""

import errno
import os
import shutil
import tempfile
from pathlib import Path

from changeover_registry._fs import make_dirs

__all__ = ["private_copy"]

_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS}


def private_copy(state: Path) -> Path | None:
    """A copy of a state that this user may only read, to be removed by the caller; None where it may be written.

    Raises:
        OSError: The state cannot even be read, or there is no room for the copy.
    """
    try:
        make_dirs(state)
    except OSError as error:
        if error.errno not in _NOT_OURS:
            raise
    if state.is_dir() and os.access(state, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        return None
    copy = Path(tempfile.mkdtemp(prefix="changeover-"))
    try:
        for path in (*state.glob("*.json"), *state.glob("root_history/*.json")):
            target = copy / path.relative_to(state)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    except BaseException:
        shutil.rmtree(copy, ignore_errors=True)
        raise
    return copy
