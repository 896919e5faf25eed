# SPDX-License-Identifier: BSD-3-Clause
"""memory.py: how much memory the command needs for a state that is much larger."""
import contextlib
import os
import subprocess

from tap import VFMIG, device, equal, main, run_ok, state_of, test

STATE = "16G"
PEAK_KIB = 64 << 10
DEVICES = 16
MORE_KIB = 4 << 10  # a buffer for each of sixteen would be as much already


def start(*args):
    return subprocess.Popen((VFMIG,) + args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def peak_kib(process):
    """Waits for it; ru_maxrss is this one process's own."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    equal(process.returncode, 0)
    return usage.ru_maxrss


@test
def sixteen_gib_in_64_mib(scratch):
    with device(scratch, "a", "--size", STATE, "--start") as source, \
            device(scratch, "b", "--size", STATE) as destination:
        load = start("load", destination, "-i", "unix:%s/link" % scratch)
        save = start("save", source, "-o", "unix:%s/link" % scratch)
        peaks = peak_kib(save), peak_kib(load)
        print("# %s of state: save %d KiB, load %d KiB at most" % ((STATE,) + peaks), flush=True)
        assert max(peaks) < PEAK_KIB, peaks
        equal(state_of(destination), "running")
        run_ok("prove", source, destination)


def peaks_of(scratch, count):
    """Of a save and a load of so many devices, which are served by others."""
    ids = [arg for n in range(count) for arg in ("--id", "0000:%02x:00.0/vfio" % n)]
    stream = "file:%s/stream-%d" % (scratch, count)
    with contextlib.ExitStack() as served:
        def serve(name, n, *options):
            return served.enter_context(device(scratch, "%s%d-%d" % (name, count, n), "--size", "1M", "--interface",
                                               "v2", "--seed", str(n), *options))
        save = peak_kib(start("save", *[serve("a", n, "--start") for n in range(count)], *ids, "-o", stream))
        load = peak_kib(start("load", *[serve("b", n) for n in range(count)], *ids, "-i", stream))
    return save, load


@test
def devices_share_their_buffers(scratch):
    one, many = peaks_of(scratch, 1), peaks_of(scratch, DEVICES)
    print("# save and load: 1 device %d and %d KiB, %d devices %d and %d KiB" % (*one, DEVICES, *many), flush=True)
    for a, b in zip(one, many):
        assert b - a < MORE_KIB, (one, many)


main()
