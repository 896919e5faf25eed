# SPDX-License-Identifier: BSD-3-Clause
"""recover.py: devices whose save or load was killed, in each state that leaves behind."""
import json
import os
import re

from tap import contains, device, equal, main, read_event, run, run_fails, run_ok, start, state_of, test

SOURCE = ["--size", "256K", "--start", "--rate", "1000"]


def recover(uri, *options):
    return json.loads(run_ok("recover", "--json", uri, *options).out)


def killed(process):
    process.kill()
    process.wait()
    process.stdout.close()
    process.stderr.close()


def advised(result, why):
    """The command that a refused save or load names."""
    contains(result.err, why)
    assert "a reset ends that" not in result.err, result.err
    return re.search(r"vfmig (recover \S+(?: --\w+)?)", result.err).group(1).replace(",", "").split()


@test
def what_a_refusal_names_loses_nothing(scratch):
    path = scratch + "/state"
    run_ok("save", "sim:size=256K", "-o", "file:" + path)
    with device(scratch, "a", *SOURCE) as uri:
        save = start("save", uri, "-o", "null:", "--json", "--max-bandwidth", "1K")
        read_event(save, phase="pre-copy")
        killed(save)
        why = "the device is in pre-copy, expected running or stopped"
        equal(advised(run_fails("load", uri, "-i", "file:" + path), why), ["recover", uri])
        command = advised(run_fails("save", uri, "-o", "null:"), why)
        equal(command, ["recover", uri])
        equal(state_of(uri), "pre-copy")
        contains(run_ok(*command).out, "is now running")
        run_ok("prove", uri)
        run_ok("save", uri, "-o", "null:")


@test
def what_a_refusal_names_of_one_that_failed(scratch):
    faults = ["--fault", "error-state@to-stopcopy#1", "--fault", "errno@reset#1"]
    with device(scratch, "a", *SOURCE, *faults) as uri:
        run_fails("save", uri, "-o", "null:")
        command = advised(run_fails("save", uri, "-o", "null:"), "the device is in error, expected running or stopped")
        equal(command, ["recover", uri, "--discard"])
        run_ok(*command)
        equal(state_of(uri), "running")


@test
def killed_while_the_device_worked(scratch):
    with device(scratch, "a", *SOURCE) as uri:
        save = start("save", uri, "-o", "null:", "--json", "--max-bandwidth", "1K")
        read_event(save, phase="pre-copy")
        killed(save)
        equal(state_of(uri), "pre-copy")
        got = recover(uri)
        equal((got["before"], got["action"], got["after"]), ("pre-copy", "run", "running"))
        equal(recover(uri)["action"], "nothing")
        run_ok("prove", uri)


@test
def stopped_it_wants_a_decision(scratch):
    with device(scratch, "a", *SOURCE) as uri:
        run_ok("save", uri, "-o", "null:")
        result = run_fails("recover", uri)
        contains(result.out, "another device may be running")
        contains(result.err, "--run")
        contains(result.err, "--discard")
        equal(state_of(uri), "stopped")
        equal(run("recover", uri, "--run", "--discard").code, 2)
        contains(run_ok("recover", uri, "--run").out, "is now running")
        run_ok("prove", uri)
        run_ok("save", uri, "-o", "null:")
        contains(run_ok("recover", uri, "--discard").out, "it was reset")
        equal(json.loads(run_ok("prove", "--json", uri).out)["devices"][0]["step"], 0)


@test
def half_a_load_is_reset(scratch):
    run_ok("save", "sim:size=256K", "-o", "file:%s/state" % scratch)
    with open(scratch + "/state", "rb") as f:
        half = f.read()[:60000]
    with device(scratch, "b", "--size", "256K") as uri:
        out, into = os.pipe()
        load = start("load", uri, "-i", "fd:%d" % out, "--json", pass_fds=[out])
        os.close(out)
        os.write(into, half)
        read_event(load, phase="pre-copy")
        killed(load)
        os.close(into)
        equal(state_of(uri), "resuming")
        got = recover(uri)
        equal((got["before"], got["action"], got["after"]), ("resuming", "reset", "running"))
        run_ok("prove", uri)


@test
def one_that_failed_wants_a_decision(scratch):
    faults = ["--fault", "error-state@to-stopcopy#1", "--fault", "errno@reset#1"]  # and the save cannot reset it
    with device(scratch, "a", *SOURCE, *faults) as uri:
        run_fails("save", uri, "-o", "null:")
        equal(state_of(uri), "error")
        contains(run_fails("recover", uri, "--run").err, "--discard")
        equal(recover(uri, "--discard")["after"], "running")


@test
def a_kernel_device_has_nothing_to_recover(scratch):
    result = run("recover", "pci:0000:ff:1f.7")
    equal(result.code, 2)
    contains(result.err, "ended with the program")


main()
