# SPDX-License-Identifier: BSD-3-Clause
"""moves.py [COUNT[:FROM[:SEED]]]: moves of a device at work that writes into memory by DMA all the time, 1 GiB of it.

After each, the work is done again from nothing: every step of it, every byte of the device's state and every page of
the memory has to be what it must be, and a block that no device writes has to be as it was. Every tenth time the
device loses a page of each report of what it wrote: then the proof has to find it. A round follows from SEED and its
number; the first number is FROM. 1:NUMBER:SEED repeats a round.
"""
import filecmp
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

VFMIG = os.environ.get("VFMIG", "build/vfmig")
ROOM = 1 << 30  # what two blocks take of which most was never written is far less
MEMORY = "/dev/shm" if shutil.disk_usage("/dev/shm").free > ROOM else None  # files that are memory, where they fit
PAGES = 262144
LIMIT_S = 120  # for one program; each takes a second


class Failed(Exception):
    pass


class Round:
    def __init__(self, number, seed):
        self.random = random.Random("%s/%s" % (seed, number))
        self.scratch = tempfile.mkdtemp(prefix="vfmig-moves-")
        self.memory = tempfile.mkdtemp(prefix="vfmig-moves-", dir=MEMORY)
        self.processes = []
        self.log = []
        self.loses = number % 10 == 9
        self.interface = "v2" if self.loses else self.random.choice(["v2", "v2", "v2", "v1", "both"])
        self.dma = "map" if self.loses else self.random.choice(["map", "map", "map", "message"])
        self.precopy = self.loses or self.random.random() < 0.9

    def start(self, *args):
        self.log.append("$ vfmig " + " ".join(args))
        process = subprocess.Popen([VFMIG, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        self.processes.append(process)
        return process

    def finish(self, process, code=0):
        try:
            out, err = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired as why:
            raise Failed("%s hangs" % process.args[1]) from why
        self.log += [out.strip(), err.strip()]
        if process.returncode != code:
            raise Failed("%s: exit %d, expected %d" % (process.args[1], process.returncode, code))
        return out

    def device(self, name, *options):
        uri = "vfio-user:%s/%s" % (self.scratch, name)
        process = self.start("device", uri, "--interface", self.interface, *options)
        if not process.stdout.readline().startswith("listening"):
            raise Failed("device %s: %s" % (name, process.stderr.read()))
        return uri

    def block(self, side, name):
        return "%s/%s-%s" % (self.memory, side, name)

    def blocks(self, side):
        return ["--memory", "ram=%s,size=1G" % self.block(side, "ram"),
                "--memory", "rom=%s,size=4M,iova=0x100000000" % self.block(side, "rom")]

    def devices(self):
        size = "--size=%dM" % self.random.choice([1, 4, 16])
        rate = self.random.choice([2000, 10000, 30000])
        faults = ["--fault=lose-page@dirty-report"] if self.loses else []
        source = self.device("a", size, "--start", "--seed=%d" % self.random.randrange(1, 1 << 30), "--rate=%d" % rate,
                             "--scatter", "--log=0/%d" % PAGES, "--dma=%s" % self.dma, *faults)
        return source, self.device("b", size, "--dma=%s" % self.dma)

    def limits(self):
        limits = ["--downtime-limit=%d" % self.random.choice([20, 50, 300])]
        if self.random.random() < 0.3:
            limits.append("--max-bandwidth=%dM" % self.random.choice([200, 1000]))
        return limits + ([] if self.precopy else ["--no-precopy"])

    def move(self, source, destination):
        link = "unix:%s/link" % self.scratch
        load = self.start("load", destination, *self.blocks("b"), "-i", link, "--json",
                          *(["--no-start"] if self.loses else []))
        load.stdout.readline()  # it listens
        save = self.start("save", source, *self.blocks("a"), "-o", link, "--json", *self.limits())
        result = json.loads(self.finish(save).splitlines()[-1])
        self.finish(load)
        return result

    def check_numbers(self, result, claim):
        """As many pages as there are, and those again that were written meanwhile (by messages: told by both sides)."""
        sent = result["memory_pages"] + result["memory_zero_pages"]
        again = sent - PAGES - 1024  # the other block's
        self.log.append("%d pages again, %d steps logged, %d reports" % (again, claim["logged"], result["dirty_syncs"]))
        if not self.precopy:
            if again or result["dirty_syncs"]:
                raise Failed("stopped first, yet %d pages were sent again" % again)
            return
        if result["dirty_syncs"] < 2 or not 0 <= again <= claim["logged"] * (1 + (self.dma == "message")):
            raise Failed("%d pages were sent again after %d reports, and %d were written" % (
                again, result["dirty_syncs"], claim["logged"]))
        if claim["logged"] > 1000 and again == 0:
            raise Failed("%d pages were written and none was sent again" % claim["logged"])

    def prove(self, source, destination):
        proof = self.start("prove", source, destination, "--log", self.block("b", "ram"), "--json")
        if not self.loses:
            return json.loads(self.finish(proof))["devices"][0]
        if filecmp.cmp(self.block("a", "ram"), self.block("b", "ram"), shallow=False):
            raise Failed("no page was lost, which was the point")
        said = json.loads(self.finish(proof, code=1))
        if said["right"] or "page" not in said["error"]:
            raise Failed("a page was lost, and the proof says: %s" % said.get("error"))
        return said["devices"][0]

    def run(self):
        with open(self.block("a", "rom"), "wb") as rom:
            rom.write(self.random.randbytes(4 << 20))
        source, destination = self.devices()
        result = self.move(source, destination)
        claim = self.prove(source, destination)
        if not filecmp.cmp(self.block("a", "rom"), self.block("b", "rom"), shallow=False):
            raise Failed("the block that nobody writes is another")
        if not self.loses:
            self.check_numbers(result, claim)

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        shutil.rmtree(self.scratch, ignore_errors=True)
        shutil.rmtree(self.memory, ignore_errors=True)


def slice_of(text):
    """The numbers of COUNT rounds from FROM on, and SEED."""
    count, first, seed = (text.split(":", 2) + ["", ""])[:3]
    return range(int(first or 0), int(first or 0) + int(count)), seed or "1"


def main():
    rounds, seed = slice_of(sys.argv[1] if len(sys.argv) > 1 else "20")
    failed, began = 0, time.monotonic()
    lost = 0
    for number in rounds:
        one = Round(number, seed)
        try:
            one.run()
            lost += one.loses
        except Failed as why:
            failed += 1
            print("round %d of seed %s: %s\n  %s" % (number, seed, why, "\n  ".join(one.log)))
        finally:
            one.close()
    print("moves with 1 GiB of memory at work: %d from number %d of seed %s, %d failed; "
          "of %d a page was lost on purpose and found (%d s)" % (
              len(rounds), rounds.start, seed, failed, lost, time.monotonic() - began))
    sys.exit(1 if failed else 0)


main()
