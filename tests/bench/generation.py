"""The kernel's count of nftables commits, and the messages it sends about them, asked without a library."""

import socket
import struct

NETLINK_NETFILTER, SOL_NETLINK, ADD_MEMBERSHIP, NFNLGRP_NFTABLES = 12, 270, 1, 7
NLM_F_REQUEST, NFT_SUBSYSTEM, GETGEN, NEWGEN, GEN_ID = 1, 10, 16, 15, 1


def generation(namespace):
    """Grows by one with each commit in this namespace that changed something."""
    def ask():
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as asking:
            asking.send(struct.pack("=IHHII", 20, NFT_SUBSYSTEM << 8 | GETGEN, NLM_F_REQUEST, 1, 0) + bytes(4))
            answer = asking.recv(4096)
        at = 20
        while at + 4 <= len(answer):
            length, kind = struct.unpack_from("=HH", answer, at)
            if kind & 0x3fff == GEN_ID:
                return struct.unpack_from("!I", answer, at + 4)[0]
            at += (length + 3) & ~3
        raise RuntimeError("the kernel told no generation")

    return namespace.inside(ask)


class Events:
    """Listens to what anybody writes into nftables here. It makes writing slower, so not for what is timed."""

    def __init__(self, namespace):
        def listen():
            listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
            listener.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, NFNLGRP_NFTABLES)
            return listener

        self.socket = namespace.inside(listen)
        self.socket.setblocking(False)

    def counts(self):
        """How many messages of each type have come."""
        result = {}
        while True:
            try:
                data = self.socket.recv(65536)
            except BlockingIOError:
                return result
            at = 0
            while at + 16 <= len(data):
                length, kind = struct.unpack_from("=IH", data, at)
                result[kind & 0xff] = result.get(kind & 0xff, 0) + 1
                at += (length + 3) & ~3
