# SPDX-License-Identifier: BSD-3-Clause
"""usage.py: help, version and wrong usage."""
from tap import contains, equal, main, run, run_ok, test

COMMANDS = ["check", "device", "devices", "dirty", "inspect", "load", "probe", "prove", "save"]


@test
def help_lists_the_commands(scratch):
    out = run_ok("--help").out
    for command in COMMANDS:
        contains(out, "\n  %s " % command)
    assert len(out.splitlines()) <= 24, "does not fit on a screen"
    assert max(map(len, out.splitlines())) <= 100


@test
def every_command_has_help(scratch):
    for command in COMMANDS:
        result = run_ok(command, "--help")
        contains(result.out, "Usage: vfmig %s " % command)
        equal(result.err, "")


@test
def version(scratch):
    out = run_ok("--version").out
    assert out.startswith("vfmig ") and out.count(".") == 2, out


def wrong(*args):
    result = run(*args)
    assert result.code == 2, "%r: exit %d, expected 2: %r" % (args, result.code, result.err)
    equal(result.out, "")
    contains(result.err, "vfmig")
    contains(result.err, "--help'")
    assert len(result.err.splitlines()) <= 2, result.err
    return result.err


@test
def wrong_commands(scratch):
    contains(wrong(), "no command")
    contains(wrong("sav"), "no command 'sav'")
    contains(wrong("--bogus"), "no command '--bogus'")


@test
def wrong_options(scratch):
    for command in COMMANDS:
        contains(wrong(command, "--bogus"), "vfmig %s: unrecognized option '--bogus'" % command)


@test
def wrong_arguments(scratch):
    contains(wrong("probe"), "which device?")
    contains(wrong("probe", "sim:", "sim:"), "one device at a time")
    contains(wrong("save"), "which device?")
    contains(wrong("save", "sim:"), "-o LINK")
    contains(wrong("load", "sim:"), "-i LINK")
    contains(wrong("load", "sim:", "-i"), "requires an argument")
    contains(wrong("save", "sim:", "sim:", "-o", "null:"), "one each")
    contains(wrong("save", "sim:", "-o", "null:", "--id", "a", "--id", "b"), "one each")
    contains(wrong("save", "sim:", "sim:", "-o", "null:", "--id", "a", "--id", "a"), "given twice")
    for ms in ["x", "0", "-1", "1x", "99999999999", ""]:
        contains(wrong("save", "sim:", "-o", "null:", "--timeout", ms), "milliseconds")
        contains(wrong("save", "sim:", "-o", "null:", "--downtime-limit", ms), "milliseconds")
    for dma in ["f", "f@", "f@x", "@0", "f@0:", "f@0:0", "f@0:1X", "f@0:1G1", "f@0:99999999999G"]:
        contains(wrong("save", "sim:", "-o", "null:", "--dma", dma), "FILE@IOVA[:SIZE]")


@test
def unknown_kinds(scratch):
    for command, option, link in [("save", "-o", "null:"), ("load", "-i", "null:")]:
        result = run(command, "nonsense:", option, link)
        equal(result.code, 1)
        contains(result.err, "vfio-user:/PATH")
        result = run(command, "sim:", option, "nonsense:")
        equal(result.code, 1)
        contains(result.err, "tcp:HOST:PORT")
    equal(run("probe", "nonsense:").code, 1)
    equal(run("probe", "vfio-user:%s/none" % scratch).code, 1)


main()
