# SPDX-License-Identifier: BSD-3-Clause
"""check_faults.py: what vfmig check finds of each fault of the software device, as the table in doc/check.md has it.

`check_faults.py print` prints the table's rows anew.
"""
import concurrent.futures
import json
import os
import re
import sys
import tempfile

import tap
from tap import device, equal, run, run_ok, test

DOC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../doc/check.md")
# The middle of a state of 60K is in a page, not between two of its records.
DEVICES = {"v2": "size=60K,interface=v2", "v1": "size=60K", "v1, trapped": "size=60K,map=trapped",
           "vfio-user v2": "size=60K,interface=v2"}
SLOW, LIMIT = 20, 10  # ms: what a slow fault takes, and what a device may
OPTIONS = ["--json", "--yes", "--iterations=2", "--timeout=400"]
UNSEEN = "-"


def faults():
    """Every kind at every step where it is possible."""
    kind = None
    for line in run_ok("device", "--help-faults").out.split("\nSteps:")[0].splitlines():
        head = re.match(r"  ([a-z-]+)  ", line)
        if head:
            kind = head.group(1)
        elif line.startswith("     ") and kind:
            for step in line.split():
                yield "%s@%s%s" % (kind, step, ":%d" % SLOW if kind == "slow" else "")


def failing(uri, limit):
    result = run("check", uri, *OPTIONS, "--limit=%d" % limit)
    assert result.code in (0, 1) and result.err.count("vfmig check:") == result.err.count("this will"), result.err
    report, = result.json_lines()
    return [c["name"] for c in report["checks"] if c["result"] == "fail"]


def found(name, fault):
    options = DEVICES[name] + (",fault=" + fault if fault else "")
    limit = LIMIT if fault and fault.startswith("slow") else 60000
    if not name.startswith("vfio-user"):
        return failing("sim:" + options, limit)
    with tempfile.TemporaryDirectory(prefix="vfmig-cli-") as folder:
        with device(folder, "a", *["--" + o for o in options.split(",")]) as uri:
            return failing(uri, limit)


def all_found(name):
    """The processes do the work, two at a time."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        names = list(faults())
        return dict(zip(names, pool.map(lambda fault: found(name, fault), names)))


def table():
    with open(DOC, encoding="utf-8") as f:
        rows = [[cell.strip() for cell in line.strip("|\n ").split(" | ")] for line in f if line.startswith("| ")]
    at = next(n for n, row in enumerate(rows) if row[0] == "fault")
    names = rows[at][1:]
    return {name: {row[0].strip("`"): [] if row[i] == UNSEEN else row[i].split(" ")
                   for row in rows[at + 1:] if "@" in row[0]} for i, name in enumerate(names, 1)}


def compare(name):
    def body(scratch):
        equal(found(name, None), [])
        expected, got = table()[name], all_found(name)
        equal(sorted(got), sorted(expected))
        for fault, checks in got.items():
            equal((fault, checks), (fault, expected[fault]))
    body.__name__ = "faults_of_" + name.replace(", ", "_").replace(" ", "_").replace("-", "_")
    test(body)


if sys.argv[1:] == ["print"]:
    columns = {name: all_found(name) for name in DEVICES}
    print("| fault | %s |\n| --- |%s" % (" | ".join(DEVICES), " --- |" * len(DEVICES)))
    for each in faults():
        print("| `%s` | %s |" % (each, " | ".join(" ".join(columns[n][each]) or UNSEEN for n in DEVICES)))
else:
    tap.LIMIT = 240
    for each in DEVICES:
        compare(each)
    tap.main()
