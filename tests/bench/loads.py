"""Bulk: the first apply, the service's start and memory, replacing everything; beside nft -f and ipset restore."""

import os
import shutil
import statistics

from generation import Events
from namespaces import Measured, Namespace, touch_memory
from router import exempt_address, set_sizes

NEWSETELEM, NEWRULE, NEWSET, NEWCHAIN = 12, 6, 9, 3


def ipset_file(path, size, name="exempt", shift=0):
    """A set with the same addresses and timeouts (ipset takes 24 days at most)."""
    with open(path, "w", encoding="utf-8") as out:
        out.write(f"create {name} hash:ip family inet hashsize {max(1024, size)} maxelem {max(65536, 2 * size)} "
                  "timeout 2147483\n")
        for number in range(size):
            out.write(f"add {name} {exempt_address(number + shift)}\n")
    return path


def load(measure, size):
    """What a function returns that measures a load of so many exemptions: with memory that is there, and a disk that
    has what was written before."""
    os.sync()
    touch_memory(32 + size // 1000)
    return measure()


def first_apply(table, router, turns):
    """From SQLite to an empty kernel, beside `nft -f` of the same table and `ipset restore` of the same addresses."""
    size = router.exemptions
    script, restore = f"{router.folder}/table.nft", ipset_file(f"{router.folder}/table.ipset", size)
    with open(script, "w", encoding="utf-8") as out:
        out.write(router.run("plan", "--format", "nft", good=(10,)).output)
    ours, nft, ipset = [], [], []
    for _ in range(turns):
        router.namespace, peer, other = Namespace(), Namespace(), Namespace()
        router.forget_state()
        ours.append(load(lambda: router.run("apply"), size))
        nft.append(load(lambda: Measured(peer, "nft", "-f", script), size))
        with open(restore, "rb") as lines:
            ipset.append(load(lambda: Measured(other, "ipset", "restore", stdin=lines), size))
    if size <= 100_000 and set_sizes(router.namespace) != set_sizes(peer):
        raise RuntimeError("ours and nft's table list different numbers of elements")
    seconds = [[run.seconds for run in runs] for runs in (ours, nft, ipset)]
    memory = [statistics.median(run.megabytes for run in runs) for runs in (ours, nft, ipset)]
    for name, at, goal in (("nft -f", 1, "less" if size >= 1_000_000 else ""), ("ipset restore", 2, "")):
        table.samples("first apply", "s", size, seconds[0], peer=name, theirs=statistics.median(seconds[at]), goal=goal,
                      how=f"apply from SQLite into an empty kernel, {turns} times in turn with {name}")
        table.add("first apply, peak memory", "MB", size, memory[0], peer=name, theirs=memory[at],
                  goal="a fifth" if at == 1 and size >= 1_000_000 else "", how="GNU time's maximum resident set")
    return restore


def start(table, router):
    """The service comes to a kernel that is right: what it writes, how long until READY, what it holds in memory.
    Leaves it running."""
    size = router.exemptions
    router.serve()
    router.converge()
    router.stop()
    events = Events(router.namespace)
    seconds = router.serve()
    router.converge()
    router.rest(0)
    written = events.counts()
    events.socket.close()
    table.add("restart with nothing changed: elements, rules, sets, chains written", "number", size,
              sum(written.get(kind, 0) for kind in (NEWSETELEM, NEWRULE, NEWSET, NEWCHAIN)), goal="0",
              how="a listener on the kernel's nftables messages")
    table.add("restart with nothing changed, start to READY", "s", size, seconds,
              goal="under 2" if size >= 1_000_000 else "", how="process start to its READY message")
    now, peak = router.memory()
    table.add("resident memory of the service", "MB", size, now, goal=f"{30 + size * 120 / 1e6:.0f}",
              how="VmRSS when everything was compared")
    table.add("resident memory of the service at its start's peak", "MB", size, peak, how="VmHWM")


def restored_and_swapped(peer, first, other, size):
    """Seconds in which ipset fills a set beside the one in use and swaps them, in an empty namespace."""
    with open(first, "rb") as lines:
        Measured(peer, "ipset", "restore", stdin=lines)
    with open(other, "rb") as lines:
        filled = load(lambda: Measured(peer, "ipset", "restore", stdin=lines), size).seconds
    return filled + Measured(peer, "ipset", "swap", "exempt", "next").seconds


def replace_all(table, router, restore, turns):
    """Every exempt address becomes another one: the difference of a whole set. Before anybody's exemption was revoked,
    which an import doesn't give back. Leaves a router that holds others."""
    size = router.exemptions
    other = ipset_file(f"{router.folder}/other.ipset", size, "next", size)
    before, moved = f"{router.folder}/before.db", f"{router.folder}/moved.db"
    shutil.copy(router.file, before)
    router.imported(router.records(size, shift=size), "--mode", "replace", "--source", "import", "--confirm")
    os.link(router.file, moved)
    ours, ipset = [], []
    for turn in range(turns):
        if turn > 0:
            peer = None
            router.namespace = Namespace()
            router.forget_state()
            router.use(before)
            router.run("apply")
            router.use(moved)
        peer = Namespace()  # which nobody clears away beside ours
        ipset.append(restored_and_swapped(peer, restore, other, size))
        ours.append(load(lambda: router.run("apply", "--confirm"), size).seconds)
        router.asked(shift=size)
    table.samples("replace all", "s", size, ours, peer="ipset restore and swap", theirs=statistics.median(ipset),
                  goal="less" if size >= 1_000_000 else "",
                  how=f"apply of a database in which everybody has moved, {turns} times in turn with ipset: reads the "
                  "kernel, compares, changes")
