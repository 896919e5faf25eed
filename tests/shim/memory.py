#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Real QEMUs' guest memory, which CPU and device write while it moves: byte for byte at the other side, or refused."""
import contextlib
import json
import os
import tempfile

import qemu
import tap  # qemu knows the way to it
from qemu import V7, V10, Qemu
from tap import test

RAM, RAM_BYTES = "ram0", 64 << 20  # the memory backend's id is the block's name
ROMS = ["pc.bios", "pc.rom", "/rom@etc/acpi/tables", "/rom@etc/table-loader", "/rom@etc/acpi/rsdp"]
LOG = (0x1000000, 4096)  # pages that the device writes to, one each step
DEVICE = ["size=1M", "section=64K", "rate=5000"]
ROUNDS = 4  # while everything runs


def options(version, *more):
    return DEVICE + ["interface=" + version.interface, *more]


@contextlib.contextmanager
def folder():
    """For memory: what is written at random should not go to a disk."""
    with tempfile.TemporaryDirectory(prefix="vfmig-memory-", dir="/dev/shm") as path:
        yield path


def start(scratch, version, ram, firmware=qemu.writing_firmware, **kwargs):
    """A QEMU whose memory is the file, with a CPU and a device that write to it once told to."""
    backend = "memory-backend-file,id=%s,size=%d,share=on,mem-path=%s" % (RAM, RAM_BYTES, ram)
    return Qemu(scratch, version, ["sim:" + ",".join(options(version))],
                machine="%s,memory-backend=%s" % (version.machine, RAM),
                more=["-object", backend, "-bios", firmware(scratch)], **kwargs)


def at_work(scratch, version, ram):
    source = start(scratch, version, ram)
    source.do("cont")
    source.work(1000, log=LOG, control=qemu.ON | qemu.SCATTER)
    return source


def migrate_after_rounds(source, uri):
    """Slowly, and in no hurry to end, until memory has been looked at so many times; gives QEMU's figures."""
    source.do("migrate-set-parameters", **{"downtime-limit": 1, "max-bandwidth": 32 << 20})
    source.do("migrate", uri=uri)
    rounds = 0
    while rounds <= ROUNDS:
        answer = source.do("query-migrate")
        assert answer.get("status") not in ("completed", "failed"), answer
        rounds = answer.get("ram", {}).get("dirty-sync-count", 0)
    source.do("migrate-set-parameters", **{"downtime-limit": 300, "max-bandwidth": 1 << 30})
    return source.migrated()["ram"]


def memory_options(path, skip=()):
    return ["--memory", "%s=%s,size=%d" % (RAM, path, RAM_BYTES), *("--skip-memory=" + s for s in (*ROMS, *skip))]


def same(a, b):
    """Are two files' bytes the same? Says how many pages are not."""
    with open(a, "rb") as f, open(b, "rb") as g:
        one, other = f.read(), g.read()
    tap.equal((len(one), len(other)), (RAM_BYTES, RAM_BYTES))
    wrong = [at for at in range(0, RAM_BYTES, 4096) if one[at:at + 4096] != other[at:at + 4096]]
    assert not wrong, "%d pages differ, the first at 0x%x" % (len(wrong), wrong[0])


def log_of(path, ram):
    """The device's log, as a file of its own."""
    with open(ram, "rb") as f, open(path, "wb") as g:
        f.seek(LOG[0])
        g.write(f.read(LOG[1] * 4096))
    return path


def claim(uri, *more):
    return json.loads(tap.run_ok("prove", "--json", uri, *more).out)


def told(what, ram, result):
    print("# %s: QEMU sent %d pages and %d zero ones in %d rounds; loaded %d and %d"
          % (what, ram["normal"], ram["duplicate"], ram["dirty-sync-count"], result["memory_pages"],
             result["memory_zero_pages"]), flush=True)


def moves_live(scratch, version):
    """All of the file is compared, where nothing writes any more; that the log is whole says the same of the device."""
    with folder() as shm, tap.device(scratch, "b", *("--" + o for o in options(version))) as b:
        source = at_work(scratch, version, shm + "/source")
        load = tap.start("load", b, "-i", "unix:%s/link" % scratch, "--json", "--no-start",
                         *memory_options(shm + "/destination"))
        ram = migrate_after_rounds(source, tap.read_event(load, event="listening")["link"])
        result = tap.finish(load)
        assert result.code == 0, result.err
        told("live", ram, result.json_lines()[-1])
        same(shm + "/source", shm + "/destination")
        step = source.read(qemu.STEP)
        after = claim(b, "--log", log_of(shm + "/log", shm + "/destination"))
        tap.equal(after["devices"][0]["step"], step)
        tap.equal(after["log"]["last"], step)
        source.quit()


@test
def qemu_10_0_moves_its_memory_live_to_vfmig(scratch):
    moves_live(scratch, V10)


@test
def qemu_7_2_moves_its_memory_live_to_vfmig(scratch):
    moves_live(scratch, V7)


tap.main()
