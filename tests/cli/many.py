# SPDX-License-Identifier: BSD-3-Clause
"""many.py: sixty-four devices in one migration."""
import contextlib

from tap import contains, device, equal, finish, main, run_fails, run_ok, start, state_of, test

COUNT = 64
IDS = [arg for n in range(COUNT) for arg in ("--id", "0000:%02x:00.0/vfio" % n)]


def sims(count, options=""):
    """So many of them inside the command, each its own."""
    return ["sim:size=64K,seed=%d%s" % (n, options) for n in range(count)]


@test
def moved_live(scratch):
    """Four of them served by others and at work, the rest inside the command."""
    link = "unix:%s/link" % scratch
    with contextlib.ExitStack() as served:
        def serve(name, *options):
            return served.enter_context(device(scratch, name, "--size", "64K", "--interface", "v2", *options))
        sources = [serve("s%d" % n, "--seed", str(n), "--start") for n in range(4)]
        destinations = [serve("d%d" % n) for n in range(4)]
        load = start("load", *destinations, *sims(COUNT - 4, ",interface=v2"), *IDS, "-i", link, "--json")
        # A limit that 64 devices keep under a sanitizer, too: how long it takes is not what is looked at here.
        saved = run_ok("save", *sources, *sims(COUNT - 4, ",interface=v2,start"), *IDS, "-o", link, "--json",
                       "--downtime-limit", "10000")
        loaded = finish(load)
        equal(loaded.code, 0)
        for result, states in ((saved, "stopped"), (loaded, "running")):
            devices = result.json_lines()[-1]["devices"]
            equal([d["id"] for d in devices], IDS[1::2])
            equal({d["state"] for d in devices}, {states})
        for source, destination in zip(sources, destinations):
            run_ok("prove", source, destination)


@test
def one_that_fails_takes_all_back(scratch):
    with device(scratch, "a", "--size", "64K", "--interface", "v2", "--start") as a, \
            device(scratch, "b", "--size", "64K", "--interface", "v2", "--start") as b:
        others = sims(COUNT - 3, ",interface=v2,start")
        bad = "sim:size=64K,interface=v2,start,fault=errno@to-stopcopy:EBUSY"
        result = run_fails("save", a, *others, bad, b, *IDS, "-o", "null:")
        contains(result.err, bad + ": ")
        equal((state_of(a), state_of(b)), ("running", "running"))


main()
