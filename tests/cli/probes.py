# SPDX-License-Identifier: BSD-3-Clause
"""probes.py: the USDT probes are in the command and the library, and examples/phases.bt shows what goes on by them."""
import os
import re
import shutil
import subprocess

from tap import VFMIG, Skip, equal, main, run_ok, test

EXAMPLE = os.environ["VFMIG_EXAMPLE"]


def need(program):
    if os.environ["VFMIG_PROBES"] != "1":
        raise Skip("built without sys/sdt.h (Debian: systemtap-sdt-dev)")
    if not shutil.which(program):
        raise Skip("there is no " + program)


@test
def the_files_name_them(scratch):
    need("readelf")
    for path in [VFMIG, os.environ["LIBVFMIG"]]:
        notes = subprocess.check_output(["readelf", "-n", "-W", path], text=True)
        found = re.findall(r"Provider: (\w+)\s+Name: (\w+)\s+.*\s+Arguments: (.*)", notes)
        equal({(provider, name, len(arguments.split())) for provider, name, arguments in found},
              {("vfmig", "phase", 2), ("vfmig", "transition_begin", 3), ("vfmig", "transition_end", 4)})


def traced(*command):
    """What the example prints of a command, the times away."""
    need("bpftrace")
    if os.geteuid() != 0:
        raise Skip("bpftrace needs root")
    # In a namespace of its own: the machine's mounts stay as they are.
    alone = ["unshare", "--mount", "--propagation", "private", "sh", "-c",
             '{ [ -e /sys/kernel/tracing/trace ] || mount -t tracefs tracefs /sys/kernel/tracing; } && exec "$@"',
             "sh"]
    mounted = subprocess.run(alone + ["true"], stderr=subprocess.PIPE, text=True, check=False)
    if mounted.returncode != 0:
        raise Skip("tracefs cannot be mounted: " + " ".join(mounted.stderr.split()))
    path = os.path.abspath(VFMIG)
    done = subprocess.run(alone + ["bpftrace", "-c", " ".join((path,) + command), EXAMPLE, path],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"^\d\d:\d\d:\d\d \d+ (.*)$", done.stdout, re.M)
    return [re.sub(r"\d+ us", "N us", line) for line in lines]


@test
def a_save_under_bpftrace(scratch):
    uri = "sim:size=1M"
    equal(traced("save", uri, "-o", "null:", "-q"),
          ["save: setup", uri + ": running to pre-copy: N us", "save: pre-copy", "save: stop-and-copy",
           uri + ": pre-copy to stop-and-copy: N us", uri + ": stop-and-copy to stopped: N us", "save: completing",
           "save: done"])


@test
def a_load_under_bpftrace(scratch):
    uri, stream = "sim:size=1M,interface=v2", scratch + "/stream"
    run_ok("save", uri, "-o", "file:" + stream)
    equal(traced("load", uri, "-i", "file:" + stream, "-q", "--no-verify-first"),
          ["load: setup", uri + ": running to resuming: N us", "load: pre-copy", "load: stop-and-copy",
           uri + ": resuming to running-p2p: N us", uri + ": running-p2p to running: N us", "load: completing",
           "load: done"])


@test
def a_save_that_fails_under_bpftrace(scratch):
    uri = "sim:size=1M,interface=v2,fault=errno@to-stopcopy"
    lines = traced("save", uri, "-o", "null:", "-q")
    assert uri + ": pre-copy-p2p to stop-and-copy: N us, failed" in lines, lines
    equal([line for line in lines if line.startswith("save: ")],
          ["save: setup", "save: pre-copy", "save: stop-and-copy", "save: failed"])


main()
