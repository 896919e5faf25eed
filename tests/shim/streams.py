#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Streams of real QEMUs in every layout they have: inspect accounts for each to its last byte, and lint has nothing
to say."""
import json
import os
import socket
import threading
from struct import pack

import qemu
import tap
from qemu import V7, V10, V11, Qemu
from tap import test

ID = "0000:00:01.0/vfio"
SIZE = "size=1M,section=64K,rate=2000"
CHANNELS = 2
# A machine with something of everything that has sections of its own.
MORE = ["-device", "virtio-net-pci,romfile=,addr=8", "-device", "virtio-rng-pci,addr=9", "-device",
        "qemu-xhci,id=usb,addr=10", "-device", "usb-tablet,bus=usb.0", "-device", "e1000e,romfile=,addr=11",
        "-device", "virtio-balloon-pci,addr=12", "-device", "VGA,addr=13,romfile=", "-device",
        "ich9-ahci,id=ahci,addr=14", "-m", "64M,maxmem=1G,slots=1", "-object", "memory-backend-ram,id=vm0,size=128M",
        "-device", "virtio-mem-pci,memdev=vm0,id=vm,addr=15", "-smp", "2", "-serial", "null"]


def source(scratch, version, working, capabilities=(), options="", parameters=(), **kwargs):
    """A QEMU with a device; working: it and the device go on while they are saved."""
    q = Qemu(scratch, version, ["sim:%s,interface=%s" % (SIZE, version.interface)], options=options, **kwargs)
    q.do("migrate-set-capabilities", capabilities=[{"capability": c, "state": True} for c in capabilities])
    for key, value in dict(parameters).items():
        q.do("migrate-set-parameters", **{key: value})
    if working:
        q.do("cont")
        q.work(100)
    return q


def document(path, *options):
    return json.loads(tap.run_ok("inspect", "--json", *options, path).out)


def check(path, begin=0):
    """Every byte belongs to a record, each record begins where the last one ended, and no rule is broken."""
    seen = document(path)
    at = begin
    for r in seen["records"]:
        if r["type"] == "packet":
            continue
        if r["type"] == "section-end":
            at += r["bytes"]
        tap.equal(r["offset"], at)
        at += r["length"]
    tap.equal(at, os.path.getsize(path))
    tap.equal(seen["result"]["intact"], True)
    lint = json.loads(tap.run_ok("inspect", "--lint", "--json", path).out)
    tap.equal(lint["findings"], [])
    return seen["records"]


def sections(records):
    return {r["id"] for r in records if r["type"] == "section"}


def memory(records):
    """Its blocks by name, with the pages that were in the stream."""
    (eof,) = [r for r in records if r["type"] == "eof"]
    return {b["name"]: b for b in eof["ram_blocks"]}


def by_exec(scratch, version, working, capabilities=(), **kwargs):
    q = source(scratch, version, working, capabilities, **kwargs)
    q.save(scratch + "/stream")
    q.quit()
    records = check(scratch + "/stream")
    assert {ID, "ram", "timer", "cpu"} <= sections(records), sections(records)
    tap.equal(memory(records)["pc.ram"]["bytes"], 64 << 20)
    assert sum(r["bytes"] for r in records if r.get("packet") == "DATA") >= 1 << 20
    return records


def by_file(scratch, version, working, capabilities=(), offset=0, **kwargs):
    q = source(scratch, version, working, capabilities, **kwargs)
    path = scratch + "/stream"
    q.migration("migrate", uri="file:%s%s" % (path, ",offset=%d" % offset if offset else ""))
    q.quit()
    return path


def named(name, function, *arguments, **kwargs):
    """A test of that name which calls the function."""
    def run(scratch):
        function(scratch, *arguments, **kwargs)
    run.__name__ = name
    test(run)


def mapped(scratch, version, working, *capabilities, parameters=()):
    path = by_file(scratch, version, working, ["mapped-ram", *capabilities], parameters=parameters)
    blocks = memory(check(path))
    ram = blocks["pc.ram"]
    tap.equal((ram["bytes"], ram["pages_offset"] % (1 << 20)), (64 << 20, 0))
    assert blocks["pc.bios"]["pages"]["mapped"] > 0, blocks
    tap.contains(tap.run_ok("inspect", path).out, "pages at %#x" % ram["pages_offset"])
    with tap.device(scratch, "b", *["--" + o for o in SIZE.split(",")], "--interface=" + version.interface) as b:
        tap.run_ok("load", b, "-i", "file:" + path)  # the device alone


class Destination:
    """Takes a migration by several connections and keeps what comes over each of them; to a source with a return path
    it says what one says that has loaded all."""

    def __init__(self, scratch):
        self.path, self.received = scratch + "/link", []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(8)
        self.threads = [threading.Thread(target=self.accept)]
        self.threads[0].start()

    def accept(self):
        for _ in range(1 + CHANNELS):
            connection = self.listener.accept()[0]
            self.received.append(bytearray())
            self.threads.append(threading.Thread(target=self.take, args=(connection, self.received[-1])))
            self.threads[-1].start()

    @staticmethod
    def take(connection, received):
        answered = done = False
        while piece := connection.recv(1 << 20):
            received += piece
            main = received.startswith(b"QEVM")
            if main and not answered:
                connection.sendall(pack(">HHI", 2, 4, 1))  # the answer to its ping
                answered = True
            at = received.rfind(b"\0\6", max(0, len(received) - (1 << 20)))
            if main and not done and at >= 0 and received[at + 2:at + 6] == pack(">I", len(received) - at - 6):
                connection.sendall(pack(">HHI", 1, 4, 0))  # loaded
                done = True
        connection.close()

    def files(self, scratch):
        """The stream, and what came over the channels."""
        for thread in self.threads:
            thread.join()
        self.listener.close()
        paths = []
        for i, received in enumerate(sorted(self.received, key=lambda r: not r.startswith(b"QEVM"))):
            paths.append("%s/connection%d" % (scratch, i))
            with open(paths[-1], "wb") as f:
                f.write(received)
        return paths[0], paths[1:]


def check_channel(path, whole):
    """Every byte of it belongs to a packet. Those of devices."""
    seen = document(path)
    tap.equal(json.loads(tap.run_ok("inspect", "--lint", "--json", path).out)["findings"], [])
    at = 0
    for r in seen["records"]:
        tap.equal(r["offset"], at)
        at += r["length"]
    tap.equal(at, os.path.getsize(path))
    tap.equal((seen["records"][0]["type"], seen["result"]["bytes"]), ("channel", at))
    whole += [r for r in seen["records"] if r.get("packet") == "device"]
    return seen["records"][0]["channel"]


def by_channels(scratch, version, working, transfer):
    options = ",x-migration-multifd-transfer=" + ("on" if transfer else "off") if version is not V7 else ""
    q = source(scratch, version, working, ["multifd", "return-path"], options,
               {"multifd-channels": CHANNELS, "downtime-limit": 60000})
    destination = Destination(scratch)
    q.migration("migrate", uri="unix:" + destination.path)
    q.quit()
    stream, channels = destination.files(scratch)
    records, packets = check(stream), []
    tap.equal(len([r for r in records if r.get("packet") == "CONFIG"]), 0 if transfer else 1)
    tap.equal(sorted(check_channel(path, packets) for path in channels), list(range(CHANNELS)))
    packets.sort(key=lambda r: r["index"])
    tap.equal([r["index"] for r in packets], list(range(len(packets))))
    if transfer:
        tap.equal(["config" in r for r in packets], [False] * (len(packets) - 1) + [True])
        tap.equal((packets[-1]["id"], packets[-1]["config"]["space_bytes"]), (ID, 4096))
    else:
        tap.equal(packets, [])


for version in (V7, V10, V11):
    number = version.name.split()[0].replace(".", "_")
    for working in (False, True):
        state = "at_work" if working else "stopped"
        named("qemu_%s_%s" % (number, state), by_exec, version, working)
        named("qemu_%s_%s_with_more_devices" % (number, state), by_exec, version, working, more=MORE)
        named("qemu_%s_%s_by_channels" % (number, state), by_channels, version, working, False)
    named("qemu_%s_with_xbzrle" % number, by_exec, version, True, ["xbzrle"])
    named("qemu_%s_that_leaves_shared_memory_out" % number, by_exec, version, True, ["x-ignore-shared"])
for version in (V10, V11):
    number = version.name.split()[0].replace(".", "_")
    for working in (False, True):
        state = "at_work" if working else "stopped"
        named("qemu_%s_%s_to_a_file" % (number, state), lambda *a: check(by_file(*a)), version, working)
        named("qemu_%s_%s_with_mapped_ram" % (number, state), mapped, version, working)
        named("qemu_%s_%s_with_mapped_ram_and_channels" % (number, state), mapped, version, working, "multifd",
              parameters={"multifd-channels": CHANNELS})
        named("qemu_%s_%s_with_its_device_by_channels" % (number, state), by_channels, version, working, True)
named("qemu_7_2_with_compressed_memory", by_exec, V7, True, ["compress"])

tap.main()
