#!/usr/bin/python3
"""Records corpus/netlink anew: what this machine's kernel dumps of the table that SMTPFENCE applies, and tells of its
commits.

usage: SMTPFENCE=build/release/smtpfence unshare --net tests/fuzz/record_netlink.py
"""

import os
import pathlib
import socket
import struct
import subprocess
import tempfile

CORPUS = pathlib.Path(__file__).parent / "corpus" / "netlink"
NETFILTER, NFT, INET, REQUEST, DUMP, DONE, NFTABLES_GROUP = 12, 10, 1, 1, 0x300, 3, 7
GET_TABLE, GET_CHAIN, GET_RULE, GET_SET, GET_ELEMENTS = 1, 4, 7, 10, 13
MOST = 3000  # bytes of a seed

COMMANDS = ("init", "relay add 203.0.113.0/28 2001:db8:25::/64", "pool add 100.64.0.0/10 2001:db8:1000::/36",
            "pool add 100.65.0.0/16 --action reject", "pool add 0.0.0.0/1 --action observe",
            "assign c1 100.64.3.7 2001:db8:1000:700::/56", "assign c2 100.64.7.8/30",
            "exempt grant c1 --reason x --no-wait", "exempt grant c2 --reason x --for 2w --no-wait", "apply")


def attribute(kind, text):
    value = text.encode() + b"\0"
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def dump(kind, body=b""):
    """The messages of an answer, one after the other, each with its padding."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as kernel:
        request = struct.pack("=BBH", INET, 0, 0) + body
        kernel.send(struct.pack("=IHHII", 16 + len(request), NFT << 8 | kind, REQUEST | DUMP, 1, 0) + request)
        messages = []
        while True:
            data = kernel.recv(1 << 20)
            while data:
                size, answer = struct.unpack_from("=IH", data)
                if answer == DONE:
                    return messages
                messages.append(data[:size + -size % 4])
                data = data[size + -size % 4:]


def heard(listener):
    """The messages that wait, as dump() gives them."""
    messages = []
    while True:
        try:
            data = listener.recv(1 << 20, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return messages
        while data:
            size, = struct.unpack_from("=I", data)
            messages.append(data[:size + -size % 4])
            data = data[size + -size % 4:]


def keep(name, messages):
    seed = b""
    for message in messages:
        if seed and len(seed) + len(message) > MOST:
            break
        seed += message
    (CORPUS / name).write_bytes(seed)


def main():
    with tempfile.TemporaryDirectory() as folder:
        configuration = pathlib.Path(folder, "config.toml")
        configuration.write_text(f'database = "sqlite:{folder}/x.db"\nstate_directory = "{folder}"\n'
                                 '[interfaces]\nsubscriber = ["bng0", "vlan*"]\n', encoding="ascii")
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER) as listener:
            for command in COMMANDS:
                if command == "apply":
                    listener.bind((0, 1 << NFTABLES_GROUP - 1))
                subprocess.run([os.environ["SMTPFENCE"], "--config", str(configuration), *command.split()], check=True)
            told = heard(listener)
    CORPUS.mkdir(parents=True, exist_ok=True)
    # The beginning, which makes the table, and the end of the last commit, with a rule before it.
    keep("told_first", told)
    keep("told_last", told[-2:])
    table = attribute(1, "smtpfence")
    keep("table", dump(GET_TABLE))
    keep("chains", dump(GET_CHAIN, table))
    keep("sets", dump(GET_SET, table))
    rules = dump(GET_RULE, table)
    for part in range(4):
        keep(f"rules{part}", rules[part::4])
    for name in ("relay4", "pool4", "pool6", "subscriber", "exempt4_30", "exempt4_32", "exempt6_56"):
        keep(f"elements_{name}", dump(GET_ELEMENTS, table + attribute(2, name)))


if __name__ == "__main__":
    main()
