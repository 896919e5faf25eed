# SPDX-License-Identifier: BSD-3-Clause
"""qemu.py: a destination that is a QEMU: it takes the stream, only echoes vfmig's pings, and runs before it says so."""
import json
import re
import select
import socket
import struct

MARK = 0x76666D01  # vfmig's first ping, which a QEMU answers as it is
PONG, SHUT = 2, 1
DESCRIPTION = re.compile(rb"\x00\x06(....)(?=\{)", re.DOTALL)
LIMIT_S = 10


class Qemu:
    """Listens at `path`; keeps what came in `file`."""

    def __init__(self, path, file):
        self.file, self.data, self.looked = file, bytearray(), 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(1)
        self.listener.settimeout(LIMIT_S)
        self.peer = None

    def waits(self, seconds):
        """Is a source there?"""
        return bool(select.select([self.listener], [], [], seconds)[0])

    def take(self, until=None):
        """All of a stream: True. False: it was cut off, or `until` bytes are there and no more is taken."""
        self.peer = self.listener.accept()[0]
        self.peer.settimeout(LIMIT_S)
        try:
            self.peer.sendall(struct.pack(">HHI", PONG, 4, MARK))
        except OSError:
            return False
        return self.go_on(until)

    def go_on(self, until=None):
        try:
            while until is None or len(self.data) < until:
                data = self.peer.recv(1 << 16)
                if not data:
                    return False
                self.data += data
                if self._is_whole():
                    with open(self.file, "wb") as f:
                        f.write(self.data)
                    return True
        except OSError:
            pass
        return False

    def _is_whole(self):
        """Does a description that is complete end the stream?"""
        for m in DESCRIPTION.finditer(self.data, self.looked):
            length = struct.unpack(">I", m.group(1))[0]
            if length > 1 << 20:
                continue
            if m.end() + length > len(self.data):
                return False
            try:
                json.loads(self.data[m.end():m.end() + length])
                return True
            except ValueError:
                continue
        self.looked = max(0, len(self.data) - 64)
        return False

    def say(self, code):
        """0: loaded. 1: refused."""
        try:
            self.peer.sendall(struct.pack(">HHI", SHUT, 4, code))
        except OSError:
            pass

    def close(self):
        for s in self.peer, self.listener:
            if s:
                s.close()
