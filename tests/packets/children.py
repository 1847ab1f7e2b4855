"""Programs that tests start, and that shall not outlive them, however a test ends."""

import ctypes
import os
import signal

libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1
ALL_CPUS = os.sched_getaffinity(0)


def die_with_parent():
    """For preexec_fn: the program ends when the test does, and may run on every CPU."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.sched_setaffinity(0, ALL_CPUS)
