"""Network namespaces, and commands that run in them to be measured as whole processes."""

import ctypes
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1


class Namespace:
    """An empty network namespace that lives as long as this object."""

    def __init__(self):
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            if libc.unshare(CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "unshare: the benchmark makes network namespaces, run it as root")
            self.descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        finally:
            libc.setns(here, 0)
            os.close(here)

    def __del__(self):
        os.close(self.descriptor)

    @property
    def path(self):
        """Names this namespace to another process."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def inside(self, function):
        """What a function returns that runs in here."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            libc.setns(self.descriptor, 0)
            return function()
        finally:
            libc.setns(here, 0)
            os.close(here)

    def start(self, *command, **options):
        def enter():
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            libc.setns(self.descriptor, 0)

        return subprocess.Popen(command, preexec_fn=enter, **options)

    def run(self, *command, text=None):
        """Standard output of a command that may not fail; `text` is its standard input."""
        process = self.start(*command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        output, errors = process.communicate(text)
        if process.returncode != 0:
            sys.exit(f"bench: {' '.join(command)[:200]}: exit {process.returncode}: {errors[:2000]}")
        return output

    def seconds(self, *command):
        """From the start of a command, which may not fail, to its end. Unlike run() and Measured it copies no Python and
        starts nothing between: these take 4 ms."""
        def timed():
            started = time.perf_counter()
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            return time.perf_counter() - started, done

        seconds, done = self.inside(timed)
        if done.returncode != 0:
            sys.exit(f"bench: {' '.join(command)[:200]}: exit {done.returncode}: {done.stderr.decode()[:2000]}")
        return seconds

    def set(self, **values):
        """Kernel settings below net/: __ stands for / in their names."""
        def write():
            for name, value in values.items():
                with open(f"/proc/sys/net/{name.replace('__', '/')}", "w", encoding="ascii") as file:
                    file.write(str(value))

        self.inside(write)


def touch_memory(megabytes):
    """Takes memory and lets it go. A hypervisor takes back what its guest doesn't use; the first touch then costs four
    times as much, for whoever comes next."""
    with mmap.mmap(-1, megabytes << 20) as memory:
        memory[::mmap.PAGESIZE] = bytes(len(memory) // mmap.PAGESIZE)


class Measured:
    """One finished process: seconds, peak memory in MB, standard output.

    The kernel counts what a process was before its exec, too: were the commands Python's own children, none would read
    less than Python. So GNU time starts them, which is small (/bin/true reads 1 MB), ours and the peers' alike.
    """

    def __init__(self, namespace, *command, good=(0,), stdin=None):
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors, \
                tempfile.NamedTemporaryFile("r") as usage:
            started = time.perf_counter()
            process = namespace.start("/usr/bin/time", "--quiet", "--format=%M", "--output=" + usage.name, *command,
                                      stdout=output, stderr=errors, stdin=stdin or subprocess.DEVNULL)
            process.wait()
            self.seconds = time.perf_counter() - started
            output.seek(0)
            self.output = output.read().decode()
            errors.seek(0)
            if process.returncode not in good:
                sys.exit(f"bench: {' '.join(command)[:200]}: exit {process.returncode}: {errors.read().decode()[:2000]}")
            self.megabytes = int(usage.read()) / 1024
