#!/usr/bin/python3
"""The examples of README.md and docs/*.md, run in order as a reader would, each page on a router of its own: private
network, mounts and processes, the real kernel and a real database.

Usage: readme_test.py; SMTPFENCE names the executable. What becomes of a block, by the word behind its opening fence:

  sh, python    run, one after the other, in one working directory; a failure fails the page
  sql           read by sqlite3 from the page's database, which it can't write
  jsonl, csv    saved as records.jsonl and records.csv for the blocks behind it
  toml          a configuration that `smtpfence check` must take
  text          what the block before it prints: each line is one of its lines, "…" stands for anything
  (none)        for people: what needs systemd, apt or another machine
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), ".."))
PROGRAM = os.path.realpath(os.environ.get("SMTPFENCE", os.path.join(ROOT, "build/release/smtpfence")))
PAGES = ["README.md", *(f"docs/{name}" for name in sorted(os.listdir(f"{ROOT}/docs")) if name.endswith(".md"))]
DATABASE = "/var/lib/smtpfence/subscribers.db"
PATIENCE = 300

# /etc and /var/lib become copies that end with the namespace, so that the examples may use the real paths.
PRIVATE = """
set -eu
mount -t proc proc /proc
cp -a /etc "$1/etc"
mount --bind "$1/etc" /etc
mkdir "$1/lib"
mount --bind "$1/lib" /var/lib
rm -rf /etc/smtpfence
mkdir /etc/smtpfence
cp "$2/packaging/smtpfence.toml" /etc/smtpfence/config.toml
ip link set lo up
ip link add bng0 address 02:00:00:00:00:19 type veth peer name home
ip link add up0 type veth peer name sink
for port in bng0 home up0 sink; do ip link set "$port" up; done
ip address add 100.64.0.1/16 dev bng0
ip route add default dev up0
echo 1 >/proc/sys/net/ipv4/ip_forward
cd "$1"
/usr/bin/python3 bot.py &
exec bash -euo pipefail "$1/page.sh"
"""

# A line that tries port 25 of somebody else's server, five times a second.
BOT = """
import socket, struct, time
def added(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return struct.pack("!H", ~total & 0xffff)
ends = socket.inet_aton("100.64.9.1") + socket.inet_aton("198.51.100.25")
tcp = struct.pack("!HHIIBBHHH", 40000, 25, 1, 0, 5 << 4, 2, 65535, 0, 0)
tcp = tcp[:16] + added(ends + struct.pack("!HH", 6, len(tcp)) + tcp) + tcp[18:]
header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0) + ends
header = header[:10] + added(header) + header[12:]
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as line:
    line.bind(("home", 0x0800))
    while True:
        line.send(bytes.fromhex("020000000019") + bytes(6) + b"\\x08\\x00" + header + tcp)
        time.sleep(0.2)
"""


def blocks_of(page):
    """(language, text) of each fenced block."""
    with open(os.path.join(ROOT, page), encoding="utf-8") as file:
        return re.findall(r"^```(\w*)\n(.*?)^```$", file.read(), re.MULTILINE | re.DOTALL)


def pattern_of(line):
    parts = (r"\s+".join(re.escape(word) for word in part.split()) for part in line.split("…"))
    return re.compile(r"\s*" + ".*".join(parts) + r"\s*")


class Page:
    """A page's blocks as one script, and where each of them prints."""

    def __init__(self, page, folder):
        self.folder, self.lines, self.expected = folder, [], []
        last = None
        for number, (language, text) in enumerate(blocks_of(page)):
            if language == "text":
                assert last is not None, f"{page}: nothing is run before the text {text!r}"
                self.expected.append((last, text))
            elif language:
                last = number
                self.lines += [f"echo @@{number}", self.command(language, number, text)]

    def command(self, language, number, text):
        if language == "sh":
            return text
        name = f"records.{language}" if language in ("jsonl", "csv") else f"block{number}.{language}"
        with open(os.path.join(self.folder, name), "w" if name.startswith("block") else "a", encoding="utf-8") as file:
            file.write(f'database = "sqlite:{DATABASE}"\n' + text if language == "toml" else text)
        return {"python": f"/usr/bin/python3 {name}", "sql": f"sqlite3 -readonly {DATABASE} <{name}", "jsonl": "", "csv": "",
                "toml": f"smtpfence --config {name} check"}[language]

    def script(self):
        return "set -x\n" + "\n".join(self.lines) + "\n"


class Pages(unittest.TestCase):
    def run_page(self, page):
        """What each block printed, by its number."""
        folder = tempfile.mkdtemp(prefix="smtpfence-readme-")
        self.addCleanup(shutil.rmtree, folder)
        os.mkdir(f"{folder}/bin")
        os.symlink(PROGRAM, f"{folder}/bin/smtpfence")
        blocks = Page(page, folder)
        for name, text in (("page.sh", blocks.script()), ("bot.py", BOT)):
            with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
                file.write(text)
        environment = {"PATH": f"{folder}/bin:{os.environ['PATH']}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8", "HOME": folder}
        private = [f"{ROOT}/packaging/private_mounts.py", "unshare", "--net", "--pid", "--fork", "--kill-child"]
        done = subprocess.run([*private, "bash", "-c", PRIVATE, "bash", folder, ROOT], env=environment, text=True, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE)
        sys.stderr.write(done.stdout)
        self.assertEqual(done.returncode, 0, f"an example of {page} failed; the last command shown is it")
        printed = dict(re.findall(r"^@@(\d+)\n(.*?)(?=^@@\d+\n|\Z)", done.stdout, re.MULTILINE | re.DOTALL))
        missing = [f"{line}\n  among:\n{printed[str(number)]}" for number, text in blocks.expected for line in text.splitlines()
                   if line.strip() and not any(map(pattern_of(line).fullmatch, printed[str(number)].split("\n")))]
        self.assertEqual(missing, [], f"{page} says that this is printed:\n" + "\n".join(missing))
        return done.stdout

    def test_readme(self):
        printed = self.run_page("README.md")
        self.assertGreaterEqual(len(blocks_of("README.md")), 5, "README.md lost its examples")
        self.assertIn("table inet smtpfence", printed)
        self.assertIn("100.64.3.7", printed)

    def test_support(self):
        self.run_page("docs/support.md")

    def test_provisioning(self):
        self.run_page("docs/provisioning.md")

    def test_operations(self):
        self.run_page("docs/operations.md")

    def test_every_page_is_run(self):
        named = [f"docs/{name.removeprefix('test_')}.md" for name in dir(self) if hasattr(Pages, name) and name.startswith("test_")]
        self.assertEqual([page for page in PAGES[1:] if page not in named], [])

    def test_links_lead_somewhere(self):
        """To a file beside the page, and to a heading in it."""
        for page in (*PAGES, "ARCHITECTURE.md"):
            with open(os.path.join(ROOT, page), encoding="utf-8") as file:
                text = file.read()
            for target in re.findall(r"\]\((?!https?://)([^)]+)\)", text):
                path, _, anchor = target.partition("#")
                path = os.path.normpath(os.path.join(ROOT, os.path.dirname(page), path)) if path else os.path.join(ROOT, page)
                with self.subTest(page=page, target=target):
                    self.assertTrue(os.path.exists(path))
                    if anchor:
                        with open(path, encoding="utf-8") as file:
                            headings = re.findall(r"^#+ (.*)$", file.read(), re.MULTILINE)
                        self.assertIn(anchor, [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings])


if __name__ == "__main__":
    unittest.main()
