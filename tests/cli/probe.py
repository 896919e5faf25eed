# SPDX-License-Identifier: BSD-3-Clause
"""probe.py: what a device is, told to people and to programs."""
import json

from tap import contains, device, equal, main, run_fails, run_ok, state_of, test


@test
def software_device(scratch):
    out = run_ok("probe", "sim:map=mixed").out
    contains(out, "fff0:7666")
    contains(out, "Co-processor")
    contains(out, "config space    4.0 KiB")
    contains(out, "migration (v1)")
    contains(out, "MSI-X")
    contains(out, "migration: yes, by interface v1")
    contains(out, "it is now: running")


@test
def json_says_the_same(scratch):
    text = run_ok("probe", "sim:map=mixed,size=64K").out
    found = json.loads(run_ok("probe", "--json", "sim:map=mixed,size=64K").out)
    equal((found["pci"]["vendor"], found["pci"]["device"]), (0xfff0, 0x7666))
    equal(found["migration"], {"possible": True, "why_not": None, "interface": "v1", "precopy": True, "p2p": False,
                               "state": "running", "state_bytes": None, "logs_written_pages": False})
    config = bytes.fromhex(found["config_space"]["hex"])
    equal((found["config_space"]["size"], config[:4], config[-1] != 0), (4096, b"\xf0\xff\x66\x76", True))
    told = json.loads(run_ok("probe", "--json", "sim:size=64K,interface=v2").out)["migration"]
    equal((told["state_bytes"] > 65536, told["logs_written_pages"]), (True, True))
    region = found["regions"][9]
    equal((region["type"], region["subtype"], region["purpose"]), (3, 1, "migration (v1)"))
    assert len(region["mappable"]) > 1
    areas = " ".join("[%#x, %#x)" % (a["offset"], a["offset"] + a["size"]) for a in region["mappable"])
    contains(text, "mappable " + areas)
    for irq in found["irqs"]:
        if irq["count"]:
            contains(text, "%s" % irq["name"])


@test
def over_a_socket_it_is_the_same_device(scratch):
    with device(scratch, "a", "--size", "64K") as uri:
        there, here = (json.loads(run_ok("probe", "--json", u).out) for u in (uri, "sim:size=64K"))
    equal((there["access"], here["access"]), ("vfio-user", "sim"))
    for key in here:
        if key not in ("access", "uri"):
            equal(there[key], here[key])


@test
def changes_nothing(scratch):
    with device(scratch, "a", "--size", "64K") as uri:
        run_ok("save", "-q", uri, "-o", "null:")
        equal(state_of(uri), "stopped")
        run_ok("probe", uri)
        equal(state_of(uri), "stopped")


@test
def device_that_goes_away(scratch):
    with device(scratch, "a", "--fault", "disconnect@state-read") as uri:
        result = run_fails("probe", uri)
        contains(result.err, uri)
        equal(result.out, "")


main()
