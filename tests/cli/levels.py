# SPDX-License-Identifier: BSD-3-Clause
"""levels.py: how much save and load say, and colours on terminals only."""
import os
import pty
import re
import subprocess

from tap import VFMIG, contains, equal, main, run, run_fails, run_ok, test

UNLOGGED = "sim:size=1M,dirty-log=no,log=0/64"
PHASES = ["vfmig save: phase: " + phase for phase in ("setup", "pre-copy", "stop-and-copy", "completing")]


def save(scratch, *options):
    """With something to warn of: what the device writes is not logged."""
    return run_ok("save", UNLOGGED, "--memory", "ram=%s/ram,size=1M" % scratch, "-o", "null:", *options)


@test
def quiet_are_warnings(scratch):
    result = save(scratch, "-q")
    equal(result.out, "")
    lines = result.err.splitlines()
    assert lines and all(line.startswith("vfmig save: warning: ") for line in lines), lines


@test
def verbose_are_phases_and_debug_lines(scratch):
    ordinary, verbose = [save(scratch, *options).err.splitlines() for options in ([], ["-v"])]
    assert not [line for line in ordinary if line in PHASES], ordinary
    equal([line for line in verbose if "phase: " in line], PHASES)
    uri = "sim:size=1M,interface=v2,log=0/64"
    memory = ["--memory", "ram=%s/ram,size=1M" % scratch, "-o", "null:"]
    debug = "vfmig save: debug: "
    assert debug not in run_ok("save", uri, *memory).err
    contains(run_ok("save", uri, *memory, "--verbose").err, debug)


@test
def one_of_them(scratch):
    for other in ["-q", "--json"]:
        result = run("save", "sim:", "-o", "null:", "-v", other)
        equal(result.code, 2)
        contains(result.err, "one of --verbose, --quiet and --json")


def on_a_terminal(*args, **environment):
    """What it writes on standard error, a terminal."""
    master, terminal = pty.openpty()
    env = dict({k: v for k, v in os.environ.items() if k != "NO_COLOR"}, TERM="xterm")
    env.update(environment)
    process = subprocess.Popen([VFMIG, *args], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=terminal,
                               env=env)
    os.close(terminal)
    text = b""
    try:
        while True:
            text += os.read(master, 4096)
    except OSError:  # the other end was closed
        pass
    os.close(master)
    process.wait()
    return text.decode().replace("\r\n", "\n")


def colours(text):
    return re.findall(r"\033\[[0-9;]*m", text)


@test
def colours_are_for_terminals_and_never_alone(scratch):
    wrong = ["probe", "nonsense:"]
    plain = run_fails(*wrong).err
    equal(colours(plain), [])
    coloured = on_a_terminal(*wrong)
    equal(colours(coloured), ["\033[1;31m", "\033[m"])
    equal(re.sub(r"\033\[[0-9;]*m", "", coloured), plain)
    for environment in [{"NO_COLOR": "1"}, {"TERM": "dumb"}]:
        equal(on_a_terminal(*wrong, **environment), plain)


@test
def a_warning_is_yellow(scratch):
    text = on_a_terminal("save", UNLOGGED, "--memory", "ram=%s/ram,size=1M" % scratch, "-o", "null:", "-q")
    contains(text, "vfmig save: \033[33mwarning:\033[m ")


@test
def a_load_in_its_sandbox_has_colours(scratch):
    with open(scratch + "/stream", "wb") as f:
        f.write(b"no stream at all")
    contains(on_a_terminal("load", "sim:size=1M", "-i", "file:%s/stream" % scratch), "\033[1;31mvfmig load:\033[m ")


main()
