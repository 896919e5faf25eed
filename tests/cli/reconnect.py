# SPDX-License-Identifier: BSD-3-Clause
"""reconnect.py: a source whose connection was lost finds the destination again, whoever else connects to it."""
import contextlib
import json
import os
import select
import socket
import ssl
import struct
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "faults"))

import certificates  # noqa: E402
from relay import OncePrepared, Relay  # noqa: E402
from tap import contains, device, equal, finish, main, read_event, run_ok, start, state_of, test  # noqa: E402

RETRY = ["--retry-for", "20000"]
COUNTS = [0, 1, 4, 70]
MARK = 0x76666D01


def pings(*values):
    return b"".join(struct.pack(">BHHI", 8, 2, 4, value) for value in values)


SILENT = b""
WRONG = pings(MARK, 0, 0, 0, 0)
HALF = pings(MARK)  # right so far, and nothing follows
STREAM = b"QEVM\0\0\0\3"


def client_hello():
    """How a TLS client begins that has no key."""
    context = ssl.create_default_context()
    answers, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(answers, said, server_hostname="localhost").do_handshake()
    return said.read()


class Strangers:
    """So many connections at the same time, each of which says `words`, and is made again when it is closed."""

    def __init__(self, address, count, words):
        self.address, self.count, self.words = address, count, words
        self.here = {}  # sockets; have they said their words?
        self.came = 0
        self.all_came = threading.Event()
        self.wake = os.pipe()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self.all_came.wait()

    def close(self):
        os.write(self.wake[1], b"x")
        self.thread.join()
        for s in self.here:
            s.close()
        os.close(self.wake[0])
        os.close(self.wake[1])

    def _come(self):
        s = socket.socket(socket.AF_INET if isinstance(self.address, tuple) else socket.AF_UNIX)
        s.setblocking(False)
        try:
            s.connect(self.address)
        except BlockingIOError:
            if s.family == socket.AF_UNIX:  # the queue is full
                s.close()
                return False
        except OSError:  # nobody listens any more
            s.close()
            return False
        self.here[s] = False
        return True

    def _go(self, s):
        del self.here[s]
        s.close()

    def _run(self):
        while True:
            full = False
            while len(self.here) < self.count and not full:
                full = not self._come()
                self.came += 1
            if self.came >= self.count:
                self.all_came.set()
            unsaid = [s for s, said in self.here.items() if not said]
            ready, can_say, _ = select.select([self.wake[0], *self.here], unsaid, [], 0.01 if full else None)
            if self.wake[0] in ready:
                return
            for s in set(ready + can_say):
                try:
                    if not self.here[s]:
                        s.send(self.words)
                        self.here[s] = True
                    if s in ready and not s.recv(4096):
                        self._go(s)
                except BlockingIOError:
                    pass
                except OSError:
                    self._go(s)


def listen(scratch, kind, b, args):
    """A load; where it listens, as sockets know it."""
    fds = []
    uri = {"unix": "unix:%s/l" % scratch, "tcp": "tcp:127.0.0.1:0"}.get(kind)
    address = scratch + "/l"
    if kind == "fd":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
        listener.listen(128)
        fds = [listener.fileno()]
        uri = "fd:%d" % fds[0]
    load = start("load", b, "-i", uri, "--json", *args, pass_fds=fds)
    link = read_event(load, event="listening")["link"]
    if kind == "fd":
        listener.close()
    if kind == "tcp":
        host, port = link[len("tcp:"):].rsplit(":", 1)
        address = (host, int(port))
    return load, address


def move(scratch, count, words, kind="unix", args=(), channels=0, way="forward"):
    """Lost at the switch, and the strangers are there before the source is back."""
    os.mkdir(scratch)
    dirs = [scratch + "/ja", scratch + "/jb"]
    for d in dirs:
        os.mkdir(d)
    strangers = []

    def fault(relay):
        strangers.append(Strangers(relay.to, count, words))
        relay.cut()

    common = ["--interface", "v2", "--size", "256K"]
    args = [*args, *RETRY, *(["--multifd", str(channels)] if channels else [])]
    with device(scratch, "a", *common, "--start", "--rate", "1000") as a, device(scratch, "b", *common) as b:
        load, address = listen(scratch, kind, b, [*args, "--journal", dirs[1]])
        relay = Relay(scratch + "/r", address, OncePrepared(way, dirs[1]), fault, channels)
        try:
            save = start("save", a, "-o", "unix:%s/r" % scratch, "--journal", dirs[0], *args)
            ends = finish(save), finish(load)
            assert relay.struck.is_set()
        finally:
            for s in strangers:
                s.close()
            relay.close()
        wanted = (0, 0) if way == "forward" else (1, 1)
        assert (ends[0].code, ends[1].code) == wanted, [(e.code, e.err, e.out[-1000:]) for e in ends]
        if way == "forward":
            equal((state_of(a), state_of(b)), ("stopped", "running"))
            run_ok("prove", a, b)
        else:
            contains(ends[1].out, "the source has taken the device back")
            equal(state_of(a), "running")
            run_ok("prove", a)
    return ends


def moves(scratch, counts, all_words, *args, **kwargs):
    for count in counts:
        for i, words in enumerate(all_words if count else [SILENT]):
            move("%s/%d-%d" % (scratch, count, i), count, words, *args, **kwargs)


@test
def strangers_that_say_nothing(scratch):
    moves(scratch, COUNTS, [SILENT])


@test
def strangers_that_say_something_wrong(scratch):
    moves(scratch, COUNTS, [WRONG, HALF, STREAM])


@test
def strangers_at_a_tcp_port(scratch):
    moves(scratch, COUNTS, [SILENT, WRONG], "tcp")


@test
def strangers_at_a_listener_that_was_handed_over(scratch):
    moves(scratch, [4, 70], [SILENT, WRONG], "fd")


@test
def strangers_where_tls_is_spoken(scratch):
    creds = ["--tls-creds", certificates.psk(scratch, "qemu:" + 32 * "a5")]
    moves(scratch, COUNTS, [SILENT, WRONG, client_hello()], args=creds)


@test
def strangers_beside_channels_and_compression(scratch):
    creds = ["--tls-creds", certificates.psk(scratch, "qemu:" + 32 * "a5")]
    zstd = ["--compress", "zstd"]
    for i, (args, channels) in enumerate([([], 2), (zstd, 0), (zstd, 2), (creds + zstd, 0)]):
        os.mkdir("%s/%d" % (scratch, i))
        moves("%s/%d" % (scratch, i), [4], [SILENT], args=args, channels=channels)


@test
def strangers_while_the_source_takes_the_device_back(scratch):
    moves(scratch, [4, 70], [SILENT], way="back")


@test
def strangers_while_a_resolve_waits(scratch):
    """The first one that comes opens the link of the resolve."""
    dirs = [scratch + "/ja", scratch + "/jb"]
    for d in dirs:
        os.mkdir(d)
    common = ["--size", "256K"]
    with device(scratch, "a", *common, "--start", "--rate", "1000") as a, device(scratch, "b", *common) as b:
        load, address = listen(scratch, "unix", b, ["--retry-for", "200", "--journal", dirs[1]])

        def kill(relay):
            save.kill()
            save.wait()
            relay.cut()
        relay = Relay(scratch + "/r", address, OncePrepared("forward", dirs[1]), kill)
        save = start("save", a, "-o", "unix:%s/r" % scratch, "--journal", dirs[0])
        equal(finish(load).code, 3)
        session = json.loads(run_ok("status", "--json", "--journal", dirs[0]).out)["session"]
        ends = [start("resolve", session, "--journal", dirs[1], *RETRY)]
        contains(ends[0].stderr.readline(), "waiting for the source")
        strangers = Strangers(address, 4, SILENT)
        ends.append(start("resolve", session, "--journal", dirs[0], *RETRY))
        equal([(r.code, r.err) for r in map(finish, ends) if r.code], [])
        strangers.close()
        relay.close()
        equal((state_of(a), state_of(b)), ("stopped", "running"))
        run_ok("prove", a, b)


@test
def the_number_of_strangers_is_told(scratch):
    ends = move(scratch + "/m", 4, SILENT)
    contains(ends[1].out, "connections refused because they were not from its source: 4")


main()
