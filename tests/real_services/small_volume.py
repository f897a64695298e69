"""A volume of a few megabytes that can be filled and freed: a tmpfs of its own, which is gone when we are, however we end.

The mount is held by a small shell that waits for the end of its input, which is ours to close, and which the kernel closes when we
die; then it unmounts. The mount is detached even while somebody still has a file open in it, so nothing keeps it alive.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

_HOLD = 'mount -t tmpfs -o "size=$1,mode=0711" depotgrid-test "$2" && echo mounted && cat >/dev/null; umount -l "$2"'
_CHUNK = bytes(64 * 1024)


class NoVolumeError(RuntimeError):
    """No file system can be mounted here; the text says why."""


class SmallVolume:
    """A mounted folder of `size_bytes`, as a context. `ballast` is a file in it that takes the room of others."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.folder = folder
        self._size_bytes = size_bytes
        self._holder: subprocess.Popen[bytes] | None = None
        self._ballast = folder / "ballast"

    def __enter__(self) -> Self:
        """Mount it; NoVolumeError where that is not permitted or not possible."""
        if not sys.platform.startswith("linux") or os.geteuid() != 0 or shutil.which("mount") is None:
            raise NoVolumeError("mounting a small volume takes Linux and root")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._holder = subprocess.Popen(
            ("/bin/sh", "-c", _HOLD, "sh", str(self._size_bytes), str(self.folder)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"mounted\n":
            _, said = self._holder.communicate()
            reason = (said.decode().splitlines() or ["mount says nothing"])[0]
            raise NoVolumeError(f"mounting a small volume is not permitted here: {reason}")
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        assert self._holder is not None
        self._holder.communicate(timeout=30)
        assert not self.folder.is_mount(), f"{self.folder} is still mounted"

    @property
    def free_bytes(self) -> int:
        """What can still be written."""
        return shutil.disk_usage(self.folder).free

    def leave_free(self, free_bytes: int) -> None:
        """Let the ballast take everything but this much; it never gives anything back."""
        with self._ballast.open("ab", buffering=0) as ballast:
            while (excess := self.free_bytes - free_bytes) > 0:
                try:
                    ballast.write(_CHUNK[:excess])
                except OSError:  # others write, too
                    return

    def throw_ballast_off(self) -> None:
        """Give everything back that the ballast took."""
        self._ballast.unlink(missing_ok=True)
