# SPDX-License-Identifier: BSD-3-Clause
"""memory.py: how much memory the command needs for a state that is much larger."""
import contextlib
import os
import shutil
import subprocess

from tap import VFMIG, Skip, contains, device, equal, main, run_ok, state_of, test

STATE = "16G"
PEAK_KIB = 64 << 10
DEVICES = 16
MORE_KIB = 4 << 10  # a buffer for each of sixteen would be as much already


def start(*args):
    return subprocess.Popen((VFMIG,) + args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def peak_kib(process, code=0):
    """Waits for it; ru_maxrss is this one process's own."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    equal(process.returncode, code)
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


def write_bomb(scratch, path):
    """A stream with 1 GiB of memory, each page the same, which zstd makes some MiB of."""
    with open(scratch + "/page", "wb") as f:
        f.write(b"\x01" * 4096)
    plain = scratch + "/plain"
    run_ok("save", "sim:size=64K", "--memory", "ram=%s/page" % scratch, "-o", "file:" + plain)
    with open(plain, "rb") as f:
        data = f.read()
    first = data.index(b"\x01" * 4096) - 12  # offset and flags, the block's name
    pages = data[first:first + 12 + 4096] * 256
    with open(path, "wb") as out, subprocess.Popen(["zstd", "-q", "-c"], stdin=subprocess.PIPE, stdout=out) as pack:
        pack.stdin.write(data[:first])
        for _ in range(1024):
            pack.stdin.write(pages)
        pack.stdin.close()
        equal(pack.wait(), 0)


@test
def one_gib_from_a_few_compressed_mib(scratch):
    if not shutil.which("zstd"):
        raise Skip("no zstd(1) here")
    path = scratch + "/bomb"
    write_bomb(scratch, path)
    assert os.path.getsize(path) < 8 << 20, os.path.getsize(path)
    inspect = subprocess.Popen((VFMIG, "inspect", path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    contains(inspect.stderr.read(), "offset 0x40")  # it has come to the end, which is missing
    peak = peak_kib(inspect, 1)
    print("# inspect: %d KiB at most" % peak, flush=True)
    assert peak < PEAK_KIB, peak


main()
