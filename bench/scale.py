#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""scale.py: whole moves between two vfmigs, of 4 KiB to 16 GiB, 1 to 64 devices, 1 to 4 channels, and what digests,
compression and TLS cost; see doc/speed.md.

The state follows from seed and offset and is looked at by the loading device; nobody stores it. What is left after the
stop is all of it. Each move is made --rounds times, in turns; medians are printed, and written as JSON.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
VFMIG = os.environ.get("VFMIG", os.path.join(TOP, "build", "vfmig"))
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
# name: both sides' options, the save's alone
WAYS = {
    "unix": ([], []),
    "unix, no digest": ([], ["--no-digest"]),
    "unix, zstd": ([], ["--compress", "zstd"]),
    "tcp": ([], []),
    "tcp, TLS": (["--tls-creds"], []),
}
SIZES = [4 * KIB, 64 * KIB, MIB, 16 * MIB, 256 * MIB, GIB, 4 * GIB, 16 * GIB]


def moves(most):
    """name: what is varied; interface, bytes of each device, devices, channels (0: all by one connection)."""
    for interface in ("v1", "v2"):
        for size in SIZES:
            if size <= most:
                yield "%s, 1 device" % interface, (interface, size, 1, 0)
    for count in (1, 4, 16, 64):
        yield "v2, devices of 16 MiB", ("v2", 16 * MIB, count, 0)
    for channels in (0, 1, 2, 4):
        yield "v2, channels", ("v2", min(GIB, most), 1, channels)
    for way in WAYS:
        yield "v2, ways", ("v2", min(256 * MIB, most), 1, 0, way)


def devices(interface, size, count):
    section = "1M" if count > 1 else "16M"
    return ["sim:still=memcpy,check=spot,section=%s,size=%d,seed=%d,interface=%s" % (section, size, n, interface)
            for n in range(count)]


def started(*command):
    return subprocess.Popen([VFMIG, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def listening(load):
    for line in load.stdout:
        said = json.loads(line)
        if said["event"] == "listening":
            return said["link"]
    sys.exit("the load does not listen")


def used(process):
    """Its CPU seconds and peak memory, once it has ended."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, "%r ended with %d" % (process.args[:2], process.returncode)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss


def credentials(folder):
    """A key that both sides know: nothing has to be signed."""
    with open(folder + "/keys.psk", "w", encoding="ascii") as f:
        f.write("qemu:%s\n" % os.urandom(32).hex())
    return folder


def move(interface, size, count, channels, way="unix"):
    both, options = WAYS[way]
    uris = devices(interface, size, count)
    uris += [arg for n in range(count) for arg in ("--id", "0000:%02x:00.0/vfio" % n)]
    uris += ["--multifd", str(channels)] if channels else []
    with tempfile.TemporaryDirectory() as scratch:
        both = both + [credentials(scratch)] if both else both
        link = "tcp:127.0.0.1:0" if way.startswith("tcp") else "unix:" + scratch + "/link"
        load = started("load", *uris, *both, "-i", link, "--json")
        link = listening(load)
        reading = threading.Thread(target=load.stdout.read)  # it stops when nobody takes its events
        reading.start()
        save = started("save", *uris, *both, "-o", link, "--json", *options)
        said = json.loads(save.stdout.read().splitlines()[-1])
        save_cpu, save_peak = used(save)
        reading.join()
        load_cpu, load_peak = used(load)
    all_bytes = size * count
    return {"downtime_ms": said["downtime_ns"] / 1e6, "gib_s": all_bytes / GIB / (said["elapsed_ns"] / 1e9),
            "save_cpu_s": save_cpu, "load_cpu_s": load_cpu, "save_peak_kib": save_peak, "load_peak_kib": load_peak}


def text(size):
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit:
            return "%d %s" % (size // unit, name)
    return "%d" % size


def size_of(argument):
    return int(argument[:-1]) << {"K": 10, "M": 20, "G": 30}[argument[-1]]


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--most", type=size_of, default=16 * GIB, help="the largest state (16G)")
    p.add_argument("--output", default=os.path.join(os.path.dirname(VFMIG), "bench", "scale.json"))
    args = p.parse_args()
    rows = list(moves(args.most))
    runs = [[] for _ in rows]
    for _ in range(args.rounds):
        for row, (_, what) in zip(runs, rows):
            row.append(move(*what))
    result, before = [], None
    for row, (name, what) in zip(runs, rows):
        if name != before:
            print("%s\n  %10s %7s %8s %12s %8s %10s %10s %12s %12s" % (
                name, "bytes", "devices", "channels", "downtime ms", "GiB/s", "save CPU s", "load CPU s",
                "save KiB", "load KiB"))
        before = name
        m = {key: statistics.median(r[key] for r in row) for key in row[0]}
        print("  %10s %7d %8d %12.2f %8.2f %10.3f %10.3f %12d %12d" % (
            text(what[1]), what[2], what[3], m["downtime_ms"], m["gib_s"], m["save_cpu_s"], m["load_cpu_s"],
            m["save_peak_kib"], m["load_peak_kib"]) + ("  " + what[4] if len(what) > 4 else ""))
        result.append({"name": name, "interface": what[0], "bytes": what[1], "devices": what[2], "channels": what[3],
                       "way": what[4] if len(what) > 4 else "unix",
                       "median": m, "runs": row})
    with open(args.output, "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1)
    sys.exit(0)


main()
