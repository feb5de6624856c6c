"""The ops side on a bad day: an endpoint that answers as told and remembers when each request came."""

import re
import selectors
import socket
import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """A request that came."""

    at: float  # on the monotonic clock, when its last byte was there
    webhook_id: str


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
# Instead of an answer: the connection is closed,
CLOSE = b""
# or nothing comes for as long as the client stays, or until the endpoint says so.
STALL = None


class Endpoint:
    """An endpoint on 127.0.0.1. `answer(number)` says what the request of that number gets. Used in a `with`."""

    def __init__(self, answer, port=0):
        self.answer = answer
        self.requests = []
        self.stalled = []
        self.connections = {}
        self.listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        self.port = self.listener.getsockname()[1]
        self.wake, self.woken = socket.socketpair()
        self.selector = selectors.DefaultSelector()
        for readable in (self.listener, self.woken):
            readable.setblocking(False)
            self.selector.register(readable, selectors.EVENT_READ)
        self.stopping = False
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, error, trace):
        self.stopping = True
        self.wake.send(b".")
        self.thread.join()
        for open_socket in [*self.connections, self.listener, self.wake, self.woken]:
            open_socket.close()
        self.selector.close()

    def url(self):
        return f"http://127.0.0.1:{self.port}/hook"

    def release(self, answer, share=1.0):
        """Answers a share of what is stalled, the earliest first; the others stay so."""
        count = round(len(self.stalled) * share)
        told, self.stalled = self.stalled[:count], self.stalled[count:]
        for connection in told:
            send(connection, answer)

    def run(self):
        while not self.stopping:
            for key, _ in self.selector.select():
                if key.fileobj is self.listener:
                    self.accept()
                elif key.fileobj is not self.woken:
                    self.read(key.fileobj)

    def accept(self):
        try:
            connection, _ = self.listener.accept()
        except OSError:
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections[connection] = b""
        self.selector.register(connection, selectors.EVENT_READ)

    def read(self, connection):
        try:
            bytes_read = connection.recv(1 << 16)
        except OSError:
            bytes_read = b""
        if not bytes_read:
            self.forget(connection)
            return
        waiting = self.connections[connection] + bytes_read
        whole = whole_request(waiting)
        if whole is None:
            self.connections[connection] = waiting
            return
        self.connections[connection] = b""
        self.requests.append(Request(time.monotonic(), whole))
        answer = self.answer(len(self.requests) - 1)
        if answer is STALL:
            self.stalled.append(connection)
        elif answer == CLOSE:
            self.forget(connection)
        else:
            send(connection, answer)

    def forget(self, connection):
        self.selector.unregister(connection)
        del self.connections[connection]
        connection.close()


def send(connection, answer):
    """Sends an answer, which fits into the socket's buffer. That its client may have gone is its own affair."""
    try:
        connection.sendall(answer)
    except OSError:
        pass


def whole_request(waiting):
    """The `webhook-id` of a request that is there whole; none while it is not."""
    head, end, body = waiting.partition(b"\r\n\r\n")
    if not end:
        return None
    length = re.search(rb"^content-length: *(\d+)", head, re.IGNORECASE | re.MULTILINE)
    if len(body) < int(length[1] if length else 0):
        return None
    found = re.search(rb"^webhook-id: *(\S+)", head, re.IGNORECASE | re.MULTILINE)
    return found[1].decode() if found else ""


class Blackhole:
    """An address that no connection reaches and that refuses none: a listener whose queue is full. Used in a `with`."""

    def __init__(self, port):
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", port))
        self.listener.listen(0)
        self.queued = []

    def __enter__(self):
        # One fits in; the kernel drops what comes after that.
        for _ in range(3):
            filler = socket.socket()
            filler.settimeout(0.2)
            self.queued.append(filler)
            try:
                filler.connect(self.listener.getsockname())
            except OSError:
                break
        return self

    def __exit__(self, kind, error, trace):
        for open_socket in [*self.queued, self.listener]:
            open_socket.close()
