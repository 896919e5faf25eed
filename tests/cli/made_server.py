# SPDX-License-Identifier: BSD-3-Clause
"""made_server.py: a vfio-user server in a thread, which refuses nearly everything while its device is stopped, as the
reference server does."""
import json
import socket
import struct
import threading

STATES = {1: "stopped", 2: "running", 3: "stop-and-copy", 4: "resuming", 6: "pre-copy"}
STOP, RUNNING, STOP_COPY, RESUMING, PRE_COPY = 1, 2, 3, 4, 6
ARCS = {STOP: [RUNNING, STOP_COPY, RESUMING], RUNNING: [STOP, PRE_COPY], STOP_COPY: [STOP], RESUMING: [STOP],
        PRE_COPY: [RUNNING, STOP_COPY]}
EINVAL = 22
GET, SET = 1 << 16, 1 << 17


class Refused(Exception):
    pass


class Server(threading.Thread):
    """Serves one client after another; its state is the device's and stays. reset_when(server, command, body), asked
    before each request, tells when its guest resets the device, once; after that it has the data `after`."""

    def __init__(self, path, state=RUNNING, data=b"", reset_when=None, after=b""):
        super().__init__(daemon=True)
        self.state, self.data, self.left, self.went, self.resets = state, data, data, [], 0
        self.reset_when, self.after, self.loaded, self.config = reset_when, after, b"", bytearray(range(256))
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(4)
        self.uri = "vfio-user:" + path
        self.start()

    def run(self):
        while True:
            client, _ = self.listener.accept()
            try:
                self.serve(client)
            except (EOFError, OSError):
                pass
            client.close()

    def serve(self, client):
        def exactly(n):
            got = client.recv(n, socket.MSG_WAITALL)
            if len(got) != n:
                raise EOFError
            return got

        while True:
            number, command, size, _, _ = struct.unpack("<HHIII", exactly(16))
            body = exactly(size - 16) if size > 16 else b""
            error, answer = 0, b""
            if self.reset_when and self.reset_when(self, command, body):
                self.reset_when = None
                self.state, self.data, self.left, self.loaded = RUNNING, self.after, self.after, b""
                self.went.append("reset by its guest")
            try:
                if self.state in (STOP, STOP_COPY) and command not in (1, 9, 10, 16, 17):
                    raise Refused
                answer = getattr(self, "do_%d" % command, self.unknown)(body)
            except Refused:
                error = EINVAL
            flags = 0x21 if error else 1
            client.sendall(struct.pack("<HHIII", number, command, 16 + len(answer), flags, error) + answer)

    def unknown(self, body):
        raise Refused

    def do_1(self, body):  # VERSION
        return struct.pack("<HH", 0, 0) + json.dumps({"capabilities": {"max_msg_fds": 8}}).encode() + b"\0"

    def do_4(self, body):  # DEVICE_GET_INFO
        return struct.pack("<IIII", 16, 3, 9, 5)

    def do_5(self, body):  # DEVICE_GET_REGION_INFO
        index = struct.unpack_from("<I", body, 8)[0]
        return struct.pack("<IIIIQQ", 32, 3, index, 0, 256 if index == 7 else 0, 0)

    def do_7(self, body):  # DEVICE_GET_IRQ_INFO
        return struct.pack("<IIII", 16, 0, struct.unpack_from("<I", body, 8)[0], 0)

    def do_9(self, body):  # REGION_READ
        offset, region, count = struct.unpack("<QII", body)
        if region != 7 or offset + count > 256:
            raise Refused
        return body + bytes(self.config[offset:offset + count])

    def do_10(self, body):  # REGION_WRITE
        offset, region, count = struct.unpack_from("<QII", body)
        if region != 7 or offset + count > 256:
            raise Refused
        self.went.append("config space")
        return body[:16]

    def do_13(self, body):  # DEVICE_RESET
        self.resets += 1
        self.state, self.left = RUNNING, self.data
        return b""

    def do_16(self, body):  # DEVICE_FEATURE
        flags = struct.unpack_from("<I", body, 4)[0]
        if flags == GET | 1:
            return body[:8] + struct.pack("<Q", 5)
        if flags == GET | 2:
            return body[:8] + struct.pack("<Ii", self.state, 0)
        if flags == SET | 2:
            self.go(struct.unpack_from("<I", body, 8)[0])
            return body
        raise Refused

    def go(self, wanted):
        if wanted == self.state:
            return
        way = next(([a, wanted] if a != wanted else [wanted] for a in ARCS[self.state]
                    if a == wanted or (wanted in ARCS.get(a, []) and a in (STOP, RUNNING))), None)
        if not way:
            raise Refused
        for step in way:
            if step == STOP_COPY and self.state == STOP:
                self.left = self.data
            self.state = step
            self.went.append(step)

    def do_17(self, body):  # MIG_DATA_READ
        size = struct.unpack_from("<I", body, 4)[0]
        piece, self.left = self.left[:min(size, 1000)], self.left[min(size, 1000):]
        return struct.pack("<II", 8 + size, len(piece)) + piece.ljust(size, b"\0")

    def do_18(self, body):  # MIG_DATA_WRITE
        self.loaded += body[8:]
        return b""
