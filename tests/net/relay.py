#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""relay.py PORT HOST:PORT MS RATE: what comes by a connection to PORT goes on MS later, and so does what comes back.

It holds what a line of RATE bytes/s and that length holds and no more: a slower link behind it is felt before it.
"""
import collections
import contextlib
import socket
import sys
import threading
import time

CHUNK = 1 << 16


class Direction:
    def __init__(self, source, sink, delay, room):
        self.source, self.sink, self.delay, self.room = source, sink, delay, room
        self.queue, self.held = collections.deque(), 0
        self.changed = threading.Condition()
        self.threads = [threading.Thread(target=self.take), threading.Thread(target=self.give)]

    def take(self):
        data = b"?"
        while data:
            with self.changed:
                self.changed.wait_for(lambda: self.held < self.room)
            try:
                data = self.source.recv(CHUNK)
            except OSError:
                data = b""
            with self.changed:
                self.queue.append((time.monotonic() + self.delay, data))
                self.held += len(data)
                self.changed.notify_all()

    def give(self):
        data = b"?"
        try:
            while data:
                with self.changed:
                    self.changed.wait_for(lambda: self.queue)
                    due, data = self.queue.popleft()
                time.sleep(max(0, due - time.monotonic()))
                self.sink.sendall(data)
                with self.changed:
                    self.held -= len(data)
                    self.changed.notify_all()
            self.sink.shutdown(socket.SHUT_WR)
        except OSError:  # a line that is cut is cut for both
            for s in self.source, self.sink:
                with contextlib.suppress(OSError):
                    s.shutdown(socket.SHUT_RDWR)


def main():
    port, target, delay, rate = int(sys.argv[1]), sys.argv[2], float(sys.argv[3]) / 1000, float(sys.argv[4])
    host, target_port = target.rsplit(":", 1)
    with socket.create_server(("127.0.0.1", port)) as server:
        print("listening", flush=True)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * CHUNK)  # what does not fit waits before it
        near = server.accept()[0]
    far = socket.create_connection((host, int(target_port)))
    for s in near, far:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * CHUNK)
    room = int(rate * delay) + CHUNK
    threads = Direction(near, far, delay, room).threads + Direction(far, near, delay, room).threads
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


main()
