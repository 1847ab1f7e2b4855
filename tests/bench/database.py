"""The database at size: bulk import beside the sqlite3 shell's own, export, and the commands that support staff wait for.

Seconds are those of whole processes.

The shell's .import gets exactly the rows that our import writes (customers, assignments, their change log) into the same
tables with the same indexes, in the same order. It reads text only, and an empty field is no NULL to it. So its schema is
ours with TEXT for BLOB, not STRICT, its partial indexes leave out '' instead of NULL, and a prefix is five ASCII characters,
as many as the bytes of an IPv4 key and in the same order.
"""
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

from router import PROGRAM

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
FIELD, RECORD = "\x1f", "\x1e"  # the separators of .mode ascii
COMMAND_TURNS = 10


class Timed:
    """A finished process: seconds until its first output and until its end, CPU seconds, peak memory in MB, and its output
    unless that went to a file. GNU time starts it, which is small: the kernel counts what a process was before its exec."""

    def __init__(self, *command, text=None, to=None):
        with tempfile.NamedTemporaryFile("r") as usage, tempfile.TemporaryFile("w+") as errors:
            started = time.perf_counter()
            process = subprocess.Popen(["/usr/bin/time", "--quiet", "--format=%M %U %S", "--output=" + usage.name, *command],
                                       stdin=subprocess.PIPE if text else subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=errors)
            if text:
                process.stdin.write(text.encode())
                process.stdin.close()
            first = process.stdout.read(1)
            self.first = time.perf_counter() - started
            self.bytes = len(first)
            self.output = first
            while part := process.stdout.read(1 << 20):
                self.bytes += len(part)
                if to is None:
                    self.output += part
            process.wait()
            self.seconds = time.perf_counter() - started
            if process.returncode != 0:
                errors.seek(0)
                sys.exit(f"bench: {' '.join(command)[:200]}: exit {process.returncode}: {errors.read()[:2000]}")
            memory, user, system = usage.read().split()
            self.megabytes, self.cpu = int(memory) / 1024, float(user) + float(system)


def address(number):
    return f"{20 + (number >> 24)}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def key(number):
    return "4" + "".join(DIGITS[number >> shift & 63] for shift in (18, 12, 6, 0))


def customer(number):
    return f"c{number:08d}"


def write_files(folder, rows):
    """The same assignments as JSON lines for us and as tables for the shell."""
    with open(f"{folder}/records.jsonl", "w", encoding="utf-8") as records, \
            open(f"{folder}/customer", "w", encoding="utf-8") as customers, \
            open(f"{folder}/assignment", "w", encoding="utf-8") as assignments, \
            open(f"{folder}/change", "w", encoding="utf-8") as changes:
        for number in range(rows):
            who, prefix = customer(number), address(number)
            records.write(f'{{"op":"assign","customer":"{who}","prefix":"{prefix}"}}\n')
            customers.write(f"{who}{FIELD}1800000000{RECORD}")
            assignments.write(FIELD.join((key(number), "32", who, "1800000000", "", "import")) + RECORD)
            known = f'{{"customer":"{who}","since":"2027-01-15T08:00:00Z","source":"import"}}'
            held = f'{{"customer":"{who}","prefix":"{prefix}/32","source":"import"}}'
            changes.write(FIELD.join(("1", str(2 * number + 1), "customer", who, "", "", "", known)) + RECORD)
            changes.write(FIELD.join(("1", str(2 * number + 2), "assignment", who, key(number), "32", "", held)) + RECORD)


def shell_schema(file):
    """Our schema as the shell's .import can fill it."""
    schema = subprocess.run(["sqlite3", file, ".schema --nosys"], capture_output=True, text=True, check=True).stdout
    schema = re.sub(r"\bBLOB\b", "TEXT", schema)
    schema = schema.replace("STRICT, WITHOUT ROWID", "WITHOUT ROWID").replace(") STRICT;", ");")
    return re.sub(r"WHERE (\w+) IS NOT NULL", r"WHERE \1 <> ''", schema)


def shell_import(folder, schema, tables):
    """The shell's .import of some of the tables into a new file."""
    path = f"{folder}/shell.db"
    for end in ("", "-wal", "-shm"):
        if os.path.exists(path + end):
            os.unlink(path + end)
    subprocess.run(["sqlite3", "-bail", path], input=f"PRAGMA journal_mode = WAL;\n{schema}", text=True, check=True,
                   stdout=subprocess.DEVNULL)
    script = ".bail on\nPRAGMA journal_mode = WAL;\n.mode ascii\n"
    return Timed("sqlite3", path, text=script + "".join(f".import {folder}/{table} {table}\n" for table in tables))


def imports(table, folder, rows):
    """Ours, then the shell with all of our rows, then without the change log."""
    file = f"{folder}/ours.db"
    run = [PROGRAM, "--database", "sqlite:" + file]
    Timed(*run, "init")
    schema = shell_schema(file)
    ours = Timed(*run, "import", f"{folder}/records.jsonl", "--format", "jsonl")
    whole = shell_import(folder, schema, ("customer", "assignment", "change"))
    check_same(file, f"{folder}/shell.db")
    bare = shell_import(folder, schema, ("customer", "assignment"))
    size = os.path.getsize(file)
    what = f"import of {rows:,} assignments"
    table.add(what, "rows/s", 0, rows / ours.seconds, peer="sqlite3 .import of the same rows", theirs=rows / whole.seconds,
              goal="half", how="whole processes, JSON lines against .mode ascii; the same tables, indexes and change log")
    table.add(what, "rows per CPU s", 0, rows / ours.cpu, peer="sqlite3 .import of the same rows", theirs=rows / whole.cpu,
              goal="half", how="user and system time of the same runs")
    table.add(what, "rows per CPU s", 0, rows / ours.cpu, peer="sqlite3 .import without change log",
              theirs=rows / bare.cpu, how="customers and assignments alone: no audit trail")
    table.add(what + ", peak memory", "MB", 0, ours.megabytes, peer="sqlite3 .import", theirs=whole.megabytes, how="GNU time")
    table.add(what + ", file size for each", "bytes", 0, size / rows, how="customer, assignment, two audit rows, indexes")
    return run


def check_same(ours, theirs):
    """Both imports wrote the same number of rows."""
    count = "SELECT (SELECT count(*) FROM customer), (SELECT count(*) FROM assignment), (SELECT count(*) FROM change)"
    counts = [subprocess.run(["sqlite3", path, count], capture_output=True, text=True, check=True).stdout
              for path in (ours, theirs)]
    if counts[0] != counts[1]:
        sys.exit(f"bench: the imports differ: {counts}")


def exports(table, run, rows):
    measured = Timed(*run, "export", "--what", "assignments", to="nowhere")
    table.add(f"export of {rows:,} assignments", "rows/s", 0, rows / measured.seconds, how="JSON lines into a pipe")
    table.add(f"export of {rows:,} assignments, first byte", "ms", 0, 1000 * measured.first, how="from the process's start")
    table.add(f"export of {rows:,} assignments, peak memory", "MB", 0, measured.megabytes, how="GNU time")


def point_commands(table, run, rows):
    """Whole processes on the full database, each for another customer."""
    middle = rows // 2
    Timed(*run, "relay", "add", "203.0.113.10")
    commands = {
        "assign": lambda turn: ("assign", f"new{turn}", f"198.51.100.{turn}"),
        "assign --take": lambda turn: ("assign", f"new{turn}", address(middle + turn), "--take"),
        "explain ADDRESS": lambda turn: ("explain", address(middle + 100 + turn)),
        "customer show": lambda turn: ("customer", "show", customer(middle + 100 + turn)),
        "exempt grant": lambda turn: ("exempt", "grant", customer(middle + 200 + turn), "--reason", "bench", "--no-wait"),
        "exempt list --expiring 30d": lambda turn: ("exempt", "list", "--expiring", "30d"),
        "audit --customer": lambda turn: ("audit", "--customer", customer(middle + 300 + turn)),
        "audit --operator": lambda turn: ("audit", "--operator", f"nobody{turn}"),
        "status": lambda turn: ("status",),
    }
    for name, words in commands.items():
        samples = [1000 * Timed(*run, *words(turn)).seconds for turn in range(COMMAND_TURNS)]
        table.add(f"{name}, {rows:,} assignments", "ms", 0, statistics.median(samples), spread=(min(samples), max(samples)),
                  goal="ms", how=f"whole processes, {COMMAND_TURNS} in turn")


def database(table, folder, rows):
    """`rows` assignments in a database in `folder`, which needs room for 2 kB each."""
    write_files(folder, rows)
    run = imports(table, folder, rows)
    exports(table, run, rows)
    point_commands(table, run, rows)
