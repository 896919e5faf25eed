# SPDX-License-Identifier: BSD-3-Clause
"""multifd_save.py: what a save by several connections, or with a switchover ack, waits for: destinations by hand."""
import os
import select
import signal
import socket
import struct

from tap import contains, device, equal, finish, main, read_event, run_ok, start, state_of, test

V2 = ["--interface", "v2"]
SIZE = ["--size", "2M", "--seed", "3"]
CHANNELS = 2


def init(channel):
    return struct.pack(">II", 0x11223344, 1) + bytes(16) + bytes([channel]) + bytes(39)


MARK = 0x76666D01  # the first ping, which a QEMU only echoes
PONG = struct.pack(">HHI", 2, 4, MARK)
ACK = struct.pack(">HH", 7, 0)


def shut(code):
    return struct.pack(">HHI", 1, 4, code)


class Sink:
    """A destination by hand that has taken all connections of a save."""

    def __init__(self, scratch, uri, *options, channels=CHANNELS, pong=True):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(scratch + "/sink")
        self.listener.listen(8)
        self.process = start("save", uri, "-o", "unix:%s/sink" % scratch, "--json", *options)
        self.main, *self.channels = [self.listener.accept()[0] for _ in range(channels + 1)]
        if pong:
            self.main.sendall(PONG)

    def finish(self):
        event = finish(self.process).json_lines()[-1]
        for s in (self.listener, self.main, *self.channels):
            s.close()
        return event


def works_again(uri):
    equal(state_of(uri), "running")
    run_ok("prove", uri)


@test
def a_lost_channel_lets_the_source_work_on(scratch):
    with device(scratch, "a", *SIZE, *V2, "--start") as a:
        sink = Sink(scratch, a, "--multifd", "2", "--no-precopy")
        for channel in sink.channels:
            channel.close()
        event = sink.finish()
        contains(event["error"], "channel ")
        assert event["source_may_run"], event
        works_again(a)


@test
def a_channel_that_takes_nothing_can_be_cancelled(scratch):
    with device(scratch, "a", "--size", "64M", *V2, "--start") as a:
        sink = Sink(scratch, a, "--multifd", "2", "--no-precopy")
        read_event(sink.process, event="phase", phase="stop-and-copy")
        sink.process.send_signal(signal.SIGINT)
        equal(sink.finish()["errno"], "ECANCELED")
        works_again(a)


def read_to_announcement(connection):
    """The stream until it says that the initial bytes are sent."""
    data = b""
    while struct.pack(">Q", 0xffffffffef100005) not in data:
        block = connection.recv(65536)
        assert block, "it ended without an announcement"
        data += block
    return data


@test
def nothing_is_stopped_before_the_other_side_reads(scratch):
    """A QEMU fails if a device's packet comes before it has begun to read; its answer to the ping shows that.

    It answers once all channels have come, so that these do not wait for it."""
    with device(scratch, "a", *SIZE, *V2, "--start") as a:
        sink = Sink(scratch, a, "--multifd", "2", "--no-precopy", pong=False)
        data = b""
        while struct.pack(">I", MARK) not in data:
            data += sink.main.recv(65536)
        equal([c.recv(65536) for c in sink.channels], [init(0), init(1)])
        equal(select.select([sink.main, *sink.channels], [], [], 0.3)[0], [])
        sink.main.sendall(PONG)
        assert sink.channels[0].recv(65536), "nothing came after the answer"
        sink.main.sendall(shut(1))
        equal(sink.finish()["errno"], "ECONNABORTED")
        works_again(a)


@test
def the_switch_waits_for_the_acknowledgement(scratch):
    with device(scratch, "a", *SIZE, *V2, "--start", "--rate", "0") as a:
        sink = Sink(scratch, a, "--switchover-ack", channels=0)
        data = read_to_announcement(sink.main)
        # A device that does nothing has long converged when a hundred more rounds have come.
        end = b"\x7e" + struct.pack(">I", 0x76666d00)
        while data.count(end) < 100:
            data += sink.main.recv(65536)
        assert b"\x03" + struct.pack(">I", 0x76666d00) not in data[-2000:]
        sink.main.sendall(ACK)
        while b"\"vfmig\"" not in data:
            data += sink.main.recv(65536)
        sink.main.sendall(shut(0))
        equal(sink.finish()["result"], "ok")
        equal(state_of(a), "stopped")


@test
def an_acknowledgement_that_never_comes(scratch):
    with device(scratch, "a", "--size", "64K", *V2, "--start", "--rate", "0") as a:
        for action, result in (("give-up", "failed"), ("switch", "ok")):
            sink = Sink(scratch, a, "--switchover-ack", "--precopy-timeout", "1000", "--on-timeout", action,
                        channels=0)
            data = read_to_announcement(sink.main)
            while block := sink.main.recv(65536):
                data = data[-100:] + block
                if b"\"vfmig\"" in data:
                    sink.main.sendall(shut(0))
            event = sink.finish()
            equal(event["result"], result)
            if action == "give-up":
                contains(event["error"], "has not acknowledged in 1000 ms")
                works_again(a)
            os.unlink(scratch + "/sink")


@test
def all_initial_bytes_come_before_the_announcement(scratch):
    sink = Sink(scratch, "sim:size=2M,interface=v2,initial=1500K,rate=0", "--switchover-ack", channels=0)
    data = read_to_announcement(sink.main)
    assert data.index(struct.pack(">Q", 0xffffffffef100005)) > 1500 << 10
    sink.main.sendall(ACK + shut(1))
    while sink.main.recv(65536):
        pass
    equal(sink.finish()["errno"], "ECONNABORTED")


main()
