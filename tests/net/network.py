#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""network.py [--full]: a device at work moved over links of a given rate, loss and delay: did it converge as it
should have, and was the downtime the one that was foretold? Prints a table; exit 1 if a row is not as it should be.

Two network namespaces and a veth pair; the rate is tbf's, the loss nftables', the delay netem's, or a relay's where the
kernel has no netem. --full takes about a quarter of an hour.
"""
import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading

VFMIG = os.environ.get("VFMIG", "build/vfmig")
RELAY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "relay.py")
SOURCE, DESTINATION = "vfmig-s%d" % os.getpid(), "vfmig-d%d" % os.getpid()
NEAR, FAR, PORT = "10.203.7.1", "10.203.7.2", 4444
PAYLOAD = 1448 / 1514  # of an Ethernet frame, of what tbf counts
PAGE = 4096
MIB = 1 << 20
LIMIT_MS = 300
TOLERATED = 20  # per cent, or milliseconds

# Mbit/s, loss in a thousand packets, ms each way, MiB of state, dirty rates in per cent of the link's
SHORT = [
    (500, 0, 0, 128, [0, 75, 150]),
    (500, 1, 10, 128, [50]),
    (200, 0, 25, 64, [50]),
]
FULL = [
    (500, 0, 0, 1024, [0, 25, 50, 75, 90, 110, 150]),
    (500, 1, 10, 1024, [0, 50, 75, 110]),
    (200, 0, 25, 1024, [0, 50, 110]),
]


def do(*args):
    return subprocess.run(args, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout


def inside(namespace, *args):
    return do("ip", "netns", "exec", namespace, *args)


def works(*args):
    return subprocess.run(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def why_not():
    if os.getuid() != 0:
        return "needs root, for network namespaces"
    for program in "ip", "tc", "nft":
        if not shutil.which(program):
            return "no program %s" % program
    name = SOURCE + "t"
    if not works("ip", "netns", "add", name):
        return "no network namespaces here"
    run = ["ip", "netns", "exec", name]
    try:
        if not works(*run, "ip", "link", "add", "t0", "type", "veth", "peer", "name", "t1"):
            return "the kernel has no veth"
        if not works(*run, "tc", "qdisc", "add", "dev", "t0", "root", "tbf", "rate", "1mbit", "burst", "32k",
                     "latency", "20ms"):
            return "the kernel has no tbf"
        if not works(*run, "nft", "add table inet t"):
            return "the kernel has no nftables"
    finally:
        do("ip", "netns", "del", name)
    return None


class Link:
    """Of two namespaces, in one direction; the other one has the delay only."""

    def __init__(self, mbit, permille, delay_ms):
        self.mbit, self.permille, self.delay_ms = mbit, permille, delay_ms
        self.bytes_per_s = mbit * 1e6 / 8 * PAYLOAD
        self.netem = False

    def __enter__(self):
        try:
            self.make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def make(self):
        ends = (SOURCE, NEAR, "s0"), (DESTINATION, FAR, "d0")
        for name, _, _ in ends:
            do("ip", "netns", "add", name)
        inside(SOURCE, "ip", "link", "add", "s0", "type", "veth", "peer", "name", "d0", "netns", DESTINATION)
        for name, address, device_name in ends:
            inside(name, "ip", "addr", "add", address + "/24", "dev", device_name)
            inside(name, "ip", "link", "set", device_name, "up")
            inside(name, "ip", "link", "set", "lo", "mtu", "1500", "up")
        # The burst is smaller than what the stack hands over in one piece, so that packets are of the wire's size.
        inside(SOURCE, "tc", "qdisc", "add", "dev", "s0", "root", "handle", "1:", "tbf", "rate", "%dmbit" % self.mbit,
               "burst", "32k", "latency", "20ms")
        if self.delay_ms:
            delay = ["netem", "delay", "%dms" % self.delay_ms, "limit", "100000"]
            self.netem = works("ip", "netns", "exec", DESTINATION, "tc", "qdisc", "add", "dev", "d0", "root", *delay)
            if self.netem:
                inside(SOURCE, "tc", "qdisc", "add", "dev", "s0", "parent", "1:", *delay)
        if self.permille:
            inside(DESTINATION, "nft", "add table inet loss;"
                   "add chain inet loss in { type filter hook input priority 0; };"
                   "add rule inet loss in meta l4proto tcp numgen random mod 1000 < %d drop" % self.permille)

    def __exit__(self, *_):
        for name in SOURCE, DESTINATION:
            works("ip", "netns", "del", name)

    @contextlib.contextmanager
    def way(self):
        """Where the source has to connect to."""
        if not self.delay_ms or self.netem:
            yield "tcp:%s:%d" % (FAR, PORT)
            return
        command = [sys.executable, RELAY, str(PORT), "%s:%d" % (FAR, PORT), str(self.delay_ms), str(self.bytes_per_s)]
        relay = subprocess.Popen(["ip", "netns", "exec", SOURCE, *command], stdout=subprocess.PIPE, text=True)
        try:
            relay.stdout.readline()
            yield "tcp:127.0.0.1:%d" % PORT
        finally:
            relay.kill()
            relay.wait()
            relay.stdout.close()


@contextlib.contextmanager
def device(folder, name, mib, *options):
    uri = "vfio-user:%s/%s" % (folder, name)
    process = subprocess.Popen([VFMIG, "device", uri, "--size", "%dM" % mib, *options], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout.readline().startswith("listening")
        yield uri
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def wait_for(process, event):
    for line in process.stdout:
        e = json.loads(line)
        if e["event"] == event:
            return e
    raise AssertionError("it ended before it said %r" % event)


class Row:
    def __init__(self, link, mib, percent):
        self.link, self.mib, self.percent = link, mib, percent
        self.dirty = link.bytes_per_s * percent / 100
        self.once_s = mib * MIB / link.bytes_per_s
        # Pages are written at random: one that is dirty is no dirtier. So what is pending comes to rest where as much
        # becomes dirty as is sent.
        rest_ms = max(0, 1 - 100 / percent) * self.once_s * 1000 if percent else 0
        self.predicted = "converges" if rest_ms + 4 * link.delay_ms < LIMIT_MS else "refused"
        wait_s = self.once_s / (1 - percent / 100) if percent < 100 else self.once_s * 2
        self.timeout_ms = int((wait_s * 1.5 + 5) * 1000)
        self.outcome = self.note = ""
        self.expected_ms = self.measured_ms = None
        self.intact = False

    def run(self, folder):
        options = ["--start", "--rate", str(round(self.dirty / PAGE))] if self.percent else ["--start", "--rate", "1"]
        with device(folder, "a", self.mib, *options) as a, device(folder, "b", self.mib) as b, self.link.way() as way:
            insecure = ["--insecure"] if "--insecure" in do(VFMIG, "save", "--help") else []
            load = subprocess.Popen(["ip", "netns", "exec", DESTINATION, VFMIG, "load", b, "-i",
                                     "tcp:%s:%d" % (FAR, PORT), "--json", *insecure],
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            wait_for(load, "listening")
            said = []
            reader = threading.Thread(target=lambda: said.append(load.communicate()[1]))
            reader.start()  # a full pipe would stop it
            save = subprocess.run(["ip", "netns", "exec", SOURCE, VFMIG, "save", a, "-o", way, "--json", *insecure,
                                   "--downtime-limit", str(LIMIT_MS), "--precopy-timeout", str(self.timeout_ms)],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
            reader.join(60)
            if reader.is_alive():  # nobody has come
                load.kill()
                reader.join()
            self.judge(save, load, said[0], json.loads(save.stdout.splitlines()[-1]))
            self.intact = works(VFMIG, "prove", *([a, b] if self.outcome == "converges" else [a]))

    def judge(self, save, load, said, result):
        if save.returncode == 0 and load.returncode == 0:
            self.outcome = "converges"
            self.expected_ms = result["expected_downtime_ns"] / 1e6
            self.measured_ms = result["downtime_ns"] / 1e6
        elif result["errno"] == "ETIME" and result["source_may_run"]:
            self.outcome = "refused"
        else:
            self.outcome = "failed"
            self.note = "%s; load: exit status %d %s" % (result["error"], load.returncode, said.strip())

    def difference(self):
        return self.measured_ms - self.expected_ms

    def good(self):
        close = self.expected_ms is None or abs(self.difference()) <= max(TOLERATED, self.expected_ms * TOLERATED / 100)
        return self.outcome == self.predicted and self.intact and close

    def text(self):
        link = self.link
        downtime = ["", "", ""]
        if self.expected_ms is not None:
            percent = 100 * self.difference() / max(self.expected_ms, 0.001)
            downtime = ["%.0f ms" % self.expected_ms, "%.0f ms" % self.measured_ms,
                        "%+.0f ms, %+.0f %%" % (self.difference(), percent)]
        cells = ["%d Mbit/s" % link.mbit, "%.1f %%" % (link.permille / 10), "%d ms" % link.delay_ms,
                 "%d MiB" % self.mib, "%d %%" % self.percent, self.predicted, self.outcome, *downtime,
                 "intact" if self.intact else "broken"]
        return "| %s |%s" % (" | ".join(cells), "" if self.good() else "  <- not as it should be %s" % self.note)


def one_row(mbit, permille, delay_ms, mib, percent):
    folder = tempfile.mkdtemp(prefix="vfmig-net-")
    try:
        with Link(mbit, permille, delay_ms) as link:
            row = Row(link, mib, percent)
            row.run(folder)
    finally:
        shutil.rmtree(folder)
    print(row.text(), flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", metavar="N", type=int, help="the N-th link alone, from 0")
    parser.add_argument("--dirty", metavar="PERCENT", type=int, help="this dirty rate alone")
    parser.add_argument("--tries", metavar="N", type=int, default=1,
                        help="of a row, one of which has to be good: on a machine that does other things as well")
    args = parser.parse_args()
    reason = why_not()
    if reason:
        print("skipped: " + reason)
        return 0
    with contextlib.suppress(OSError):  # it is the link that is measured, not what the machine does meanwhile
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    heads = "link", "loss", "delay each way", "state", "dirty rate", "predicted", "outcome", "expected", "measured", \
        "difference", "chain"
    print("| %s |\n%s|" % (" | ".join(heads), "|---" * len(heads)), flush=True)
    bad = 0
    table = FULL if args.full else SHORT
    for mbit, permille, delay_ms, mib, percents in table if args.only is None else [table[args.only]]:
        for percent in percents if args.dirty is None else [args.dirty]:
            bad += not any(one_row(mbit, permille, delay_ms, mib, percent).good() for _ in range(args.tries))
    return 1 if bad else 0


sys.exit(main())
