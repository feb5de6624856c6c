"""The portal: posts events over connections that are kept, and takes the time of each."""

import math
import selectors
import socket
import time
from collections import Counter

from benchmarks.dynamodb import event, iso
from benchmarks.system import Failed

# emit-retry answers within 2 s, whatever happens.
LONGEST_ANSWER_S = 10


class Connection:
    """One connection, with one request at a time on it."""

    def __init__(self, address):
        host, _, port = address.partition(":")
        self.host = address
        self.socket = socket.create_connection((host, int(port)), timeout=LONGEST_ANSWER_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.begun = 0.0
        self.read = b""

    def send(self, body):
        head = (
            f"POST /api/v1/events HTTP/1.1\r\nhost: {self.host}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        request = head.encode() + body
        self.read = b""
        self.begun = time.perf_counter()
        self.socket.sendall(request)

    def status(self):
        """The answer's status, once it is there whole."""
        received = self.socket.recv(1 << 16)
        if not received:
            raise Failed("emit-retry closed a connection without an answer")
        self.read += received
        head, end, body = self.read.partition(b"\r\n\r\n")
        if not end:
            return None
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        return int(head[9:12]) if len(body) >= length else None


class Portal:
    """So many connections to an emit-retry."""

    def __init__(self, address, connections):
        self.connections = [Connection(address) for _ in range(connections)]
        self.posted = 0

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        for connection in self.connections:
            connection.socket.close()

    def post(self, count):
        """Posts so many events, each connection the next as soon as its last is answered: the seconds that each took. Fails
        unless each is a 202."""
        took, statuses, sent = [], Counter(), 0
        with selectors.DefaultSelector() as selector:
            for connection in self.connections[:count]:
                selector.register(connection.socket, selectors.EVENT_READ, connection)
                connection.send(self.next())
                sent += 1
            while len(took) < count:
                ready = selector.select(LONGEST_ANSWER_S)
                if not ready:
                    raise Failed(f"no answer within {LONGEST_ANSWER_S} s")
                for key, _ in ready:
                    status = key.data.status()
                    if status is None:
                        continue
                    took.append(time.perf_counter() - key.data.begun)
                    statuses[status] += 1
                    if sent < count:
                        key.data.send(self.next())
                        sent += 1
        if set(statuses) != {202}:
            raise Failed(f"not every event was accepted with 202: {dict(statuses)}")
        return took

    def next(self):
        self.posted += 1
        return event(self.posted, iso(time.time_ns() // 1_000_000)).encode()


def percentile(values, share):
    """The value that a share of all is not above."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1]
