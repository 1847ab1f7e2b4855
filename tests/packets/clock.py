"""A time of day for the program under test that a test sets back and forth; the machine's clock is never touched.

    clock = Clock(directory)
    subprocess.run(..., env=os.environ | clock.environment)
    clock.ahead = -300

The library stepped_clock.cpp is named by the environment: STEPPED_CLOCK_LIBRARY.
"""

import os
import struct
import time


class Clock:
    def __init__(self, directory):
        library = os.environ.get("STEPPED_CLOCK_LIBRARY", "")
        if not os.path.exists(library):
            raise RuntimeError("set STEPPED_CLOCK_LIBRARY to the path of libstepped_clock.so")
        self.path = os.path.join(directory, "clock")
        self.environment = {"LD_PRELOAD": library, "STEPPED_CLOCK": self.path}
        with open(self.path, "wb") as file:
            file.write(struct.pack("=q", 0))

    @property
    def ahead(self):
        """Seconds that the program's clock is ahead of the machine's."""
        with open(self.path, "rb") as file:
            return struct.unpack("=q", file.read())[0]

    @ahead.setter
    def ahead(self, seconds):
        with open(self.path, "r+b", buffering=0) as file:
            file.write(struct.pack("=q", seconds))

    def now(self):
        return time.time() + self.ahead
