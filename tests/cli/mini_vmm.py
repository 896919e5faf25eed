# SPDX-License-Identifier: BSD-3-Clause
"""mini_vmm.py: examples/mini-vmm.c, which brings a participant of its own, on both sides of a move."""
import os
import subprocess

from tap import contains, device, equal, main, run_ok, state_of, test

LIMIT = 50


def vmm(what, uri, link):
    return subprocess.Popen([os.environ["MINI_VMM"], what, uri, link], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True)


def moved(a, b, scratch):
    """Exit status, what was said on stdout and stderr; of the source, then of the destination."""
    link = "unix:%s/link" % scratch
    sides = [vmm("load", b, link), vmm("save", a, link)]
    try:
        said = [side.communicate(timeout=LIMIT) for side in reversed(sides)]
    finally:
        for side in sides:
            side.kill()
            side.wait()
    return [(side.returncode, *words) for side, words in zip(reversed(sides), said)]


@test
def its_guest_goes_on_over_there(scratch):
    with device(scratch, "a", "--size", "1M", "--start") as a, device(scratch, "b", "--size", "1M") as b:
        source, destination = moved(a, b, scratch)
        equal((source[0], destination[0]), (0, 0))
        contains(source[1], "stopped at")
        contains(destination[1], "counting on at")
        counts = [int(side[1].split()[-1]) for side in (source, destination)]
        assert 1000 <= counts[0] <= counts[1], counts
        run_ok("prove", a, b)


@test
def its_guest_goes_on_here_when_the_other_side_refuses(scratch):
    with device(scratch, "a", "--size", "1M", "--start") as a, device(scratch, "b", "--size", "64K") as b:
        source, destination = moved(a, b, scratch)
        equal((source[0], destination[0]), (1, 1))
        contains(source[1], "counting on at")
        contains(destination[1], "stopped at")
        equal(state_of(a), "running")


main()
