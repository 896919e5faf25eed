#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""instructions.py: instructions of small fixed jobs, counted by callgrind, beside those in instructions.json.

Fails when one needs over 3 % more than is stored. Counts are of a compiler, a C library and a processor's
instruction set: with others nothing is compared, which is said. --store writes what was counted here.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
VFMIG = os.environ.get("VFMIG", os.path.join(HERE, "..", "build", "vfmig"))
STORED = os.path.join(HERE, "instructions.json")
MORE = 1.03
STATE = "sim:still=memcpy,size=16M,section=1M,interface="
BLOCK = "--memory=ram=%s/memory,size=8M"


def jobs(scratch):
    save, stream = ["save", "--quiet", "-o"], "file:%s/stream-%%s" % scratch
    result = {}
    for interface in ("v1", "v2"):
        device = STATE + interface
        subprocess.run([VFMIG, *save, stream % interface, device], check=True)
        result["save " + interface] = [*save, "null:", device]
        result["load " + interface] = ["load", "--quiet", "--no-sandbox", "-i", stream % interface, device]
    trapped = STATE + "v1,map=trapped"
    result["save v1, not mapped"] = [*save, "null:", trapped]
    result["dirty round"] = [*save, "null:", "sim:size=64K,rate=0,interface=v2", BLOCK % scratch]
    return result


def count(scratch, command):
    out = scratch + "/callgrind"
    done = subprocess.run(["valgrind", "--quiet", "--tool=callgrind", "--callgrind-out-file=" + out, VFMIG, *command],
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=300)
    if done.returncode:
        sys.exit("%s: exit %d: %s" % (" ".join(command), done.returncode, done.stderr))
    with open(out, encoding="utf-8") as f:
        return int(re.search(r"^(?:summary|totals): (\d+)", f.read(), re.M).group(1))


def made_with():
    """What the counts depend on besides the code."""
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        flags = set(re.search(r"^flags\s*:(.*)", f.read(), re.M).group(1).split())
    compiler = subprocess.run(["gcc", "-dumpfullversion"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    return {"gcc": compiler, "libc": " ".join(os.confstr("CS_GNU_LIBC_VERSION").split()),
            "cpu": " ".join(sorted(flags & {"avx", "avx2", "avx512f", "avx512bw", "bmi2", "erms", "fsrm"}))}


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--store", action="store_true")
    p.add_argument("--times", type=int, default=1, help="count so often, and print the spread")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        counted = {name: [count(scratch, command) for _ in range(args.times)]
                   for name, command in jobs(scratch).items()}
    now = {name: min(counts) for name, counts in counted.items()}
    before, here = {}, made_with()
    if os.path.exists(STORED):
        with open(STORED, encoding="utf-8") as f:
            before = json.load(f)
    if before.get("made with") != here and not args.store:
        print("not compared: stored with %s, here is %s; --store counts anew" % (before.get("made with"), here))
        before = {}
    wrong = []
    for name, n in now.items():
        ratio = n / before[name] if name in before else float("nan")
        print("%-20s %11d  stored %11s  %.3fx  spread %.4f %%" % (
            name, n, before.get(name, "-"), ratio, 100 * (max(counted[name]) / n - 1)))
        if before and not args.store and not ratio <= MORE:
            wrong.append(name)
    if args.store:
        with open(STORED, "w", encoding="utf-8") as f:
            json.dump({"made with": here, **now}, f, indent=1)
            f.write("\n")
    if wrong:
        sys.exit("more than %.0f %% more instructions than stored: %s" % ((MORE - 1) * 100, ", ".join(wrong)))


main()
