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

RAM_BYTES = 64 << 20  # in one block "ram0", or more of them: a memory backend's id is its block's name
ROMS = ["pc.bios", "pc.rom", "/rom@etc/acpi/tables", "/rom@etc/table-loader", "/rom@etc/acpi/rsdp"]
LOG = (0x1800000, 4096)  # the pages that the device writes to, one each step; in the second of two blocks, too
LOG_OPTIONS = ["log=0x%x/%d" % LOG, "scatter"]
DEVICE = ["size=1M", "section=64K", "rate=5000"]
ID = "0000:00:01.0/vfio"
ROUNDS = 4  # while everything runs
ENDS = ("completed", "failed")

# QEMU 7.2 loses pages that its own emulation of a CPU writes, also to another QEMU 7.2: there only the device writes.
FIRMWARE = {V7: qemu.idle_firmware, V10: qemu.writing_firmware}


def options(version, *more):
    return DEVICE + ["interface=" + version.interface, *more]


def words(version, *more):
    return ["--" + o for o in options(version, *more)]


@contextlib.contextmanager
def folder():
    """For memory: what is written here and there all the time should not go to a disk."""
    with tempfile.TemporaryDirectory(prefix="vfmig-memory-", dir="/dev/shm") as path:
        yield path


def start(scratch, version, ram, blocks=1, device=None, fault=(), **kwargs):
    """A QEMU whose memory is files, and their bytes one behind the other."""
    more = ["-bios", FIRMWARE[version](scratch)]
    for i in range(blocks):
        more += ["-object", "memory-backend-file,id=ram%d,size=%d,share=on,mem-path=%s%d"
                 % (i, RAM_BYTES // blocks, ram, i)]
        more += ["-numa", "node,memdev=ram%d" % i] if blocks > 1 else []
    return Qemu(scratch, version, [device or "sim:" + ",".join(options(version, *fault))],
                machine=version.machine + (",memory-backend=ram0" if blocks == 1 else ""), more=more, **kwargs)


def at_work(scratch, version, ram, blocks=1, **kwargs):
    source = start(scratch, version, ram, blocks, **kwargs)
    source.do("cont")
    source.work(1000, log=LOG, control=qemu.ON | qemu.SCATTER)
    return source


def migrate_again(source, uri):
    """Once the one that has failed is cleared away, which comes after its failing is told."""
    while any(instance["type"] == "migration" for instance in source.do("query-yank")):
        pass
    source.do("migrate", uri=uri)


def capability(source, name, on):
    source.do("migrate-set-capabilities", capabilities=[{"capability": name, "state": on}])


def hurry(source, on):
    """Whether a migration is in a hurry to end, or goes on slowly as long as memory is written."""
    source.do("migrate-set-parameters", **{"downtime-limit": 300 if on else 1,
                                        "max-bandwidth": 1 << 30 if on else 32 << 20})


def migrate_after_rounds(source, uri):
    """
    Not in a hurry until memory has been looked at so many times; gives QEMU's figures. Where CPU and device had no time
    to write anything it ends all the same.
    """
    hurry(source, False)
    migrate_again(source, uri)
    answer = {}
    while answer.get("ram", {}).get("dirty-sync-count", 0) <= ROUNDS and answer.get("status") not in ENDS:
        answer = source.do("query-migrate")
    hurry(source, True)
    ram = source.migrated()["ram"]
    assert ram["dirty-sync-count"] > 2, ram
    return ram


def memory_options(path, blocks=1, total=RAM_BYTES, skip=ROMS):
    memory = ["--memory=ram%d=%s%d,size=%d" % (i, path, i, total // blocks) for i in range(blocks)]
    return memory + ["--skip-memory=" + s for s in skip]


def read(path, blocks=1):
    parts = []
    for i in range(blocks):
        with open("%s%d" % (path, i), "rb") as f:
            parts.append(f.read())
    return b"".join(parts)


def differing(a, b, blocks=1):
    """How many pages of two memories are not the same."""
    one, other = read(a, blocks), read(b, blocks)
    tap.equal((len(one), len(other)), (RAM_BYTES, RAM_BYTES))
    return sum(one[at:at + 4096] != other[at:at + 4096] for at in range(0, RAM_BYTES, 4096))


def untouched(path, size):
    """Not a page of it was ever there."""
    status = os.stat(path)
    tap.equal((status.st_size, status.st_blocks), (size, 0))


def log_of(path, ram, blocks=1):
    """The device's log, as a file of its own."""
    with open(path, "wb") as f:
        f.write(read(ram, blocks)[LOG[0]:LOG[0] + LOG[1] * 4096])
    return path


def claim(uri, *more):
    result = tap.run("prove", "--json", uri, *more)
    assert result.code == 0, (result.out, result.err)
    return json.loads(result.out)


def check_moved(source, uri, shm, blocks=1):
    """All of the memory, where nothing writes any more, and that the device is where it stopped."""
    tap.equal(differing(shm + "/source", shm + "/destination", blocks), 0)
    step = source.read(qemu.STEP)
    after = claim(uri, "--log", log_of(shm + "/log", shm + "/destination", blocks))
    device = after["devices"][0]
    tap.equal((device["step"], device["resumed_step"], device["loads"]), (step, step, 1))
    tap.equal((device["not_logged"], after["log"]["last"]), (0, step))


def tell(ram, result):
    last = result.json_lines()[-1]
    print("# QEMU sent %d pages and %d zero ones in %d rounds; loaded %d and %d, %d bytes, downtime %.1f ms" % (
        ram["normal"], ram["duplicate"], ram["dirty-sync-count"], last["memory_pages"], last["memory_zero_pages"],
        last["total_bytes"], last["downtime_ns"] / 1e6), flush=True)


def finish_live(scratch, source, uri, shm, blocks=1, check=True):
    """A migration straight into a waiting vfmig."""
    load = tap.start("load", uri, "-i", "unix:%s/link" % scratch, "--json", "--no-start",
                     *memory_options(shm + "/destination", blocks))
    ram = migrate_after_rounds(source, tap.read_event(load, event="listening")["link"])
    result = tap.finish(load)
    assert result.code == 0, result.err
    tell(ram, result)
    if check:
        check_moved(source, uri, shm, blocks)
    source.quit()


def moves_live(scratch, version, **kwargs):
    version.need()
    with folder() as shm, tap.device(scratch, "b", *words(version)) as b:
        finish_live(scratch, at_work(scratch, version, shm + "/source", **kwargs), b, shm)


@test
def qemu_10_0_moves_its_memory_live_to_vfmig(scratch):
    moves_live(scratch, V10)


@test
def qemu_10_0_moves_its_memory_of_two_nodes_live_to_vfmig_with_a_return_path(scratch):
    V10.need()
    with folder() as shm, tap.device(scratch, "b", *words(V10)) as b:
        source = at_work(scratch, V10, shm + "/source", 2)
        capability(source, "return-path", True)
        finish_live(scratch, source, b, shm, 2)


@test
def a_page_that_the_device_does_not_tell_qemu_10_0_of_is_old(scratch):
    """What the others would find."""
    V10.need()
    with folder() as shm, tap.device(scratch, "b", *words(V10)) as b:
        source = at_work(scratch, V10, shm + "/source", fault=["fault=lose-page@dirty-report"])
        finish_live(scratch, source, b, shm, check=False)
        assert differing(shm + "/source", shm + "/destination") > 0


@test
def qemu_10_0_moves_its_memory_live_to_vfmig_with_dirty_tracking_by_the_container(scratch):
    moves_live(scratch, V10, options=",x-device-dirty-page-tracking=off")


@test
def qemu_7_2_moves_its_memory_live_to_vfmig(scratch):
    moves_live(scratch, V7)


def moves_by_file(scratch, version):
    """One that is cut off is found out before a page is loaded."""
    version.need()
    with folder() as shm, tap.device(scratch, "b", *words(version)) as b:
        source = at_work(scratch, version, shm + "/source")
        stream = shm + "/stream"
        ram = migrate_after_rounds(source, "exec:cat>" + stream)
        length = os.path.getsize(stream)
        with open(stream, "rb") as f, open(shm + "/cut", "wb") as g:
            g.write(f.read(length * 3 // 4))
        arguments = [b, "--json", "--no-start", *memory_options(shm + "/destination")]
        tap.equal(tap.run("load", "-i", "file:%s/cut" % shm, *arguments).code, 1)
        untouched(shm + "/destination0", RAM_BYTES)
        tap.equal(claim(b)["devices"][0]["loads"], 0)
        result = tap.run_ok("load", "-i", "file:" + stream, *arguments)
        check_moved(source, b, shm)
        tell(ram, result)
        source.quit()


@test
def qemu_10_0_saves_its_memory_to_a_file_and_vfmig_loads(scratch):
    moves_by_file(scratch, V10)


@test
def qemu_7_2_saves_its_memory_to_a_file_and_vfmig_loads(scratch):
    moves_by_file(scratch, V7)


def moves_live_back(scratch, version):
    """To a QEMU, which asks for no more than what the stream has: its ROMs stay what they are."""
    version.need()
    with folder() as shm, tap.device(scratch, "a", *words(version, "start", *LOG_OPTIONS)) as a, \
            tap.device(scratch, "b", *words(version)) as b:
        with open(shm + "/source0", "wb") as f:
            f.write(os.urandom(4 << 20))
            f.truncate(RAM_BYTES)
        destination = start(scratch, version, shm + "/destination", device=b, incoming=True)
        link = "unix:%s/link" % scratch
        destination.do("migrate-incoming", uri=link)
        result = tap.run_ok("save", a, "-o", link, "--machine", version.machine, "--id", ID, "--json",
                            "--max-bandwidth=32M", *memory_options(shm + "/source", skip=[]))
        destination.migrated()
        tap.equal(differing(shm + "/source", shm + "/destination"), 0)
        last = result.json_lines()[-1]
        assert last["memory_pages"] + last["memory_zero_pages"] > RAM_BYTES // 4096, "no page was sent twice"
        goes_on_in_qemu(destination)
        after = claim(a, b, "--log", log_of(shm + "/log", shm + "/destination"))
        tap.equal(after["devices"][1]["loads"], 1)
        print("# sent %d pages and %d zero ones, asked %d times, %d bytes, downtime %.1f ms; log of steps %d to %d" % (
            last["memory_pages"], last["memory_zero_pages"], last["dirty_syncs"], last["total_bytes"],
            last["downtime_ns"] / 1e6, after["log"]["first"], after["log"]["last"]), flush=True)


def goes_on_in_qemu(destination):
    """The device, into QEMU's memory."""
    destination.do("cont")
    destination.enable()
    logged = destination.read(qemu.LOGGED)
    while destination.read(qemu.LOGGED) < logged + 100:
        pass
    destination.quit()


@test
def vfmig_moves_its_memory_live_to_qemu_10_0(scratch):
    moves_live_back(scratch, V10)


@test
def vfmig_moves_its_memory_live_to_qemu_7_2(scratch):
    moves_live_back(scratch, V7)


def goes_on(source):
    """A QEMU whose migration has failed runs, and so does its device."""
    tap.equal(source.do("query-status")["status"], "running")
    step = source.read(qemu.STEP)
    while source.read(qemu.STEP) < step + 10:
        pass


def refused(scratch, source, uri, message, *load_options):
    """A live migration that vfmig does not take, and from which the source goes on; gives vfmig's lines."""
    load = tap.start("load", uri, "-i", "unix:%s/link" % scratch, "--json", "--no-start", *load_options)
    migrate_again(source, tap.read_event(load, event="listening")["link"])
    result = tap.finish(load)
    tap.equal(result.code, 1)
    lines = result.json_lines()
    tap.contains(lines[-1]["error"], message)
    source.migrated("failed")
    goes_on(source)
    print("# " + lines[-1]["error"])
    return lines


def refused_file(scratch, source, uri, name, *load_options):
    """One that goes only to a file: a copy of the guest, which is left stopped by it and goes on."""
    hurry(source, True)
    capability(source, name, True)
    migrate_again(source, "file:%s/stream" % scratch)
    source.migrated()
    capability(source, name, False)
    source.do("cont")
    tap.contains(tap.run_fails("load", uri, "-i", "file:%s/stream" % scratch, *load_options).err,
                 "the capability %s cannot be loaded: switch it off at the source" % name)
    goes_on(source)


def refused_blocks(scratch, source, uri, shm):
    """All that does not fit is said, and nothing is loaded."""
    lines = refused(scratch, source, uri, '(and 3 more)', "--memory=other=%s/other,size=4K" % shm,
                    *memory_options(shm + "/small", total=RAM_BYTES // 2, skip=ROMS[2:]))
    tap.equal([line["message"] for line in lines if "memory: block" in line.get("message", "")], [
        'memory: block "ram0" has 0x4000000 bytes in the stream and 0x2000000 here',
        'memory: block "pc.rom" (0x20000 bytes) has no memory here: give it some, or skip it',
        'memory: block "pc.bios" (0x10000 bytes) has no memory here: give it some, or skip it',
        'memory: block "other" is not in the stream'])
    untouched(shm + "/small0", RAM_BYTES // 2)
    untouched(shm + "/other", 4096)


def refusals(scratch, version, *names):
    """What QEMU was refused does not keep it from moving in the end, all of it."""
    version.need()
    with folder() as shm, tap.device(scratch, "b", *words(version)) as b:
        source = at_work(scratch, version, shm + "/source")
        refused_blocks(scratch, source, b, shm)
        for name in names:
            capability(source, name, True)
            hurry(source, name != "xbzrle")  # which is of pages that were sent before
            for more in [[], ["--multifd=2"]] if name == "multifd" else [[]]:
                refused(scratch, source, b, "capability " + name, *memory_options(shm + "/destination"), *more)
            capability(source, name, False)
        if version is V10:
            refused_file(scratch, source, b, "mapped-ram", *memory_options(shm + "/destination"))
        finish_live(scratch, source, b, shm)


@test
def qemu_10_0_is_refused_and_goes_on(scratch):
    refusals(scratch, V10, "x-ignore-shared", "multifd", "xbzrle")


@test
def qemu_7_2_is_refused_and_goes_on(scratch):
    """Without multifd: a QEMU 7.2 whose channels were closed hangs or is gone at times."""
    refusals(scratch, V7, "x-ignore-shared", "postcopy-ram", "compress")


tap.main()
