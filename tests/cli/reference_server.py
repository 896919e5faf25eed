# SPDX-License-Identifier: BSD-3-Clause
"""reference_server.py: whole saves and loads against a vfio-user server that does all that the reference server and the
specification do otherwise than ours.

It takes a message by one recv(), gives migration data in short reads, does DMA by messages while a reply is due,
answers EINVAL to every feature that it does not know, and refuses requests while the device is stopped.
"""
import mmap
import os
import socket
import struct

from made_server import EINVAL, PRE_COPY, RESUMING, RUNNING, SET, STOP, Refused, Server
from tap import equal, finish, main, read_event, run_ok, start, state_of, test

WRITE_MAX = 32 << 10  # bytes of data in one message that it can take
PAGE, PAGES = 4096, 64
STATE = b"".join(struct.pack("<I", n * 2654435761 % (1 << 32)) for n in range(100000))


class Reference(Server):
    """Writes a page of its client's memory before each reply while it runs. With `log` it takes fds, writes every other
    page through its own mapping and logs those; without it takes none, and knows no log."""

    def __init__(self, path, data=b"", log=True):
        self.mapped, self.logging, self.dirty, self.written, self.log = False, False, set(), {}, log
        self.memory = None
        self.loaded, self.largest, self.features = b"", 0, set()
        super().__init__(path, RUNNING, data)

    def serve(self, client):
        self.client, self.number = client, 0x8000
        self.mapped = self.logging = False  # with the client before
        while True:
            header, self.fds, _, _ = socket.recv_fds(client, 16, 8)
            if not header:
                return
            number, command, size, _, _ = struct.unpack("<HHIII", header)
            body = client.recv(size - 16) if size > 16 else b""  # once: what has not come yet is lost
            assert len(body) == size - 16, "a message of %d bytes arrived short" % size
            self.largest = max(self.largest, size)
            self.answer(number, command, body)

    def answer(self, number, command, body):
        error, answer = 0, b""
        try:
            if self.state not in (RUNNING, PRE_COPY, RESUMING) and command not in (1, 9, 10, 16, 17):
                raise Refused
            answer = getattr(self, "do_%d" % command, self.unknown)(body)
        except Refused:
            error = EINVAL
        if self.mapped and self.state in (RUNNING, PRE_COPY):
            self.write_page()
        header = struct.pack("<HHIII", number, command, 16 + len(answer), 0x21 if error else 1, error)
        self.client.sendall(header + answer)

    def write_page(self):
        self.number += 1
        page = self.number * 7 % PAGES
        data = struct.pack("<Q", self.number) * (PAGE // 8)
        self.written[page] = data
        if self.memory and self.number % 2:
            self.memory[page * PAGE:(page + 1) * PAGE] = data
            self.dirty.add(page)
            return
        write = struct.pack("<HHIIIQQ", self.number & 0xffff, 12, 32 + PAGE, 0, 0, page * PAGE, PAGE)
        self.client.sendall(write + data)
        reply = self.client.recv(32)  # nothing else of the client's is due
        got, command, _, flags, error = struct.unpack_from("<HHIII", reply)
        equal((got, command, flags & 0xf, error), (self.number & 0xffff, 12, 1, 0))

    def do_1(self, body):  # VERSION
        version = super().do_1(body)
        return version if self.log else version.replace(b'"max_msg_fds": 8', b'"max_msg_fds": 0')

    def do_2(self, body):  # DMA_MAP
        self.mapped = struct.unpack("<IIQQQ", body)[3:] == (0, PAGES * PAGE)
        self.memory = mmap.mmap(self.fds[0], PAGES * PAGE) if self.fds else None
        for fd in self.fds:
            os.close(fd)
        return b""

    def do_10(self, body):  # REGION_WRITE
        return body[:16]

    def do_16(self, body):  # DEVICE_FEATURE
        flags = struct.unpack_from("<I", body, 4)[0]
        self.features.add(flags & 0xffff)
        if flags == SET | 2 and struct.unpack_from("<I", body, 8)[0] == RESUMING:
            self.loaded = b""
        if not self.log or flags & 0xffff not in (6, 7, 8):
            return super().do_16(body)
        if flags & 0xffff != 8:
            self.logging = flags == SET | 6
            return body
        iova, length, size = struct.unpack_from("<QQQ", body, 8)
        if (iova, length, size) != (0, PAGES * PAGE, PAGE) or not self.logging:
            raise Refused  # a range begins where memory was mapped
        bits, self.dirty = sum(1 << page for page in self.dirty), set()
        return body + struct.pack("<Q", bits)

    def do_18(self, body):  # MIG_DATA_WRITE
        if self.state != RESUMING or struct.unpack_from("<I", body, 4)[0] != len(body) - 8:
            raise Refused
        self.loaded += body[8:]
        return b""


def memory_of(server):
    image = bytearray(PAGE * PAGES)
    for page, data in server.written.items():
        image[page * PAGE:(page + 1) * PAGE] = data
    return bytes(image)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def saved(scratch, log):
    server = Reference(scratch + "/source", STATE, log)
    result = run_ok("save", server.uri, "--memory", "ram=%s/a,size=256K" % scratch, "-o", "file:%s/stream" % scratch)
    equal(server.state, STOP)
    assert len(server.written) > 10, "it wrote %d pages" % len(server.written)
    equal(read(scratch + "/a"), memory_of(server))
    return server, result


def loaded(scratch, source):
    server = Reference(scratch + "/destination")
    run_ok("load", server.uri, "--memory", "ram=%s/b,size=256K" % scratch, "-i", "file:%s/stream" % scratch,
           "--no-start")
    equal(server.loaded, STATE)
    equal(server.state, STOP)
    assert server.largest <= WRITE_MAX + 64, "a message of %d bytes" % server.largest
    # Until the device was stopped it wrote its new client's memory, as a device does; the load is what is left.
    equal(read(scratch + "/b"), memory_of(source))
    return server


@test
def saved_and_loaded(scratch):
    source, _ = saved(scratch, True)
    destination = loaded(scratch, source)
    equal(state_of(destination.uri), "stopped")  # of another client: it kept it
    assert {1, 2, 6, 7, 8} <= source.features, source.features


@test
def without_a_log_what_the_client_wrote_itself_is_known(scratch):
    source, result = saved(scratch, False)
    assert "nobody logs" not in result.err, result.err  # all of its DMA comes by messages
    loaded(scratch, source)


@test
def moved_live(scratch):
    source, destination = Reference(scratch + "/source", STATE), Reference(scratch + "/destination")
    load = start("load", destination.uri, "--memory", "ram=%s/b,size=256K" % scratch, "--json", "-i",
                 "unix:%s/link" % scratch, "--no-start")
    read_event(load, event="listening")
    run_ok("save", source.uri, "--memory", "ram=%s/a,size=256K" % scratch, "-o", "unix:%s/link" % scratch)
    result = finish(load)
    equal(result.code, 0)
    equal(destination.loaded, STATE)
    equal(read(scratch + "/b"), memory_of(source))


main()
