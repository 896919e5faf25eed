# SPDX-License-Identifier: BSD-3-Clause
"""multifd.py: one migration over several connections, and peers by hand that break every rule of it."""
import json
import os
import random
import select
import signal
import socket
import struct
import threading

from tap import contains, device, equal, finish, main, read_event, run, run_fails, run_ok, start, state_of, test

V2 = ["--interface", "v2"]
SIZE = ["--size", "2M", "--seed", "3"]
CHANNELS = 2
MAGIC = 0x11223344
STATE, CONFIG = 0x40, 1
ID = "0000:00:01.0/vfio"
HEAD, INIT = 288, 64
RAM_HEAD = 1344


def prove_moved(source, destination):
    equal(state_of(source), "stopped")
    equal(state_of(destination), "running")
    run_ok("prove", source, destination)


def loads(uri):
    """How often the device was loaded."""
    return json.loads(run_ok("prove", "--json", uri).out)["devices"][0]["loads"]


def move(scratch, link, channels, *save_options, interface="v2", load_options=()):
    """More than the channels hold at once, so that they have to be waited for."""
    options = ["--size", "16M", "--interface", interface]
    with device(scratch, "a", *options, "--start") as a, device(scratch, "b", *options) as b:
        load = start("load", b, "-i", link, "--multifd", str(channels), "--json", *load_options)
        at = read_event(load, event="listening")["link"]
        save = run("save", a, "-o", at, "--multifd", str(channels), "--json", *save_options)
        result = finish(load)
        equal((save.code, result.code, result.err), (0, 0, ""))
        saved, loaded = save.json_lines()[-1], result.json_lines()[-1]
        assert loaded["digest_verified"], loaded
        equal(saved["total_bytes"], loaded["total_bytes"])
        prove_moved(a, b)
    equal([f for f in os.listdir(scratch) if f == "link"], [])


@test
def by_2_channels_over_unix(scratch):
    move(scratch, "unix:%s/link" % scratch, 2)


@test
def by_4_channels_over_unix_without_pre_copy(scratch):
    move(scratch, "unix:%s/link" % scratch, 4, "--no-precopy")


@test
def by_2_channels_over_tcp_without_pre_copy(scratch):
    move(scratch, "tcp:127.0.0.1:0", 2, "--no-precopy")


@test
def by_4_channels_over_tcp(scratch):
    move(scratch, "tcp:127.0.0.1:0", 4)


@test
def by_64_channels(scratch):
    move(scratch, "unix:%s/link" % scratch, 64, "--no-precopy")


@test
def a_v1_device_stays_on_the_first_connection(scratch):
    move(scratch, "unix:%s/link" % scratch, 2, interface="v1")


@test
def a_source_without_channels(scratch):
    """What came by the stream is under its seal, and has no digest of its own."""
    with device(scratch, "a", "--interface", "v2", "--start") as a, device(scratch, "b", "--interface", "v2") as b:
        load = start("load", b, "-i", "unix:%s/link" % scratch, "--multifd", "2", "--json")
        read_event(load, event="listening")
        run_ok("save", a, "-o", "unix:%s/link" % scratch)
        result = finish(load)
        equal((result.code, result.json_lines()[-1]["digest_verified"]), (0, True))
        prove_moved(a, b)


@test
def an_acknowledged_switch(scratch):
    move(scratch, "unix:%s/link" % scratch, 2, "--switchover-ack", load_options=["--switchover-ack"])


@test
def channels_name_the_machine(scratch):
    uuid = "12345678-9abc-def0-1234-56789abcdef0"
    move(scratch, "unix:%s/link" % scratch, 2, "--uuid", uuid, load_options=["--uuid", uuid])


@test
def two_devices(scratch):
    ids = ["--id", "0000:00:02.0/vfio", "--id", "0000:00:03.0/vfio"]
    with device(scratch, "a", *SIZE, *V2, "--start") as a, device(scratch, "b", *SIZE, *V2) as b, \
            device(scratch, "c", *V2, "--size", "1M", "--seed", "9", "--start") as c, \
            device(scratch, "d", *V2, "--size", "1M", "--seed", "9") as d:
        load = start("load", b, d, *ids, "-i", "unix:%s/link" % scratch, "--multifd", "3")
        run_ok("save", a, c, *ids, "-o", "unix:%s/link" % scratch, "--multifd", "3", "--no-precopy")
        equal(finish(load).code, 0)
        prove_moved(a, b)
        prove_moved(c, d)


@test
def wrong_calls(scratch):
    for options in (["--multifd", "0"], ["--multifd", "65"], ["--multifd", "two"], ["--uuid", "1234"],
                    ["--uuid", "12345678-9abc-def0-1234-56789abcdefg"]):
        equal(run("load", "sim:", "-i", "unix:/nowhere", *options).code, 2)
    equal(run("load", "sim:", "-i", "unix:/nowhere", "--max-queued", "0").code, 2)
    for command, link in (("save", "null:"), ("save", "exec:cat >/dev/null")):
        result = run(command, "sim:", "-o", link, "--multifd", "2")
        equal(result.code, 1)
        contains(result.err, "several need unix: or tcp:")
    result = run("save", "sim:", "-o", "null:", "--switchover-ack")
    contains(result.err, "return path")


# ------------------------------------------------------------------- by hand

def read_all(connections):
    """What comes by each of them, at the same time, to its end."""
    data = {c: b"" for c in connections}
    open_ones = list(connections)
    while open_ones:
        for c in select.select(open_ones, [], [])[0]:
            block = c.recv(1 << 20)
            data[c] += block
            if not block:
                open_ones.remove(c)
    return [data[c] for c in connections]


class Packet:
    """A device's packet; what is set afterwards makes it a wrong one."""

    def __init__(self, raw, data):
        self.magic, self.version, self.flags = struct.unpack(">III", raw[:12])
        self.id = raw[12:268]
        self.instance, self.size, self.body_version, self.index, self.kind = struct.unpack(">IIIII", raw[268:288])
        self.data = data

    def copy(self, **changes):
        packet = Packet(self.bytes(), self.data)
        for name, value in changes.items():
            assert hasattr(packet, name)
            setattr(packet, name, value)
        return packet

    def bytes(self):
        size = self.size if self.size is not None else len(self.data) + 12
        return struct.pack(">III", self.magic, self.version, self.flags) + self.id + \
            struct.pack(">IIIII", self.instance, size, self.body_version, self.index, self.kind) + self.data


def parse_channel(data):
    magic, version = struct.unpack(">II", data[:8])
    equal((magic, version, data[8:24], data[25:INIT]), (MAGIC, 1, bytes(16), bytes(39)))
    packets, at = [], INIT
    while at < len(data):
        size = struct.unpack(">I", data[at + 272:at + 276])[0]
        packets.append(Packet(data[at:at + HEAD], data[at + HEAD:at + 276 + size]))
        packets[-1].size = None
        at += 276 + size
    equal(at, len(data))
    return data[24], packets


def init(channel, uuid=bytes(16), magic=MAGIC, version=1):
    return struct.pack(">II", magic, version) + uuid + bytes([channel]) + bytes(39)


def memory(pages=b"", flags=0, size=None):
    """A packet of memory, or the mark between two rounds (flags 1)."""
    normal = len(pages) // 4096 if size is None else 1
    head = struct.pack(">IIIIII", MAGIC, 1, flags, 128, normal, len(pages) if size is None else size)
    return head + bytes(RAM_HEAD - len(head)) + pages


class Saved:
    """What vfmig saves of a device: the stream, and the packets of all channels in their order."""

    def __init__(self, scratch, *options):
        path = scratch + "/sink"
        with device(scratch, "a", *SIZE, *V2, "--start") as uri, socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(8)
            save = start("save", uri, "-o", "unix:" + path, "--multifd", str(CHANNELS), "--no-return-path",
                         "--no-precopy", *options)
            connections = [listener.accept()[0] for _ in range(CHANNELS + 1)]
            self.stream, *channels = read_all(connections)
            equal(finish(save).code, 0)
            for c in connections:
                c.close()
        os.unlink(path)
        parsed = [parse_channel(c) for c in channels]
        equal(sorted(number for number, _ in parsed), list(range(CHANNELS)))
        self.packets = sorted((p for _, packets in parsed for p in packets), key=lambda p: p.index)
        equal([p.index for p in self.packets], list(range(len(self.packets))))
        equal([p.kind for p in self.packets], [0] * (len(self.packets) - 1) + [CONFIG])

    @classmethod
    def once(cls, scratch):
        """The same one for every test."""
        if not hasattr(cls, "one"):
            cls.one = cls(scratch)
        return cls.one

    def in_pieces(self, length):
        """The same state in more packets: what a digest is over does not change, the number of packets does."""
        *data, config = self.packets
        whole = b"".join(p.data for p in data)
        pieces = [data[0].copy(index=i, data=whole[at:at + length], size=None)
                  for i, at in enumerate(range(0, len(whole), length))]
        return pieces + [config.copy(index=len(pieces), size=None)]


class Load:
    """vfmig loading, and connections to it."""

    def __init__(self, scratch, uri, *options, channels=CHANNELS):
        self.path = scratch + "/link"
        self.process = start("load", uri, "-i", "unix:" + self.path, "--multifd", str(channels), "--json", *options)
        read_event(self.process, event="listening")
        self.connections, self.senders = [], []

    def connect(self, data=b"", end=True):
        """All connections send at the same time, and end when they have sent what they have."""
        c = socket.socket(socket.AF_UNIX)
        try:
            c.connect(self.path)
        except (FileNotFoundError, ConnectionRefusedError):
            return  # it has refused an earlier one
        self.connections.append(c)
        self.senders.append(threading.Thread(target=self.send, args=(c, data, end), daemon=True))
        self.senders[-1].start()

    @staticmethod
    def send(connection, data, end):
        try:
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has refused, and says why itself

    def finish(self):
        result = finish(self.process)
        for sender in self.senders:
            sender.join()
        for c in self.connections:
            c.close()
        return result


def replay(scratch, saved, channels, *options, loaded=None, hold=0):
    """
    Loads from these channels' bytes; gives what vfmig said, the device being as it must be after that.
    hold: so many bytes of the stream's end do not come, but the connection stays.
    """
    with device(scratch, "b", *SIZE, *V2) as b:
        load = Load(scratch, b, *options)
        for data in channels:
            load.connect(data)
        load.connect(saved.stream[:len(saved.stream) - hold], end=not hold)
        result = load.finish()
        event = result.json_lines()[-1]
        equal(result.code, 0 if loaded else 1)
        equal((loads(b), state_of(b)), (1 if loaded else 0, "running"))
        if loaded:
            run_ok("prove", b)
        return event


def spread(packets, channels=CHANNELS):
    """The packets over the channels, each of which begins as it must."""
    return [init(i) + b"".join(p.bytes() for p in packets[i::channels]) for i in range(channels)]


@test
def channels_before_the_stream(scratch):
    saved = Saved.once(scratch)
    event = replay(scratch, saved, spread(saved.packets), loaded=True)
    assert event["digest_verified"], event


@test
def packets_in_any_order(scratch):
    saved = Saved.once(scratch)
    shuffled = random.Random(5)
    for order in ("reversed", "shuffled", "shuffled"):
        packets = saved.packets[::-1]
        if order == "shuffled":
            shuffled.shuffle(packets)
        assert replay(scratch, saved, spread(packets), loaded=True)["digest_verified"]


@test
def memory_on_the_channels(scratch):
    saved = Saved.once(scratch)
    noise = memory() + memory(b"x" * 40960) + memory(flags=1)
    channels = [init(0) + noise + b"".join(p.bytes() + noise for p in saved.packets[::2]),
                init(1) + noise + b"".join(p.bytes() + noise for p in saved.packets[1::2])]
    assert replay(scratch, saved, channels, loaded=True)["digest_verified"]


@test
def a_stranger_ends_nothing(scratch):
    saved = Saved.once(scratch)
    with device(scratch, "b", *SIZE, *V2) as b:
        load = Load(scratch, b)
        load.connect(b"GET / HTTP/1.0\r\n\r\n")
        load.connect()
        load.connect(end=False)  # says nothing at all
        for data in spread(saved.packets):
            load.connect(data)
        load.connect(saved.stream)
        load.connect(saved.stream[:100])
        result = load.finish()
        equal(result.code, 0)
        contains(result.err, "neither a migration stream nor a channel of one")
        contains(result.err, "closed before it said what it is")
        run_ok("prove", b)


def refused(name, expected, change, *options, **more):
    """A test of packets that must not come."""
    def body(scratch):
        saved = Saved.once(scratch)
        contains(replay(scratch, saved, change(saved), *options, **more)["error"], expected)
    body.__name__ = name.replace(" ", "_")
    test(body)


def after(packets, *more):
    """All of them, and something behind on the same channel."""
    return [init(0) + b"".join(p.bytes() for p in (*packets, *more)), init(1)]


refused("the same packet twice", "channel 0: packet 0 of %s: came before: expected 1" % ID,
        lambda s: after(s.packets[:1], s.packets[0], *s.packets[1:]))
refused("the same packet twice before its turn", "packet 1 of %s: comes twice" % ID,
        lambda s: after(s.packets[1:2], s.packets[1], *s.packets))
refused("the config record again", "comes behind packet",
        lambda s: after(s.packets, s.packets[-1]), hold=1)
refused("a second config record", "is a second config record",
        lambda s: after([s.packets[-1].copy(index=5, size=None)], s.packets[-1].copy(index=3, size=None)))
refused("a config record that is not the last", "is the config record, which must be the last, but packet 5 has come",
        lambda s: after([s.packets[0].copy(index=5, size=None)], s.packets[-1].copy(index=3, size=None)))
refused("a packet behind the config record", "comes behind packet 4, the config record, which is the last",
        lambda s: after([s.packets[-1].copy(index=4, size=None)], s.packets[0].copy(index=7, size=None)))
refused("a packet far ahead", "is more than 4096 ahead of packet 0",
        lambda s: after([s.packets[0].copy(index=4096, size=None)]))
refused("the last index there is", "is more than 4096 ahead of packet 0",
        lambda s: after([s.packets[-1].copy(index=0xffffffff, size=None)]))
refused("four gigabytes for the asking", "more than the limit of 67108864 (--max-queued)",
        lambda s: after([s.packets[0].copy(size=0xffffffff)]))
refused("more than may be queued", "while packet 0 has not come: more than the limit of 1048576 (--max-queued)",
        lambda s: after(s.in_pieces(65536)[1:]), "--max-queued", "1M")
refused("a device that nobody knows", "no VFIO section of the stream has this id",
        lambda s: after([s.packets[0].copy(id=b"0000:00:07.0/vfio".ljust(256, b"\0"), size=None)]))
refused("another instance", "no VFIO section of the stream has this id and instance 1",
        lambda s: after([s.packets[0].copy(instance=1, size=None)]))
refused("an id that does not end", "a device's packet whose id is empty or does not end",
        lambda s: after([s.packets[0].copy(id=b"x" * 256, size=None)]))
refused("unknown flags", "channel 0: a packet with the flags 0x80",
        lambda s: after([s.packets[0].copy(flags=0x80, size=None)]))
refused("unknown flags in a packet", "a device's packet with the flags 0x2, expected 0 or 0x1",
        lambda s: after([s.packets[0].copy(kind=2, size=None)]))
refused("a packet of another version", "a device's packet of version 1, expected 0",
        lambda s: after([s.packets[0].copy(body_version=1, size=None)]))
refused("a packet that is too small", "a device's packet of 11 bytes, expected at least 12",
        lambda s: after([s.packets[0].copy(size=11)]))
refused("another magic number", "0x11223345 where a packet was expected",
        lambda s: after([s.packets[0].copy(magic=MAGIC + 1, size=None)]))
refused("a config packet that is none", "no end of state behind a config record",
        lambda s: after(s.packets[:-1], s.packets[-1].copy(data=s.packets[-1].data[:-1], size=None)))
refused("a config packet with more in it", "that are no config record",
        lambda s: after(s.packets[:-1], s.packets[-1].copy(data=s.packets[-1].data + bytes(8), size=None)))
refused("a channel cut in a packet", "channel 0: packet 0 of %s: the connection was closed in the middle" % ID,
        lambda s: [spread(s.packets)[0][:INIT + HEAD + 100], init(1)])
refused("a channel cut in a head", "channel 1: the connection was closed in the middle of a packet",
        lambda s: [init(0), spread(s.packets)[1][:INIT + 100]])
refused("a packet that never comes", "closed before all of the devices' state had come",
        lambda s: spread(s.packets[:1] + s.packets[2:]))
refused("the config record never comes", "closed before all of the devices' state had come",
        lambda s: spread(s.packets[:-1]))
refused("another machine's channel", "another machine's uuid than was expected (--uuid)",
        lambda s: [init(0), init(1, uuid=b"\1" * 16)])
refused("a channel too many", "channel 2, expected one below 2", lambda s: [init(0), init(2)])
refused("the same channel twice", "channel 1, which has come already", lambda s: [init(1), init(1)])
refused("a channel of another version", "a channel's first packet of version 2, expected 1",
        lambda s: [init(0, version=2)])


@test
def a_channel_lost_while_the_source_waits(scratch):
    """With a return path the source keeps its channels until it is told: here nobody would ever end the wait."""
    saved = Saved.once(scratch)
    behind = 8 + 5 + struct.unpack(">I", saved.stream[9:13])[0]
    stream = saved.stream[:behind] + struct.pack(">BHH", 8, 1, 0) + saved.stream[behind:-1]
    with device(scratch, "b", *SIZE, *V2) as b:
        load = Load(scratch, b)
        load.connect(stream, end=False)
        load.connect(init(0), end=False)
        load.connect(init(1) + b"".join(p.bytes() for p in saved.packets[1:]))
        event = load.finish().json_lines()[-1]
        contains(event["error"], "channel 1: closed before all of the devices' state had come")
        equal((loads(b), state_of(b)), (0, "running"))


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


@test
def a_changed_byte_of_data(scratch):
    saved = Saved.once(scratch)
    packet = saved.packets[0]
    event = replay(scratch, saved, after([packet.copy(data=flipped(packet.data, 300), size=None), *saved.packets[1:]]))
    assert "digest" in event["error"] or "state" in event["error"], event


@test
def a_changed_byte_of_memory_in_a_page(scratch):
    """One that the device itself cannot notice."""
    saved = Saved.once(scratch)
    packet = saved.packets[-2] if len(saved.packets[-2].data) > 5000 else saved.packets[-3]
    changed = [p.copy(data=flipped(p.data, len(p.data) // 2), size=None) if p is packet else p for p in saved.packets]
    contains(replay(scratch, saved, after(changed))["error"], "the data's digest is")


@test
def a_changed_byte_of_the_config_record(scratch):
    saved = Saved.once(scratch)
    config = saved.packets[-1]
    # The cache line size: nobody's identity.
    changed = config.copy(data=flipped(config.data, 8 + 4 + 0x0c), size=None)
    contains(replay(scratch, saved, after(saved.packets[:-1], changed))["error"], "the config record's digest is")


@test
def a_loader_of_one_connection_says_what_it_got(scratch):
    with device(scratch, "b", *SIZE, *V2) as b:
        load = start("load", b, "-i", "unix:%s/link" % scratch, "--json")
        read_event(load, event="listening")
        with socket.socket(socket.AF_UNIX) as c:
            c.connect(scratch + "/link")
            c.sendall(init(0))
        contains(finish(load).err, "a channel of a migration by several connections: say how many (--multifd)")


@test
def a_loader_that_expects_no_channels(scratch):
    with device(scratch, "a", *SIZE, *V2, "--start") as a, device(scratch, "b", *SIZE, *V2) as b:
        load = start("load", b, "-i", "unix:%s/link" % scratch)
        contains(run_fails("save", a, "-o", "unix:%s/link" % scratch, "--multifd", "1").err, "refused the stream")
        contains(finish(load).err, "the source has connected channels, too: say how many (--multifd)")
        equal((state_of(a), state_of(b), loads(b)), ("running", "running", 0))


@test
def a_file_has_no_channels(scratch):
    with open(scratch + "/empty", "w+b") as f:
        result = run("load", "sim:", "-i", "fd:%d" % f.fileno(), "--multifd", "2", pass_fds=[f.fileno()])
        contains(result.err, "several need unix: or tcp:")
        result = run("load", "sim:", "-i", "-", "--multifd", "2", stdin=f)
        contains(result.err, "several need unix: or tcp:")


@test
def channels_by_an_inherited_listening_socket(scratch):
    with device(scratch, "a", *SIZE, *V2, "--start") as a, device(scratch, "b", *SIZE, *V2) as b, \
            socket.socket(socket.AF_UNIX) as listener:
        listener.bind(scratch + "/inherited")
        listener.listen(8)
        load = start("load", b, "-i", "fd:%d" % listener.fileno(), "--multifd", "2", pass_fds=[listener.fileno()])
        run_ok("save", a, "-o", "unix:%s/inherited" % scratch, "--multifd", "2", "--no-precopy")
        equal(finish(load).code, 0)
        prove_moved(a, b)


@test
def a_cancelled_loader_that_waits_for_a_channel(scratch):
    saved = Saved.once(scratch)
    with device(scratch, "b", *SIZE, *V2) as b:
        load = Load(scratch, b)
        load.connect(saved.stream, end=False)
        load.connect(init(0), end=False)
        read_event(load.process, event="phase", phase="stop-and-copy")
        load.process.send_signal(signal.SIGINT)
        event = load.finish().json_lines()[-1]
        equal((event["errno"], loads(b), state_of(b)), ("ECANCELED", 0, "running"))


main()
