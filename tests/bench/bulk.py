"""Bulk TCP: long connections through routers with and without a table. The machine handles many segments as one (GSO), as
real routers do (GRO), so that a rule is met once for some dozen of them."""

import os
import socket
import statistics
import threading
import time

from namespaces import Namespace

CHUNK = 64 << 20
CLIENT, SERVER = "100.127.255.2", "198.18.0.2"


class Connection:
    """One connection from a fenced line to port 443, through a router's namespace."""

    def __init__(self, router):
        self.client, self.server, self.router = Namespace(), Namespace(), router
        router.set(ipv4__ip_forward=1)
        for number, (end, address) in enumerate(((self.client, CLIENT), (self.server, SERVER))):
            gateway = address[:-1] + "1"
            router.run("ip", "-batch", "-", text=f"link add bulk{number} type veth peer name bulk netns {end.path}\n"
                                                 f"link set bulk{number} up\naddr add {gateway}/30 dev bulk{number}\n")
            end.run("ip", "-batch", "-", text=f"link set bulk up\naddr add {address}/30 dev bulk\n"
                                              f"route add default via {gateway}\n")
        listener = self.server.inside(lambda: socket.create_server((SERVER, 443)))
        self.sender = self.client.inside(lambda: socket.create_connection((SERVER, 443), timeout=20))
        self.receiver, _ = listener.accept()
        listener.close()
        self.sender.settimeout(None)
        self.wanted, self.done = 0, threading.Semaphore(0)

    def begin(self):
        threading.Thread(target=self.drain, daemon=True).start()

    def drain(self):
        """Throws away what arrives (MSG_TRUNC), and tells when it was as much as was sent."""
        buffer, received = bytearray(1 << 20), 0
        while count := self.receiver.recv_into(buffer, flags=socket.MSG_TRUNC):
            received += count
            if received == self.wanted:
                self.done.release()

    def seconds(self, source):
        """For one chunk, from the first byte sent to the last one received."""
        self.wanted += CHUNK
        started, left = time.perf_counter(), CHUNK
        while left:
            left -= os.sendfile(self.sender.fileno(), source, CHUNK - left, left)
        self.done.acquire()
        return time.perf_counter() - started


def bulk(table, routers, turns):
    """`routers`: namespaces that hold our table, by their number of exemptions."""
    source = os.memfd_create("bulk")
    os.truncate(source, CHUNK)
    connections = {"no table": Connection(Namespace()), "the same twice": Connection(Namespace()),
                   **{size: Connection(namespace) for size, namespace in routers.items()}}
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})  # the threads come after
    for connection in connections.values():
        connection.begin()
        connection.seconds(source)
    shares = {name: [] for name in connections}
    for _ in range(turns):
        took = {name: connection.seconds(source) for name, connection in connections.items()}
        for name in connections:
            shares[name].append(100 * took["no table"] / took[name])
    del shares["no table"]
    for name, samples in shares.items():
        low, middle, high = statistics.quantiles(samples, n=4)
        same = name == "the same twice"
        table.add("bulk TCP: throughput" + (", without a table twice" if same else ""), "% of no table",
                  0 if same else name, middle, spread=(low, high), goal="" if same else "99",
                  how=f"{CHUNK >> 20} MB at a time over one connection, all on one CPU, in turn; in brackets the quartiles")
    for connection in connections.values():
        connection.sender.close()
    os.close(source)
    os.sched_setaffinity(0, processors)
