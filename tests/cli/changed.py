# SPDX-License-Identifier: BSD-3-Clause
"""changed.py: a device behind a vfio-user server is reset by its guest in the middle of a save or a load."""
import os
import struct

from made_server import GET, PRE_COPY, RESUMING, RUNNING, SET, STOP, STOP_COPY, Refused, Server
from tap import contains, equal, finish, main, run_fails, run_ok, start, test

OLD, NEW = b"old." * 2500, b"new!" * 2500
FEATURE, READ, WRITE, DATA_READ, DATA_WRITE = 16, 9, 10, 17, 18


class V2(Server):
    """Half of its data in pre-copy."""

    def do_17(self, body):
        size = struct.unpack_from("<I", body, 4)[0]
        if self.state not in (PRE_COPY, STOP_COPY):
            raise Refused
        most = len(self.left) - (len(self.data) // 2 if self.state == PRE_COPY else 0)
        piece = self.left[:max(0, min(size, 1000, most))]
        self.left = self.left[len(piece):]
        return struct.pack("<II", 8 + size, len(piece)) + piece.ljust(size, b"\0")


class V1(Server):
    """The same device with a migration region: half of its data in pre-copy, all of it when it is stopped."""
    BITS = {0: STOP, 1: RUNNING, 2: STOP_COPY, 3: PRE_COPY, 4: RESUMING}

    def __init__(self, *args, **kwargs):
        self.at, self.given, self.section = 0, 0, b""
        super().__init__(*args, **kwargs)

    def bits(self):
        return next(bits for bits, state in self.BITS.items() if state == self.state)

    def do_4(self, body):
        return struct.pack("<IIII", 16, 3, 10, 5)

    def do_5(self, body):
        argsz, _, index = struct.unpack_from("<III", body)
        if index != 9:
            return super().do_5(body)
        info = struct.pack("<IIIIQQ", 48, 3 | 8, 9, 32 if argsz >= 48 else 0, 8192, 0)
        return info + struct.pack("<HHIII", 2, 1, 0, 3, 1) if argsz >= 48 else info

    def do_16(self, body):
        raise Refused

    def do_9(self, body):
        offset, region, count = struct.unpack("<QII", body)
        if region != 9:
            return super().do_9(body)
        end = len(self.data) if self.state == STOP_COPY else len(self.data) // 2
        if offset == 0:
            return body + struct.pack("<I", self.bits())
        if offset == 8:
            self.at, self.given = self.at + self.given, 0
            return body + struct.pack("<Q", max(0, end - self.at))
        if offset == 16:
            return body + struct.pack("<Q", 4096)
        if offset == 24:
            self.given = min(1000, end - self.at)
            return body + struct.pack("<Q", self.given)
        return body + self.data[self.at + offset - 4096:][:count].ljust(count, b"\0")

    def do_10(self, body):
        offset, region = struct.unpack_from("<QI", body)
        if region != 9:
            return super().do_10(body)
        if offset == 0:
            state = self.BITS[body[16] & 7]
            if state == PRE_COPY or self.state != PRE_COPY:
                self.at = self.given = 0
            self.state = state
            self.went.append(state)
        elif offset == 24:
            self.loaded, self.section = self.loaded + self.section, b""
        else:
            self.section += body[16:]
        return body[:16]


def looks(server, command, body):
    """Is this request a look at the device's state, or another state for it without a look?"""
    if isinstance(server, V1):
        return command in (READ, WRITE) and struct.unpack_from("<QI", body) == (0, 9)
    return command == FEATURE and struct.unpack_from("<I", body, 4)[0] in (GET | 2, SET | 2)


def takes(server, command, body):
    """Is it one for data, or for how much there is?"""
    if isinstance(server, V1):
        return command == READ and struct.unpack_from("<QI", body) == (8, 9)
    return command == DATA_READ


def gives(server, command, body):
    if isinstance(server, V1):
        return command == WRITE and struct.unpack_from("<QI", body) == (24, 9)
    return command == DATA_WRITE


def left_alone(server):
    """Nothing was done to the device once it was reset."""
    equal((server.went[-1], server.state, server.resets), ("reset by its guest", RUNNING, 0))


def saved_until(scratch, kind, name, when):
    server = kind("%s/%s-%s" % (scratch, kind.__name__, name), RUNNING, OLD, when, NEW)
    out = "%s/%s-%s.state" % (scratch, kind.__name__, name)
    err = run_fails("save", server.uri, "-o", "file:" + out).err
    contains(err, server.uri)
    contains(err, "the device is running, expected ")
    contains(err, "somebody else (its guest, its driver) has reset it")
    contains(err, "is now running")
    assert "put back" not in err, err
    assert not os.path.exists(out)
    left_alone(server)


@test
def reset_before_a_save_stops_it(scratch):
    for kind in V2, V1:
        saved_until(scratch, kind, "look", lambda s, c, b: s.state == PRE_COPY and s.went and looks(s, c, b) and
                    (s.at if kind is V1 else len(OLD) - len(s.left)) >= len(OLD) // 2)


@test
def reset_between_two_reads(scratch):
    for kind in V2, V1:
        for state in PRE_COPY, STOP_COPY:
            reads = []
            saved_until(scratch, kind, "read%d" % state, lambda s, c, b: s.state == state and takes(s, c, b) and
                        (reads.append(c) or len(reads) == 3))


@test
def reset_when_all_is_read(scratch):
    for kind in V2, V1:
        saved_until(scratch, kind, "end", lambda s, c, b: s.state == STOP_COPY and looks(s, c, b) and
                    (s.at + s.given >= len(OLD) if kind is V1 else not s.left))


@test
def reset_when_it_is_stopped(scratch):
    """Its config space would be that of another time than its data."""
    for kind in V2, V1:
        saved_until(scratch, kind, "config", lambda s, c, b: s.state == STOP and c == READ and
                    struct.unpack_from("<QI", b)[1] == 7)


def loaded_until(scratch, kind, name, when):
    state = "%s/of-%s" % (scratch, kind.__name__)
    if not os.path.exists(state):
        run_ok("save", kind(state + ".sock", RUNNING, OLD).uri, "-o", "file:" + state)
    server = kind("%s/%s-%s" % (scratch, kind.__name__, name), RUNNING, b"", when, NEW)
    err = run_fails("load", server.uri, "-i", "file:" + state).err
    contains(err, "%s: " % server.uri)
    contains(err, "the device is running, expected ")
    contains(err, "not reset: somebody else")
    contains(err, "is now running")
    assert "with nothing of the load" not in err, err
    left_alone(server)


@test
def reset_in_a_load(scratch):
    for kind in V2, V1:
        loaded_until(scratch, kind, "data", lambda s, c, b: s.state == RESUMING and gives(s, c, b) and s.loaded)


@test
def reset_before_config_space_is_written(scratch):
    for kind in V2, V1:
        loaded_until(scratch, kind, "look", lambda s, c, b: s.state == RESUMING and looks(s, c, b) and
                     len(s.loaded) >= len(OLD))


@test
def reset_before_the_start(scratch):
    """The source has decided by then: it does not hear that it may run again, as the state may be at work here."""
    server = V2(scratch + "/b", RUNNING, b"", lambda s, c, b: s.state == STOP and looks(s, c, b), NEW)
    source = V2(scratch + "/a", RUNNING, OLD)
    load = start("load", server.uri, "-i", "unix:%s/link" % scratch)
    save = start("save", source.uri, "-o", "unix:%s/link" % scratch, "--retry-for", "1")
    result = finish(load)
    equal(result.code, 1)
    contains(result.err, "%s: starting: the device is running, expected stopped: somebody else" % server.uri)
    contains(result.err, "not reset: somebody else")
    left_alone(server)
    equal(finish(save).code, 3)
    equal(source.state, STOP)


main()
