"""The router: a whole Debian 12, emulated by qemu from the files that tests/vm/image made. What it writes to its disk is
forgotten when it ends. Scripts reach it over a port of its own and not over the network."""

import base64
import shutil
import socket
import subprocess
import time

from children import die_with_parent
from witness import SIDES

# Only what is broken takes so long: the machine is emulated, and this one may be busy.
BOOT_PATIENCE, SCRIPT_PATIENCE = 600, 600


class Machine:
    """`image`, `packages`: folders; files of the second are below /packages in the machine."""

    def __init__(self, image, packages, work):
        self.work, self.number, self.rest, self.boots = work, 0, b"", []
        disk = work / "packages"
        self.make_disk(packages, disk)
        self.process = subprocess.Popen(self.command(image, disk), stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
        self.agent = self.connect(work / "agent")

    @staticmethod
    def make_disk(folder, disk):
        tool = shutil.which("mke2fs", path="/usr/sbin:/sbin") or "mke2fs"
        subprocess.run([tool, "-q", "-t", "ext4", "-d", str(folder), str(disk), "64M"], check=True, stdout=subprocess.DEVNULL)

    def command(self, image, disk):
        def card(name, mac):
            return ("-netdev", f"dgram,id={name},local.type=unix,local.path={self.work}/{name}.machine,"
                               f"remote.type=unix,remote.path={self.work}/{name}.here",
                    "-device", f"virtio-net-pci,netdev={name},mac={mac},romfile=")

        return ("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-m", "1024", "-nodefaults", "-no-user-config",
                "-display", "none", "-kernel", str(image / "vmlinux"), "-initrd", str(image / "initrd"),
                "-append", "root=/dev/vda rw console=ttyS0 quiet no_timer_check mitigations=off random.trust_cpu=on "
                           "systemd.show_status=1 systemd.log_color=0",
                "-chardev", f"file,id=console,path={self.work}/console", "-serial", "chardev:console",
                "-drive", f"file={image}/disk,if=virtio,format=raw,snapshot=on,cache=unsafe",
                "-drive", f"file={disk},if=virtio,format=raw,readonly=on",
                *card("bng0", SIDES["bng0"][0]), *card("inet0", SIDES["inet0"][0]),
                "-device", "virtio-serial", "-chardev", f"socket,id=agent,path={self.work}/agent,server=on,wait=off",
                "-device", "virtserialport,chardev=agent,name=agent")

    def connect(self, path):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                agent.connect(str(path))
                return agent
            except (FileNotFoundError, ConnectionRefusedError):
                agent.close()
                time.sleep(0.05)
        raise RuntimeError(f"qemu does not run: exit {self.process.poll()}")

    def line(self, patience, what):
        deadline = time.monotonic() + patience
        while b"\n" not in self.rest:
            self.agent.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                more = self.agent.recv(1 << 20)
            except TimeoutError:
                more = b""
            if not more:
                raise RuntimeError(f"{what}: no answer from the machine; its console's last words:\n{self.console()}")
            self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode()

    def booted(self):
        """Waits until the machine is up, or up again."""
        started = time.monotonic()
        while True:
            words = self.line(BOOT_PATIENCE, "boot").split()
            if words[0] == "ready" and words[1] not in self.boots:
                self.boots.append(words[1])
                return time.monotonic() - started

    def attempt(self, script):
        """Runs a bash script as root; returns its exit code and both outputs."""
        self.number += 1
        self.agent.settimeout(60)
        self.agent.sendall(f"{self.number} ".encode() + base64.b64encode(script.encode()) + b"\n")
        while True:
            words = self.line(SCRIPT_PATIENCE, script).split()
            if words[0] == str(self.number):
                return int(words[1]), base64.b64decode(words[2] if len(words) > 2 else "").decode(errors="replace")

    def run(self, script):
        code, said = self.attempt(script)
        if code != 0:
            raise AssertionError(f"'{script}' in the machine: exit {code}\n{said}")
        return said.strip()

    def reboot(self):
        """Returns the seconds until it is up again."""
        self.run("systemctl --no-block reboot")
        return self.booted()

    def console(self):
        path = self.work / "console"
        return path.read_text(encoding="utf-8", errors="replace").replace("\r", "")[-4000:] if path.exists() else ""

    def end(self):
        self.process.kill()
        self.process.wait()
        self.agent.close()
