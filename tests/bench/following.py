"""Following: many changes in one import, and verification."""

import concurrent.futures
import signal
import time

from generation import generation
from namespaces import Measured
from router import revisions

VERIFY = 60  # seconds: follow.verify by default


def burst(table, router, changes):
    """One import exempts and revokes: how long until the kernel has all of it, in how many of its transactions."""
    size = router.exemptions
    path = f"{router.folder}/burst.jsonl"
    with open(path, "w", encoding="utf-8") as out:
        for number in range(changes):
            out.write(f'{{"op":"revoke","customer":"customer{number}","reason":"burst"}}\n')
    router.converge()
    before, used = generation(router.namespace), router.cpu()
    with router.reader() as database:
        written, _ = revisions(database)
    with concurrent.futures.ThreadPoolExecutor(1) as beside:  # a commit is seen long before its process ends
        lag = beside.submit(router.follows, written)
        took = router.imported(path).seconds
    how = f"one import of revocations ({took:.1f} s as a process); both seen by a connection that asks every ms"
    table.add(f"burst of {changes:,} changes: seen in the database to reported as enforced", "s", size, lag.result(),
              how=how)
    table.add(f"burst of {changes:,} changes: kernel transactions", "number", size,
              generation(router.namespace) - before, goal="few", how="the kernel's generation before and after")
    table.add(f"burst of {changes:,} changes: the service's CPU", "s", size, router.cpu() - used, how="utime + stime")


def idle(table, router, quick):
    """Nothing happens but what the service does by itself: in each period it asks for every exemption by its key."""
    size, seconds = router.exemptions, 2 if quick else VERIFY
    if not quick:
        router.still(time.perf_counter() + 4 * VERIFY)
    before, started = router.cpu(), time.perf_counter()
    time.sleep(seconds)
    if not quick:  # what began meanwhile takes longer than a period on a slow machine, and the next one is left out then
        router.still(started + 4 * VERIFY)
    used, took = router.cpu() - before, time.perf_counter() - started
    table.add("nothing happens: share of a core", "%", size, 100 * used / took, goal="5",
              how=f"{took:.0f} s, verifying in the background as configured by default")
    if quick:
        return
    table.add("verification of the kernel, by key", "CPU s", size, used, peer="the same questions by raw netlink",
              theirs=router.asked(), goal="1" if size >= 1_000_000 else "",
              how=f"the service's CPU seconds in one period of verification, {took:.0f} s, in steps of 10 ms; theirs decodes no "
                  "answer")


def verification(table, router):
    """The service compares what it gave to the kernel with the whole database; nft lists what the kernel holds."""
    size = router.exemptions
    router.converge()
    before = router.cpu()
    router.service.send_signal(signal.SIGHUP)
    used = router.rest(before)
    theirs = Measured(router.namespace, "/bin/sh", "-c", "nft list table inet smtpfence > /dev/null")
    table.add("what the kernel was given, compared with the whole database", "CPU s", size, used, peer="nft list",
              theirs=theirs.seconds, alike=False, goal="1" if size >= 1_000_000 else "",
              how="the service's CPU seconds after SIGHUP, in steps of 10 ms; nft's whole time, for other work")
