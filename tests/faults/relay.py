# SPDX-License-Identifier: BSD-3-Clause
"""relay.py: a relay between two sides of a handover that does one thing wrong, once, at a chosen byte."""
import os
import select
import socket
import struct
import threading
import time

PREPARED = struct.pack(">HHI", 2, 4, 0x76666D03)  # the pong, by which a destination says that it is prepared
LAG = struct.pack(">HH4s", 2, 4, b"lag!")  # the answer to a ping of pre-copy
CHUNK = 1 << 16
CONNECT_S = 10


class Trigger:
    """At which byte: so many of the way `forward` or `back`; or so many of PREPARED (`preparing`); or so many forward
    once PREPARED has come back (`prepared`).

    The way back is counted without the answers to the pings of pre-copy, which are as many as time lets them be.
    """

    def __init__(self, way, count):
        self.way, self.count = way, count
        self.seen = {"forward": 0, "back": 0}
        self.prepared = False

    def allows(self, way, data):
        """How many of these bytes come before it; None: all, and it is not reached."""
        if way == "back" and PREPARED in data:
            if self.way == "preparing":
                return data.index(PREPARED) + self.count
            self.prepared = True
            self.seen["forward"] = 0
        counts = way == self.way or (self.way == "prepared" and way == "forward" and self.prepared)
        left = self.count - self.seen[way]
        length = len(data) - len(LAG) * data.count(LAG)
        self.seen[way] += length
        if not counts or length < left:
            return None
        return len(data) - length + max(left, 0) if way == "back" else max(left, 0)


class OncePrepared:
    """Before the first byte that goes this way when the destination's journal says "prepared": all that TLS shows."""

    def __init__(self, way, journal):
        self.way, self.journal = way, journal

    def allows(self, way, _):
        if way != self.way:
            return None
        for name in os.listdir(self.journal):
            with open("%s/%s" % (self.journal, name), encoding="utf-8") as f:
                if '"prepared"' in f.read():
                    return 0
        return None


class Relay:
    """Listens at `at`, connects to `to` (paths, or (host, port)). fault: a function of the relay, or None.

    channels: so many further connections are passed on as they are; they arrive before the one that carries the stream.
    """

    def __init__(self, at, to, trigger, fault, channels=0):
        self.to, self.trigger, self.fault, self.channels = to, trigger, fault, channels
        self.peers = {}  # of the channels' sockets: the other end
        self.struck, self.done = threading.Event(), threading.Event()  # the fault has begun, and is over
        self.listener = socket.socket(socket.AF_INET if isinstance(at, tuple) else socket.AF_UNIX)
        self.listener.bind(at)
        self.listener.listen(8)
        self.address = self.listener.getsockname()
        self.pair = []
        self.wake = os.pipe()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def close(self):
        os.write(self.wake[1], b"x")
        self.thread.join()
        self._drop()
        for s in self.peers:
            s.close()
        self.listener.close()
        os.close(self.wake[0])
        os.close(self.wake[1])

    # Faults, called by the relay's thread.
    def cut(self):
        self._drop()

    def reset(self):
        for s in self.pair:
            if s.family == socket.AF_INET:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._drop()

    def stall(self):
        """Nothing moves for a while, and then it is cut."""
        select.select([self.wake[0]], [], [], 0.1)
        self._drop()

    def half(self):
        """Only the source is told."""
        if self.pair:
            self.pair[0].close()
            kept = self.pair[1]
            self.pair = []
            select.select([self.wake[0]], [], [], 0.05)
            kept.close()

    def _drop(self):
        for s in self.pair:
            s.close()
        self.pair = []

    def _connect(self):
        family = socket.AF_INET if isinstance(self.to, tuple) else socket.AF_UNIX
        deadline = time.monotonic() + CONNECT_S
        while time.monotonic() < deadline:
            s = socket.socket(family)
            try:
                s.connect(self.to)
                return s
            except OSError:
                s.close()
                if select.select([self.wake[0], self.listener], [], [], 0.01)[0]:
                    return None
        return None

    def _accept(self):
        clients = [self.listener.accept()[0]]
        while self.channels:
            if self.wake[0] in select.select([self.wake[0], self.listener], [], [])[0]:
                break
            clients.append(self.listener.accept()[0])
            self.channels -= 1
        for client in reversed(clients):
            server = self._connect()
            if not server:
                client.close()
            elif client is clients[0]:
                self._drop()
                self.pair = [client, server]
            else:
                self.peers.update({client: server, server: client})

    def _pass_on(self, source):
        target = self.peers[source]
        try:
            data = source.recv(CHUNK)
            target.sendall(data)
        except OSError:
            data = b""
        if not data:
            for s in source, target:
                del self.peers[s]
                s.close()

    def _forward(self, source):
        way = "forward" if source is self.pair[0] else "back"
        target = self.pair[1] if way == "forward" else self.pair[0]
        try:
            data = source.recv(CHUNK)
            if not data:
                return self._drop()
            strike = None if self.struck.is_set() else self.trigger and self.trigger.allows(way, data)
            target.sendall(data if strike is None else data[:strike])
            if strike is not None:
                self.struck.set()
                try:
                    self.fault(self)
                finally:
                    self.done.set()
                if self.pair:
                    target.sendall(data[strike:])
        except OSError:
            self._drop()
        return None

    def _run(self):
        while True:
            ready = select.select([self.wake[0], self.listener, *self.pair, *self.peers], [], [])[0]
            if self.wake[0] in ready:
                return
            if self.listener in ready:
                self._accept()
                continue
            for s in ready:
                if s in self.pair:
                    self._forward(s)
                elif s in self.peers:
                    self._pass_on(s)
