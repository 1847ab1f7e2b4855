#!/usr/bin/python3
"""Runs a command with mounts of its own: what it mounts is never seen outside. Usage: private_mounts.py COMMAND...

As `unshare --mount`, which refuses in a chroot whose root directory is no mount point: the propagation that has to be
switched off is that of a mount above, so it is done from there. In the new namespace this touches nobody else.
"""
import ctypes
import os
import sys

CLONE_NEWNS = 0x00020000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
libc = ctypes.CDLL(None, use_errno=True)


def call(what, result):
    if result != 0:
        code = ctypes.get_errno()
        sys.exit(f"private_mounts: {what}: {os.strerror(code)}")


def climb():
    """To the topmost directory. A process is stopped at its root only while it stands below it."""
    while not os.path.samefile(".", ".."):
        os.chdir("..")


def enter():
    """Gives the calling process mounts of its own."""
    call("new mount namespace", libc.unshare(CLONE_NEWNS))
    root, here = os.open("/", os.O_RDONLY), os.open(".", os.O_RDONLY)
    os.chroot("/proc")  # any directory: the process stands above it then
    os.fchdir(root)
    climb()
    os.chroot(".")
    call("private propagation", libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    os.fchdir(root)
    os.chroot(".")
    os.fchdir(here)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__.splitlines()[0])
    enter()
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
