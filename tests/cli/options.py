# SPDX-License-Identifier: BSD-3-Clause
"""options.py: what --help lists and what the manual page describes are the same."""
import os
import re

from tap import equal, main, run_ok, test

PAGE = os.environ["VFMIG_MAN"]
COMMANDS = ["check", "device", "devices", "dirty", "inspect", "load", "preflight", "probe", "prove", "recover",
            "report", "save"]


def in_help(command):
    found = set(re.findall(r"^ +(?:-\w, +)?--([a-z0-9-]+)", run_ok(command, "--help").out, re.M))
    return found - {"help", "usage", "version"}


def in_page(command):
    text = open(PAGE, encoding="utf-8").read()
    section = re.search(r"^## vfmig %s$(.*?)^##? " % command, text, re.M | re.S)
    assert section, "no section of its own"
    heads = [line for line in section.group(1).splitlines() if line.startswith("*")]
    return set(re.findall(r"\*--([a-z0-9-]+)\*", " ".join(heads)))


def compare(command):
    def body(scratch):
        equal(sorted(in_page(command)), sorted(in_help(command)))
    body.__name__ = "options_of_" + command
    test(body)


for name in COMMANDS:
    compare(name)
main()
