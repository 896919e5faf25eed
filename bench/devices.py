#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""devices.py [VFMIG]: the downtime of many devices in one live move against one device's, by turns.

Each device takes 50 ms for each of its transitions at the switch: three of them, into stop-and-copy and out of it at
the source, into running at the destination. Prints medians, spread and the ratio to one device as text.
"""
import json
import statistics
import subprocess
import sys
import tempfile

VFMIG = sys.argv[1] if len(sys.argv) > 1 else "build/vfmig"
TRANSITION_MS, TRANSITIONS = 50, 3
COUNTS, ROUNDS = (1, 4, 16, 64), 7


def devices(count, steps, more=""):
    faults = "".join(",fault=slow@%s:%d" % (step, TRANSITION_MS) for step in steps)
    args = []
    for n in range(count):
        args += ["sim:size=64K,interface=v2,seed=%d%s%s" % (n, more, faults), "--id", "0000:%02x:00.0/vfio" % n]
    return args


def downtime_ms(count, scratch):
    link = "unix:%s/link" % scratch
    load = subprocess.Popen([VFMIG, "load", *devices(count, ["to-running"]), "-i", link, "--quiet"],
                            stderr=subprocess.DEVNULL)
    save = subprocess.run([VFMIG, "save", *devices(count, ["to-stopcopy", "to-stop"], ",start"), "-o", link, "--json"],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=120)
    if save.returncode:
        load.kill()  # nobody will connect to it again
    if load.wait(timeout=120):
        sys.exit("the move of %d devices failed" % count)
    return json.loads(save.stdout.splitlines()[-1])["downtime_ns"] / 1e6


def main():
    got = {count: [] for count in COUNTS}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(ROUNDS):
            for count in COUNTS:
                got[count].append(downtime_ms(count, scratch))
    one = statistics.median(got[1])
    print("downtime, %d transitions of %d ms each, %d rounds by turns" % (TRANSITIONS, TRANSITION_MS, ROUNDS))
    print("%8s %12s %18s %14s" % ("devices", "median ms", "least to most", "to one device"))
    for count in COUNTS:
        ms = got[count]
        print("%8d %12.1f %8.1f to %6.1f %13.2fx" % (count, statistics.median(ms), min(ms), max(ms),
                                                      statistics.median(ms) / one))


main()
