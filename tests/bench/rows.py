"""The table of results: printed as it grows, kept for JSON and for the plots."""

import datetime
import json
import os
import platform
import statistics
import subprocess


def machine():
    """On what all of this is measured."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    with open("/proc/meminfo", encoding="utf-8") as file:
        gigabytes = int(file.readline().split()[1]) / 1024 / 1024
    versions = {name: subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout.split(",")[0]
                for name in ("nft", "ipset")}
    return {"date": str(datetime.date.today()), "cpu": model, "cores": os.cpu_count(), "memory_gb": round(gigabytes),
            "kernel": platform.release(), "nft": versions["nft"].split(" (")[0], "ipset": versions["ipset"],
            "load_at_start": round(os.getloadavg()[0], 1)}


def percentile(samples, percent):
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def shown(value):
    """A number with three digits that matter."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


class Table:
    """Rows of one run. Values of a row are medians unless its name says otherwise."""

    def __init__(self):
        self.rows = []

    def begin(self):
        print("| what | N | smtpfence | peer | ours : peer | goal | how |\n| --- | --- | --- | --- | --- | --- | --- |",
              flush=True)

    def add(self, what, unit, size, ours, *, peer=None, theirs=None, alike=True, goal="", how="", spread=None):
        """`ours` and `theirs` in `unit`; `spread`: least and greatest of ours; `size`: the number of exemptions; a
        ratio only of what is `alike`."""
        ratio = ours / theirs if alike and theirs and ours is not None else None
        self.rows.append({"what": what, "unit": unit, "exemptions": size, "ours": ours, "spread": spread, "peer": peer,
                          "theirs": theirs, "ratio": ratio, "goal": goal, "how": how})
        mine = shown(ours) + (f" ({shown(spread[0])} to {shown(spread[1])})" if spread else "")
        their = f"{peer} {shown(theirs)}" if peer else ""
        print(f"| {what}, {unit} | {size:,} | {mine} | {their} | {shown(ratio)} | {goal} | {how} |", flush=True)

    def samples(self, what, unit, size, ours, **more):
        """A row of the median and the range of several measurements."""
        self.add(what, unit, size, statistics.median(ours), spread=(min(ours), max(ours)), **more)

    def series(self, what, column="ours", peer=None):
        """Points of a curve: (exemptions, value), in order."""
        return sorted((row["exemptions"], row[column]) for row in self.rows
                      if row["what"] == what and (peer is None or row["peer"] == peer) and row[column] is not None)

    def write(self, path, facts):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as out:
            json.dump({"version": 1, **facts, "rows": self.rows}, out, indent=1)
            out.write("\n")
