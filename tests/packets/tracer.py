"""strace on a running service, which does something at chosen system calls.

    with Tracer(service, "sendto:error=ENOBUFS:when=2"):
        ...
"""

import subprocess

from children import die_with_parent
from network import FRAME_PATIENCE


class Tracer:
    """Traces until the block ends; each injection is a word for strace's -e inject. `log` is told of each call."""

    def __init__(self, service, *injections, log="/dev/null"):
        self.process = subprocess.Popen(
            ["strace", "-f", "-o", log, "-p", str(service.process.pid),
             *[word for injection in injections for word in ("-e", f"inject={injection}")]],
            stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
        line = self.process.stderr.readline()
        if "attached" not in line:
            raise RuntimeError(f"strace: {line}{self.process.stderr.read()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:  # strace 6.1 waits for ever for a process with threads that dies while it detaches
            self.process.communicate(timeout=FRAME_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
