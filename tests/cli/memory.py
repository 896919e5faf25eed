# SPDX-License-Identifier: BSD-3-Clause
"""memory.py: how much memory the command needs for a state that is much larger."""
import os
import subprocess

from tap import VFMIG, device, equal, main, run_ok, state_of, test

STATE = "8G"
PEAK_KIB = 64 << 10


def start(*args):
    return subprocess.Popen((VFMIG,) + args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def peak_kib(process):
    """Waits for it; ru_maxrss is this one process's own."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    equal(process.returncode, 0)
    return usage.ru_maxrss


@test
def eight_gib_in_64_mib(scratch):
    with device(scratch, "a", "--size", STATE, "--start") as source, \
            device(scratch, "b", "--size", STATE) as destination:
        load = start("load", destination, "-i", "unix:%s/link" % scratch)
        save = start("save", source, "-o", "unix:%s/link" % scratch)
        peaks = peak_kib(save), peak_kib(load)
        print("# %s of state: save %d KiB, load %d KiB at most" % ((STATE,) + peaks), flush=True)
        assert max(peaks) < PEAK_KIB, peaks
        equal(state_of(destination), "running")
        run_ok("prove", source, destination)


main()
