# SPDX-License-Identifier: BSD-3-Clause
"""qemu.py: a QEMU under the shim: its monitor, and its device's registers as a guest would reach them."""
import glob
import json
import os
import re
import select
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
import tap  # noqa: E402

BAR = 0xe0000000  # where the first device's BAR 0 is put; the next ones follow
BAR_STEP = 0x100000
CONTROL, RATE, STEP, CHAIN, RESUMED, LOADS = 0x08, 0x10, 0x28, 0x30, 0x40, 0x48
LOG_IOVA, LOG_ENTRIES, LOGGED, LATCH, LATCHED = 0x50, 0x58, 0x60, 0x80, 0x100
ON, SCATTER = 1, 2  # CONTROL's bits


class Version:
    """A QEMU: where it is, what its machine is called, and how it is told to migrate a device."""

    def __init__(self, name, binary, machine, option, interface):
        self.name, self.binary, self.machine, self.option, self.interface = name, binary, machine, option, interface

    def command(self):
        """What it is started by: one of a newer Debian has a C library of its own beside it, and data of its own."""
        prefix = os.path.join(os.path.dirname(self.binary), "..")
        if prefix.startswith("/usr/"):
            return [self.binary]
        data = ["-L", prefix + "/share/seabios", "-L", prefix + "/share/qemu"]
        loader = prefix + "/lib64/ld-linux-x86-64.so.2"
        if not os.path.exists(loader):
            return [self.binary, *data]
        return [loader, "--library-path", prefix + "/lib/x86_64-linux-gnu", self.binary, *data]

    def need(self):
        if not self.binary or not os.access(self.binary, os.X_OK):
            raise tap.Skip("no QEMU %s" % self.name)


def newer_qemu(version):
    """What scripts/fetch-backports has unpacked last."""
    cache = os.environ.get("VFMIG_LAB_CACHE") or os.path.expanduser("~/.cache/vfmig-lab")
    found = glob.glob(cache + "/qemu-%s*/usr/bin/qemu-system-x86_64" % version)
    return max(found, key=os.path.getmtime, default=None)


V7 = Version("7.2 (package qemu-system-x86)", "/usr/bin/qemu-system-x86_64", "pc-q35-7.2",
             "x-enable-migration=on", "v1")
V10 = Version("10.0 of bookworm-backports (scripts/fetch-backports unpacks it)", newer_qemu("1:10.0"), "pc-q35-10.0",
              "enable-migration=on", "v2")
NEWEST = newer_qemu("11.")
V11 = Version("11 of trixie-backports (scripts/fetch-backports trixie unpacks it)", NEWEST,
              "pc-q35-" + (re.search(r"/qemu-(\d+\.\d+)", NEWEST).group(1) if NEWEST else "11"), "enable-migration=on",
              "v2")


def listen(path):
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.listen(1)
    return s


def accept(listener, process):
    """The connection that the process makes; it may end instead."""
    while not select.select([listener], [], [], 0.1)[0]:
        if process.poll() is not None:
            raise AssertionError("it ended with %d: %s" % (process.returncode, process.stderr.read()))
    connection = listener.accept()[0]
    listener.close()
    return connection.makefile("rw")


def firmware(scratch, name, code):
    """Nothing but what a CPU does first, 16 bytes of it. A real one would move the BARs while the test uses them."""
    path = scratch + "/" + name
    with open(path, "wb") as f:
        f.write(bytes(65536 - 16) + code.ljust(16, b"\0"))
    return path


def idle_firmware(scratch):
    """A guest that waits: cli; hlt; and again."""
    return firmware(scratch, "idle", b"\xfa\xf4\xeb\xfc")


def writing_firmware(scratch):
    """A guest that counts in the first word of each of its first 128 pages, for ever."""
    return firmware(scratch, "writing", b"\x05\x00\x01"  # again: add ax, 0x100
                                        b"\x80\xe4\x7f"  # and ah, 0x7f
                                        b"\x8e\xd8"      # mov ds, ax
                                        b"\xff\x04"      # inc word [si]
                                        b"\xeb\xf4")     # jmp again


class Qemu:
    def __init__(self, scratch, version, uris, name="qemu", incoming=False, options="", machine=None, more=()):
        version.need()
        self.scratch, self.version = scratch, version
        paths = ["%s/%s.%s" % (scratch, name, what) for what in ("qmp", "qtest")]
        listeners = [listen(path) for path in paths]
        command = ["shim"]
        for uri in uris:
            command += ["--device", uri]
        command += ["--", *version.command(), "-accel", "tcg", "-display", "none", "-nodefaults", "-m", "64M",
                    "-machine", machine or version.machine, "-qmp", "unix:" + paths[0], "-qtest", "unix:" + paths[1],
                    "-qtest-log", "none"]
        command += ["-bios", idle_firmware(scratch)]
        command += ["-S", *(["-incoming", "defer"] if incoming else [])]
        for i in range(len(uris)):
            command += ["-device", "vfio-pci,sysfsdev={%d},addr=%d,rombar=0,%s%s" % (i, i + 1, version.option, options)]
        self.process = tap.start(*command, *more, stdout=subprocess.DEVNULL)
        self.qmp = accept(listeners[0], self.process)
        self.qtest = accept(listeners[1], self.process)
        self.qmp.readline()
        self.do("qmp_capabilities")

    def do(self, command, **arguments):
        self.qmp.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.qmp.flush()
        while True:
            line = self.qmp.readline()
            assert line, "QEMU is gone: %s" % self.process.stderr.read()
            answer = json.loads(line)
            assert "error" not in answer, answer["error"]["desc"]
            if "return" in answer:
                return answer["return"]

    def guest(self, *words):
        self.qtest.write(" ".join(str(w) for w in words) + "\n")
        self.qtest.flush()
        answer = self.qtest.readline().split()
        assert answer and answer[0] == "OK", "qtest %r: %r" % (words, answer)
        return int(answer[1], 16) if len(answer) > 1 else None

    def enable(self, index=0):
        """What a guest's firmware does: a place for BAR 0, memory and bus master on."""
        at = 0x80000000 | (index + 1) << 11
        for register, value in ((0x10, BAR + index * BAR_STEP), (0x04, 6)):
            self.guest("outl", 0xcf8, at | register)
            self.guest("outl", 0xcfc, value)

    def write(self, register, value, index=0):
        self.guest("writeq", BAR + index * BAR_STEP + register, value)

    def read(self, register, index=0):
        return self.guest("readq", BAR + index * BAR_STEP + register)

    def memory(self, address, length):
        self.qtest.write("read %d %d\n" % (address, length))
        self.qtest.flush()
        return self.qtest.readline()

    def work(self, steps, index=0, log=None, control=ON):
        """The device's engine on, until it has done so many steps."""
        self.enable(index)
        if log:
            self.write(LOG_IOVA, log[0], index)
            self.write(LOG_ENTRIES, log[1], index)
        self.write(CONTROL, control, index)
        while self.read(STEP, index) < steps:
            pass

    def use_tls(self, creds, endpoint):
        """Migrations by TLS from now on, by certificates or by a key."""
        kind = "tls-creds-psk" if os.path.exists(creds + "/keys.psk") else "tls-creds-x509"
        self.do("object-add", **{"qom-type": kind, "id": "tls0", "dir": creds, "endpoint": endpoint,
                                 "verify-peer": True})
        self.do("migrate-set-parameters", **{"tls-creds": "tls0"})

    def migration(self, command, **arguments):
        """Starts one and waits for its end."""
        self.do(command, **arguments)
        self.migrated()

    def migrated(self, status="completed"):
        """How it has ended."""
        while True:
            answer = self.do("query-migrate")
            if answer.get("status") in ("completed", "failed"):
                break
        assert answer["status"] == status, answer
        return answer

    def save(self, path, through="cat"):
        self.migration("migrate", uri="exec:%s>%s" % (through, path))

    def load(self, path, through="cat"):
        self.migration("migrate-incoming", uri="exec:%s %s" % (through, path))

    def quit(self):
        self.do("quit")
        err = self.process.communicate()[1]
        tap.equal(self.process.returncode, 0)
        return err
