"""Following: many changes in one import, and verification."""

import signal
import time

from generation import generation
from namespaces import Measured
from router import PATIENCE


def burst(table, router, changes):
    """One import exempts and revokes: how long until the kernel has all of it, in how many of its transactions."""
    size = router.exemptions
    path = f"{router.folder}/burst.jsonl"
    with open(path, "w", encoding="utf-8") as out:
        for number in range(changes):
            out.write(f'{{"op":"revoke","customer":"customer{number}","reason":"burst"}}\n')
    router.converge()
    before, used = generation(router.namespace), router.cpu()
    took = router.imported(path).seconds
    lag = router.converge()
    how = f"one import of revocations ({took:.1f} s); its end to the service's report"
    table.add(f"burst of {changes:,} changes: import's end to enforced", "s", size, lag, how=how)
    table.add(f"burst of {changes:,} changes: kernel transactions", "number", size,
              generation(router.namespace) - before, goal="few", how="the kernel's generation before and after")
    table.add(f"burst of {changes:,} changes: the service's CPU", "s", size, router.cpu() - used, how="utime + stime")


def verification(table, router):
    """The service compares everything that the kernel holds; nft reads it all."""
    size = router.exemptions
    router.converge()
    before = router.cpu()
    router.service.send_signal(signal.SIGHUP)
    started = time.perf_counter()
    last, since = before, started
    # The comparison is over when the service has been idle for a second.
    while time.perf_counter() - since < 1 or last == before:
        if time.perf_counter() - started > min(PATIENCE, 20 + size / 10_000):
            break
        time.sleep(0.1)
        if router.cpu() != last:
            last, since = router.cpu(), time.perf_counter()
    theirs = Measured(router.namespace, "/bin/sh", "-c", "nft list table inet smtpfence > /dev/null")
    table.add("verification", "CPU s", size, last - before, peer="nft list", theirs=theirs.seconds,
              goal="1" if size >= 1_000_000 else "",
              how="the service's CPU seconds after SIGHUP, in steps of 10 ms; nft's whole time")

