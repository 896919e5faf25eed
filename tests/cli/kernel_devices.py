# SPDX-License-Identifier: BSD-3-Clause
"""kernel_devices.py: what the command says of kernel devices and their owners, on a machine with or without VFIO."""
import glob
import json
import os
import signal

from tap import contains, device, equal, main, read_event, run, run_fails, run_ok, start, test

KERNEL = ["pci:0000:ff:1f.7", "mdev:83b8f4f2-509f-382f-3c1e-e6bfe0fa1001", "sysfs:/nowhere", "vfio:/dev/vfio/devices/x"]


def refused(*args):
    """Wrong usage, before anything is opened."""
    result = run(*args)
    equal(result.code, 2)
    return result.err


@test
def load_wants_an_owner(scratch):
    for uri in KERNEL:
        contains(refused("load", uri, "-i", "null:"), "--exec COMMAND, --give unix:PATH or --hold")
        contains(refused("load", "sim:", uri, "--id", "a", "--id", "b", "-i", "null:"), uri)
    contains(refused("load", "sim:", "-i", "null:", "--hold", "--give", "unix:x"), "one owner")


@test
def with_an_owner_it_is_opened(scratch):
    for owner in [["--hold"], ["--discard"], ["--exec", "true"]]:
        contains(run_fails("load", KERNEL[0], "-i", "null:", *owner).err, "no PCI function 0000:ff:1f.7")


@test
def others_need_no_owner(scratch):
    for uri in ["fd:77", "fd-from:unix:%s/none" % scratch, "vfio-user:%s/none" % scratch]:
        run_fails("load", uri, "-i", "null:")


@test
def give_looks_for_the_owner_first(scratch):
    contains(run_fails("load", KERNEL[0], "-i", "null:", "--give", "unix:%s/none" % scratch).err, "nobody is there")
    contains(run_fails("load", "sim:", "-i", "null:", "--give", "tcp:x").err, "expected unix:PATH")


@test
def only_kernel_devices_have_an_fd(scratch):
    contains(run_fails("load", "sim:", "-i", "null:", "--exec", "true").err, "not a kernel device")


@test
def hold_lasts_until_a_signal(scratch):
    run_ok("save", "sim:size=64K", "-o", "file:%s/state" % scratch)
    with device(scratch, "held", "--size", "64K") as uri:
        process = start("load", uri, "-i", "file:%s/state" % scratch, "--hold", "--json")
        equal(read_event(process, event="result")["result"], "ok")
        equal(process.poll(), None)
        process.send_signal(signal.SIGTERM)
        equal(process.wait(), 0)
    process.stdout.close()
    process.stderr.close()


@test
def save_warns_of_a_fresh_device(scratch):
    for uri in KERNEL:
        contains(run_fails("save", uri, "-o", "null:").err, "may save a fresh one")
    assert "fresh" not in run_fails("save", "fd:77", "-o", "null:").err


@test
def options_of_opening(scratch):
    for command in [["probe", "sim:"], ["save", "sim:", "-o", "null:"], ["load", "sim:", "-i", "null:"]]:
        contains(refused(*command, "--access", "door"), "expected group or cdev")
        contains(refused(*command, "--interface", "v3"), "expected v1 or v2")
    contains(run_ok("probe", "sim:", "--interface", "v1").out, "by interface v1")
    contains(run_ok("probe", "sim:", "--interface", "v2").out, "v1 only, and v2 was asked for")


@test
def devices_lists_pci_functions(scratch):
    listed = json.loads(run_ok("devices", "--json").out)["devices"]
    text = run_ok("devices").out
    for folder in glob.glob("/sys/bus/pci/devices/*"):
        with open(folder + "/class", encoding="ascii") as f:
            bridge = f.read().startswith("0x06")
        uri = "pci:" + os.path.basename(folder)
        found = [d for d in listed if d["uri"] == uri]
        equal(len(found), 0 if bridge else 1)
        for d in found:
            assert d["migrates"] in ("no", "unknown", "yes"), d
            assert d["message"] and (d["migrates"] != "no" or d["reason"]), d
            contains(text, uri + "\n")
            for part in d["message"].split("; ", 1):  # why; what to do
                contains(text, part)
            assert {"interface", "precopy", "p2p", "group", "cdev"} <= set(d), d
    contains(text, "%d device" % len(listed) if listed else "This machine has no")
    contains(refused("devices", "pci:0000:00:00.0"), "too many")


main()
