# SPDX-License-Identifier: BSD-3-Clause
"""completion.py: what vfmig complete offers, and that real shells put it into the line."""
import os
import pty
import re
import select
import shutil
import subprocess

from tap import VFMIG, Skip, contains, equal, main, run_ok, test

SCRIPTS = os.environ["VFMIG_COMPLETION"]
SECONDS = 20


def offers(*words):
    """Candidate: what it is."""
    return dict(line.split("\t") for line in run_ok("complete", *words).out.splitlines())


@test
def commands(scratch):
    all_of_them = offers("")
    listed = re.findall(r"^  ([a-z]+) ", run_ok("--help").out, re.M)
    equal(sorted(all_of_them), sorted(listed + ["--help", "--version"]))
    equal(all_of_them["save"], "save the state of a device at work into a link")
    equal(sorted(offers("lo")), ["load"])
    equal(offers("nonsense", ""), {})


@test
def every_option_of_every_command(scratch):
    for command in offers(""):
        if command[0] != "-":
            listed = set(re.findall(r"^ +(?:-.,\s+)?(--[a-z0-9-]+)", run_ok(command, "--help").out, re.M))
            equal(set(offers(command, "--")), listed)
    contains(offers("save", "--out")["--output"], "Where the stream goes")


@test
def values_of_options(scratch):
    equal(sorted(offers("save", "--interface", "")), ["v1", "v2"])
    equal(sorted(offers("save", "--interface=")), ["--interface=v1", "--interface=v2"])
    equal(sorted(offers("device", "--map", "m")), ["mapped", "mixed"])
    equal(sorted(offers("save", "-o", "t")), ["tcp:"])
    equal(sorted(offers("save", "--on-timeout", "")), ["ask", "give-up", "switch"])
    equal(offers("save", "--timeout", ""), {})
    equal(sorted(offers("save", "--json", "sim")), ["sim:"])


@test
def files_and_folders(scratch):
    os.mkdir(scratch + "/folder")
    open(scratch + "/file", "w").close()
    both = [scratch + "/file", scratch + "/folder/"]
    for name in ("two\nlines", "red\x1b[31m", "turned\u202e", "half\udcc3"):
        open(scratch + "/f" + name, "w").close()
    equal(sorted(offers("inspect", scratch + "/f")), both)
    equal(sorted(offers("save", "--tls-creds", scratch + "/f")), both[1:])
    equal(sorted(offers("save", "-o", "file:%s/f" % scratch)), ["file:" + path for path in both])
    equal(sorted(offers("probe", "vfio-user:%s/f" % scratch)), ["vfio-user:" + path for path in both])


@test
def arguments(scratch):
    equal(sorted(offers("resolve", "SESSION", "")), ["destination", "source"])
    equal(sorted(offers("resolve", "--journal", "folder", "SESSION", "s")), ["source"])
    equal(offers("resolve", "SESSION", "source", ""), {})
    for number in range(3):
        contains(offers("save", *["sim:"] * number, ""), "vfio-user:")
    equal(offers("probe", "sim:", ""), {})


class Shell:
    """An interactive shell at a terminal of its own."""

    def __init__(self, scratch, *command):
        if not shutil.which(command[0]):
            raise Skip("there is no " + command[0])
        os.symlink(os.path.abspath(VFMIG), scratch + "/vfmig")
        env = {"PATH": scratch + ":/usr/bin:/bin", "HOME": scratch, "TERM": "dumb", "PS1": "", "LANG": "C.UTF-8"}
        master, terminal = pty.openpty()
        self.terminal = master
        self.process = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=env, cwd=scratch,
                                        start_new_session=True)
        os.close(terminal)
        self.seen = ""

    def type(self, text):
        os.write(self.terminal, text.encode())

    def wait_for(self, text):
        while text not in self.seen:
            assert select.select([self.terminal], [], [], SECONDS)[0], "no %r in %r" % (text, self.seen)
            self.seen += os.read(self.terminal, 4096).decode(errors="replace")
        self.seen = self.seen[self.seen.index(text) + len(text):]

    def end(self):
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)


def in_shell(scratch, load, *command):
    """Tab completes a command, an option, a value behind '=', a link with a colon in it."""
    open(scratch + "/device.state", "w").close()
    shell = Shell(scratch, *command)
    try:
        # What is typed is echoed; the quotes keep the echo from being taken for the answer.
        shell.type(load + "; echo rea''dy\n")
        shell.wait_for("ready")
        # Ctrl-U takes the line back.
        for typed, becomes in [("vfmig sa\t", "vfmig save "), ("vfmig save --outp\t", "vfmig save --output "),
                               ("vfmig device --map=tr\t", "--map=trapped "),
                               ("vfmig load sim: -i file:dev\t", "file:device.state "),
                               ("vfmig probe vfio-us\tx", "vfmig probe vfio-user:x")]:
            shell.type(typed)
            shell.wait_for(becomes)
            shell.type("\x15")
    finally:
        shell.end()


@test
def bash(scratch):
    in_shell(scratch, "source %s/vfmig.bash" % SCRIPTS, "bash", "--norc", "--noprofile", "-i")


@test
def zsh(scratch):
    in_shell(scratch, "fpath=(%s $fpath); autoload -Uz compinit; compinit -D -u; unsetopt prompt_sp" % SCRIPTS,
             "zsh", "-f", "-i")


@test
def fish(scratch):
    if not shutil.which("fish"):
        raise Skip("there is no fish")
    os.symlink(os.path.abspath(VFMIG), scratch + "/vfmig")
    open(scratch + "/device.state", "w").close()
    env = dict(os.environ, PATH=scratch + ":/usr/bin:/bin", HOME=scratch)
    for line, becomes in [("vfmig sa", "save"), ("vfmig save --outp", "--output"),
                          ("vfmig load --interface=v", "--interface=v2"),
                          ("vfmig load sim: -i file:dev", "file:device.state")]:
        out = subprocess.run(["fish", "--no-config", "-c", "source %s/vfmig.fish; complete -C '%s'" % (SCRIPTS, line)],
                             env=env, cwd=scratch, stdout=subprocess.PIPE, text=True, check=True).stdout
        equal([candidate.split("\t")[0] for candidate in out.splitlines()][-1], becomes)


main()
