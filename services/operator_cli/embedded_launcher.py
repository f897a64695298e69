"""Become another program whose life is tied to ours: run as a script, never imported by the rest.

Usage: embedded_launcher.py PARENT_PID SIGNAL UID GID PROGRAM [ARGUMENT…], UID and GID empty to stay who we are.

The order matters. The kernel forgets the parent-death signal when a process changes its user, so the user changes first. The parent
may die before the signal is armed, so its pid is compared afterwards. The program replaces this process, which keeps its pid: the
starter's handle is the handle of the program itself. Where the kernel has no such signal (macOS), only the user changes.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def _become(arguments: list[str]) -> None:
    parent_pid, death_signal, uid, gid, *command = arguments
    # Loaded before the user changes: the interpreter may live where only the present user can read.
    prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform.startswith("linux") else None
    if uid:
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if prctl is not None and prctl(_PR_SET_PDEATHSIG, int(death_signal)) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != int(parent_pid):
        sys.exit("the starter died while its service was being started")
    os.execv(command[0], command)  # noqa: S606 - the starter chose the program; there is no shell on purpose


if __name__ == "__main__":
    _become(sys.argv[1:])
