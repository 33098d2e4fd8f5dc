"""One call that has a whole local file system on the disk, for folders of a thousand small files.

Each fsync waits for a commit of the journal; Linux's ``syncfs`` makes one for all, and reports what could not be
written. It is used on the file systems whose ``syncfs`` is known to wait for data and names, and nowhere else: a file
server behind NFS or FUSE need not hear of it. What others have written there and not yet synced is written too, so it
is for many files alone.
"""

import ctypes
import os
import sys
from pathlib import Path

__all__ = ["sync_file_system"]

_KNOWN = {0xEF53, 0x58465342, 0x9123683E}
"""The magic numbers of ext2 to ext4, XFS and Btrfs, as statfs(2) lists them."""
_STATFS_BYTES = 256
"""More than the kernel's structure, whose first field is the magic number."""


def sync_file_system(folder: Path) -> bool:
    """Have everything on the file system of `folder` on the disk; False, and nothing done, where that is not known.

    Raises:
        OSError: Something could not be written.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        fstatfs, syncfs = libc.fstatfs, libc.syncfs
    except (OSError, AttributeError):
        return False
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        told = ctypes.create_string_buffer(_STATFS_BYTES)
        if fstatfs(handle, told) != 0 or ctypes.c_long.from_buffer(told).value not in _KNOWN:
            return False
        if syncfs(handle) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(handle)
    return True
