#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What the shim answers to VFIO's system calls, and which calls it takes over."""
import json
import os
import re
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
import tap  # noqa: E402
from tap import test  # noqa: E402

INSIDE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "inside.py")
DEVICE = "size=64K,section=16K,rate=20000"


def program(*args):
    return ["--", sys.executable, INSIDE, *args]


def inside(name, *options, device=DEVICE):
    tap.run_ok("shim", "--device", ",".join([device, *options]), *program(name))


@test
def vfmig_check_finds_nothing_wrong(_):
    """By the kernel's own ioctls, data_fds included."""
    for device, passed in [("size=64K,interface=v2", 94), ("size=64K,map=mixed", 57)]:
        result = tap.run_ok("shim", "--device", device, "--", tap.VFMIG, "check", "sysfs:{0}", "--yes", "--json")
        report, = result.json_lines()
        tap.equal((report["pass"], report["fail"], report["skip"]), (passed, 0, 0))


@test
def opening_containers_groups_and_devices(_):
    inside("opening")


@test
def regions_and_their_mappings(_):
    inside("regions")


@test
def dma_and_its_dirty_pages(_):
    inside("dma")


@test
def a_v1_device_has_no_migration_feature(_):
    inside("features_v1")


@test
def device_features_and_the_data_fd(_):
    inside("features", "interface=v2")


@test
def fork_and_close_range(_):
    inside("fork")


@test
def a_device_given_to_another_program(scratch):
    with tap.device(scratch, "d", "--size=64K") as uri:
        taker = tap.start("shim", *program("take", scratch + "/give"))
        tap.equal(taker.stdout.readline(), "listening\n")
        tap.run_ok("shim", "--device", uri, *program("give", scratch + "/give"))
        result = tap.finish(taker)
        assert result.code == 0, result.err


@test
def the_program_s_exit_status_and_arguments(_):
    result = tap.run("shim", "-d", DEVICE, "-d", DEVICE, "--", "sh", "-c", "echo {0} {1} $VFMIG_SHIM_1; exit 7")
    tap.equal(result.code, 7)
    paths = result.out.split()
    tap.equal([os.path.basename(p) for p in paths], ["0000:f0:00.0", "0000:f0:01.0", "0000:f0:01.0"])
    assert not os.path.exists(paths[0]), "left behind: " + paths[0]
    tap.equal(tap.run("shim", "--", "/nonexistent").code, 127)
    tap.equal(tap.run("shim", "--", "sh", "-c", "kill -TERM $$").code, 128 + 15)
    tap.contains(tap.run_fails("shim", "-d", "size=1", "--", "true").err, "size")
    tap.equal(tap.run("shim").code, 2)


@test
def vfmig_itself_as_the_program(scratch):
    out = tap.run_ok("shim", "-d", DEVICE, "--", tap.VFMIG, "probe", "sysfs:{0}").out
    tap.contains(out, "interface v1")
    tap.run_ok("shim", "-d", DEVICE + ",interface=v2", "--", tap.VFMIG, "save", "sysfs:{0}", "-o",
               "file:" + scratch + "/stream")
    out = tap.run_ok("shim", "-d", DEVICE + ",interface=v2", "--", tap.VFMIG, "preflight", "sysfs:{0}", "sysfs:{0}").out
    tap.contains(out, "the source logs which pages it writes")
    tap.contains(out, "--give, --exec or --hold")
    tap.contains(out, "yes: nothing speaks against loading it there")
    with tap.device(scratch, "b", *("--" + o for o in DEVICE.split(",")), "--interface=v2") as uri:
        tap.run_ok("load", uri, "-i", "file:" + scratch + "/stream")


@test
def a_loaded_device_without_an_owner_is_refused(scratch):
    with tap.device(scratch, "a", "--size=64K") as uri:
        tap.run_ok("save", uri, "-o", "file:" + scratch + "/stream")
    result = tap.run("shim", "-d", "size=64K", "--", tap.VFMIG, "load", "sysfs:{0}",
                     "-i", "file:" + scratch + "/stream")
    tap.equal(result.code, 2)
    tap.contains(result.err, "--give")


@test
def a_loaded_device_is_given_away_and_runs_on(scratch):
    """As to a VMM, which listens; what the fd is worth is asked by another vfmig that inherits it."""
    with tap.device(scratch, "a", "--size=64K", "--start") as a, tap.device(scratch, "b", "--size=64K") as b, \
            socket.socket(socket.AF_UNIX) as listener:
        listener.bind(scratch + "/give")
        listener.listen(1)
        tap.run_ok("save", a, "-o", "file:" + scratch + "/stream")
        giver = tap.start("shim", "-d", b, "--", tap.VFMIG, "load", "sysfs:{0}", "-i", "file:" + scratch + "/stream",
                          "--give", "unix:" + scratch + "/give")
        with listener.accept()[0] as peer:
            _, fds, _, _ = socket.recv_fds(peer, 1, 1)
        result = tap.finish(giver)
        assert result.code == 0, result.err
        taker = tap.run("shim", "--", tap.VFMIG, "prove", "fd:%d" % fds[0], "--json", pass_fds=fds)
        assert taker.code == 0, (taker.out, taker.err)
        tap.equal(json.loads(taker.out)["devices"][0]["loads"], 1)
        tap.run_ok("prove", a, b)
        load_as_an_ordinary_user(scratch, fds)
        os.close(fds[0])


def load_as_an_ordinary_user(scratch, fds):
    """Who may open neither the device nor the file, and was handed both."""
    who = {"user": 65533, "group": 65533, "extra_groups": []} if os.getuid() == 0 else {}
    os.chmod(scratch, 0o755)
    os.chmod(scratch + "/b.sock", 0o666)  # the shim's part, where a kernel has the fd alone
    with open(scratch + "/stream", "rb") as stream:
        os.chmod(scratch + "/stream", 0)
        try:
            loader = tap.run("shim", "--", tap.VFMIG, "load", "fd:%d" % fds[0], "-i", "fd:%d" % stream.fileno(),
                             "--json", pass_fds=[*fds, stream.fileno()], **who)
        except PermissionError:
            print("# %s is out of an ordinary user's reach" % tap.VFMIG)
            return
    assert loader.code == 0, (loader.out, loader.err)
    tap.equal(json.loads(loader.out.splitlines()[-1])["devices"][0]["state"], "running")


@test
def the_calls_taken_over_are_the_manual_s(_):
    library = os.path.join(os.path.dirname(tap.VFMIG), "shim", "libvfmig-shim.so")
    symbols = subprocess.run(["nm", "-D", "--defined-only", library], stdout=subprocess.PIPE, text=True, check=True)
    with open(os.environ["VFMIG_SHIM_MAN"], encoding="utf-8") as f:
        section = re.search(r"# CALLS\n(.*?)\n# ", f.read(), re.DOTALL).group(1)
    listed = set(re.findall(r"\*([a-z_0-9\\]+)\*", section))
    tap.equal(sorted(line.split()[-1] for line in symbols.stdout.splitlines()),
              sorted(name.replace("\\", "") for name in listed))


tap.main()
