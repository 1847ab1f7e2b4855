"""One change at a time: from the commit to the kernel, and from a command's start to its answer."""

import os
import statistics
import time

from namespaces import Measured, Namespace
from packets import hand_written
from rows import percentile


def toggles(table, router, restore, turns):
    """Beside `nft add element` into a table of one set with as many elements, and `ipset add`."""
    size = router.exemptions
    os.sync()  # a commit would wait behind what the import left to be written
    samples, _ = router.toggled(50, turns, 0.01)
    both = samples["grant"] + samples["revoke"]
    how = f"{turns} transactions 10 ms apart, the kernel asked every 30 us until it has the change"
    table.add("toggle, committed to enforced, p50", "ms", size, statistics.median(both), goal="1", how=how)
    table.add("toggle, committed to enforced, p99", "ms", size, percentile(both, 99), goal="5", how=how)
    for word in ("grant", "revoke"):
        table.samples(f"{word}, committed to enforced", "ms", size, samples[word], how=how)
    peer = Namespace()
    peer.run("nft", "-f", "-", text=hand_written(size))
    with open(restore, "rb") as lines:
        Measured(peer, "ipset", "restore", stdin=lines)
    commands(table, router, peer, turns)


def commands(table, router, peer, turns):
    size, name = router.exemptions, router.exempt_set()
    ours, revokes, nft, ipset, disk = [], [], [], [], []
    for turn in range(turns):
        customer, address = router.spare(100 + turn % 50)
        ours.append(1000 * router.seconds("exempt", "grant", customer, "--reason", "bench"))
        own = ("inet", "shortest", "exempt")
        nft.append(1000 * peer.seconds("nft", "add", "element", *own, f"{{ {address} timeout 365d }}"))
        ipset.append(1000 * peer.seconds("ipset", "add", "exempt", address))
        if turn < 3 and size <= 100_000:
            router.namespace.seconds("nft", "get", "element", "inet", "smtpfence", name, f"{{ {address} }}")
        revokes.append(1000 * router.seconds("exempt", "revoke", customer, "--reason", "bench"))
        peer.seconds("nft", "delete", "element", *own, f"{{ {address} }}")
        peer.seconds("ipset", "del", "exempt", address)
        disk.append(1000 * durable_write(f"{router.folder}/written"))
    how = f"whole processes, {turns} in turn; nft adds to a table of one set"
    for other, theirs in (("nft add element", nft), ("ipset add", ipset)):
        table.samples("grant, command start to answer", "ms", size, ours, peer=other, theirs=statistics.median(theirs),
                      how=how)
    # A command that answers has waited for the disk, at least once; what else delays it delays nft's process as well.
    for word, samples in (("grant", ours), ("revoke", revokes)):
        for other, theirs in (("nft add element", nft), ("a write to the disk, 4 KB and fdatasync(2)", disk)):
            table.add(f"{word}, command start to answer, p99", "ms", size, percentile(samples, 99), peer=other,
                      theirs=percentile(theirs, 99), goal="25", how=how + "; theirs: its p99, as often")
    table.samples("revoke, command start to answer", "ms", size, revokes, how=how)


def durable_write(path):
    """Seconds for 4 KB more in a file, until they are on disk."""
    with open(path, "ab", buffering=0) as file:
        started = time.perf_counter()
        file.write(bytes(4096))
        os.fdatasync(file.fileno())
        return time.perf_counter() - started


def steady(table, router, seconds):
    """RADIUS interim storms: 500 changes a second."""
    before = router.cpu()
    samples, took = router.toggled(2000, 500 * seconds, 0.002)
    share = 100 * (router.cpu() - before) / took
    both = samples["grant"] + samples["revoke"]
    how = f"{len(both):,} transactions in {took:.1f} s, as toggle"
    table.add("500 changes a second: share of a core", "%", router.exemptions, share, goal="20", how=how)
    table.add("500 changes a second: lag, p50", "ms", router.exemptions, statistics.median(both), how=how)
    table.add("500 changes a second: lag, p99", "ms", router.exemptions, percentile(both, 99), goal="100", how=how)
