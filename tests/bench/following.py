"""Following: many changes in one import, verification, imports."""

import signal
import time

from generation import generation
from namespaces import Measured, Namespace
from router import PATIENCE, Router


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


def imports(table, folder, rows):
    """Assignments from JSON lines into an empty database, beside the sqlite3 shell's own import of the same rows."""
    router = Router(f"{folder}/import", 0, 0)
    records, values = f"{folder}/import.jsonl", f"{folder}/import.csv"
    with open(records, "w", encoding="utf-8") as out, open(values, "w", encoding="utf-8") as plain:
        for number in range(rows):
            address = f"{20 + number // 16777216}.{number // 65536 % 256}.{number // 256 % 256}.{number % 256}"
            out.write(f'{{"op":"assign","customer":"line{number}","prefix":"{address}"}}\n')
            plain.write(f"line{number},{number}\n")
    ours = router.imported(records)
    shell = sqlite_import(folder, values)
    table.add(f"import of {rows:,} assignments", "rows/s", 0, rows / ours.seconds, peer="sqlite3 .import",
              theirs=rows / shell, goal="half", how="JSON lines; the shell's rows take the same two tables and indexes")
    table.add(f"import of {rows:,} assignments, peak memory", "MB", 0, ours.megabytes, how="GNU time")


def sqlite_import(folder, values):
    """Seconds in which the shell puts the same customers and assignments into a database of the same schema, without
    the change log. Its import makes text, so it goes through a table in memory into the typed ones."""
    router = Router(f"{folder}/shell", 0, 0)
    path = f"{folder}/shell.sql"
    with open(path, "w", encoding="utf-8") as out:
        out.write(".bail on\nPRAGMA foreign_keys = ON;\nCREATE TEMP TABLE line (customer TEXT, number INTEGER);\n"
                  f".mode csv\n.import {values} line\nBEGIN;\nINSERT INTO customer SELECT customer, 0 FROM line;\n"
                  "INSERT INTO assignment SELECT CAST(printf('%05x', number) AS BLOB), 32, customer, 0, NULL, 'import' "
                  "FROM line;\nCOMMIT;\n")
    with open(path, "rb") as lines:
        return Measured(Namespace(), "sqlite3", router.file, stdin=lines).seconds
