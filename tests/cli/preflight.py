# SPDX-License-Identifier: BSD-3-Clause
"""preflight.py: what it says of two devices is what a real load of the one's state into the other does."""
import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import threading
import time

from tap import VFMIG, Skip, contains, device, equal, main, run, run_fails, run_ok, test


def checks_of(source, destination, *options):
    result = run("preflight", "--json", source, destination, *options)
    found = json.loads(result.out)
    answers = [c["answer"] for c in found["checks"]]
    equal((result.code, result.err), (1 if "no" in answers else 0, ""))
    for check in found["checks"]:
        equal((check["remedy"] is not None), check["answer"] in ("no", "perhaps"))
    return found


def check(found, name):
    return next(c for c in found["checks"] if c["check"] == name)


def config_file(scratch, **changes):
    """The software device's config space with other bytes: _AT="value" in hexadecimal."""
    text = json.loads(run_ok("probe", "--json", "sim:size=64K").out)["config_space"]
    config = bytearray(bytes.fromhex(text["hex"]).ljust(text["size"], b"\0"))
    for at, value in changes.items():
        config[int(at[1:], 16)] = value
    path = "%s/config-%s" % (scratch, "-".join(changes))
    with open(path, "wb") as f:
        f.write(config)
    return path


def load_for_real(scratch, source, destination, *options):
    path = "file:%s/real" % scratch
    run_ok("save", source, "-o", path, "-q")
    return run("load", destination, "-i", path, "-q", *options)


# Source, destination, what preflight says, the check that says it, and whether the load works; %s: a config file.
V2 = "sim:size=64K,interface=v2"
PAIRS = {
    "equal_v1": ("sim:size=64K", "sim:size=64K", "yes", None, True),
    "equal_v2": (V2, V2, "yes", None, True),
    "at_work": ("sim:size=64K,start", "sim:size=64K", "yes", None, True),
    "no_precopy_there": (V2, V2 + ",precopy=no", "yes", None, True),
    "no_precopy_here": (V2 + ",precopy=no", V2, "yes", None, True),
    "no_p2p_there": (V2, V2 + ",p2p=no", "yes", None, True),
    "small_config": ("sim:size=64K,config-size=256", "sim:size=64K,config-size=256", "yes", None, True),
    "config_grows": ("sim:size=64K,config-size=256", "sim:size=64K", "no", "config", False),
    "config_shrinks": ("sim:size=64K", "sim:size=64K,config-size=256", "no", "config", False),
    "other_vendor": ("sim:size=64K", "sim:size=64K,config=%_00", "no", "identity", False),
    "other_device": (V2 + ",config=%_02", V2, "no", "identity", False),
    "other_revision": ("sim:size=64K", "sim:size=64K,config=%_08", "no", "identity", False),
    "other_class": ("sim:size=64K", "sim:size=64K,config=%_0a", "no", "identity", False),
    "other_subsystem": ("sim:size=64K", "sim:size=64K,config=%_2e", "no", "identity", False),
    "other_header": ("sim:size=64K", "sim:size=64K,config=%_0e", "no", "config", False),
    "other_interrupt_pin": ("sim:size=64K", "sim:size=64K,config=%_3d", "yes", None, True),
    "a_driver_wrote": ("sim:size=64K,config=%_3c", "sim:size=64K", "yes", None, True),
    "other_interface": (V2, "sim:size=64K", "perhaps", "interface", True),
    "other_state_size": (V2, "sim:size=128K,interface=v2", "perhaps", "sizes", False),
    "small_section": ("sim:size=1M", "sim:size=1M,section=64K", "perhaps", "sizes", False),
    "large_section": ("sim:size=1M,section=64K", "sim:size=1M", "yes", None, True),
    "v2_into_small_section": ("sim:size=1M,interface=v2", "sim:size=1M,section=64K", "perhaps", "sizes", False),
}


def pair(name, source, destination, loads, of, works):
    def body(scratch):
        def uri(text):
            plain, _, at = text.partition("%")
            return plain + (config_file(scratch, **{at: 0x5a}) if at else "")
        one, other = uri(source), uri(destination)
        found = checks_of(one, other)
        equal(found["loads"], loads)
        against = [c for c in found["checks"] if c["answer"] in ("no", "perhaps")]
        equal(of in [c["check"] for c in against] if of else against, True if of else [])
        result = load_for_real(scratch, one, other)
        equal(result.code, 0 if works else 1)
        if loads == "no":
            said = check(found, "config")["text"]
            said = said.partition("a load would say: ")[2]
            assert said and said in result.err, (said, result.err)
    body.__name__ = name
    test(body)


for key, value in PAIRS.items():
    pair(key, *value)


@test
def split_transactions_is_what_helps(scratch):
    pair_of = ("sim:size=1M", "sim:size=1M,section=64K")
    contains(check(checks_of(*pair_of), "sizes")["remedy"], "--split-transactions")
    equal(load_for_real(scratch, *pair_of, "--split-transactions").code, 0)


@test
def device_that_cannot_migrate(scratch):
    found = checks_of("sim:size=64K", "sim:size=64K,interface=v2", "--interface", "v1")
    equal((found["loads"], check(found, "interface")["answer"]), ("no", "no"))
    why = json.loads(run_ok("probe", "--json", "--interface", "v1", V2).out)["migration"]["why_not"]
    contains(check(found, "interface")["text"], "the destination cannot migrate: " + why)
    contains(run_fails("load", V2, "-i", "null:", "--interface", "v1").err, why.partition(": ")[2])


@test
def device_that_another_migration_has(scratch):
    """A save of it was killed: it is still in pre-copy, and no load takes it."""
    with device(scratch, "a", "--size", "64K") as a, device(scratch, "b", "--size", "64K") as b:
        run("save", a, "-o", "file:%s/state" % scratch, "-q")
        with device(scratch, "c", "--size", "4M", "--start") as c:
            save = subprocess.Popen([VFMIG, "save", c, "-o", "exec:cat >/dev/null", "--max-bandwidth", "100K",
                                     "--events", "fd:1", "-q"], stdout=subprocess.PIPE, text=True)
            for line in save.stdout:
                if json.loads(line).get("state") == "pre-copy":
                    break
            save.kill()
            save.wait()
            save.stdout.close()
            for pair_of, who in (((c, b), "source"), ((b, c), "destination")):
                found = checks_of(*pair_of)
                equal((found["loads"], check(found, "state")["answer"]), ("no", "no"))
                contains(check(found, "state")["text"], "the %s is pre-copy" % who)
                contains(check(found, "state")["remedy"], "vfmig recover")
            contains(run_fails("load", c, "-i", "file:%s/state" % scratch).err, "expected running or stopped")
            run_ok("recover", c)
            equal(checks_of(c, b)["loads"], "yes")


@test
def config_space_that_cannot_be_read(scratch):
    """Its header can, so that a probe tells what it is; a load would fail."""
    bad = "sim:size=64K,fault=errno@config-read#2"
    path = probe_file(scratch, "bad", bad)
    for source, destination, who in ((bad, "sim:size=64K", "source"), ("sim:size=64K", bad, "destination"),
                                     (path, "sim:size=64K", "source")):
        found = checks_of(source, destination)
        equal((found["loads"], check(found, "config")["answer"]), ("no", "no"))
        contains(check(found, "config")["text"], "the %s's cannot be read: config space: " % who)
    equal(load_for_real(scratch, "sim:size=64K", "sim:size=64K,fault=errno@config-read").code, 1)


@test
def together_needs_p2p(scratch):
    without = V2 + ",p2p=no"
    equal(check(checks_of(without, V2), "P2P")["answer"], "note")
    found = checks_of(without, V2, "--together")
    equal((found["loads"], check(found, "P2P")["answer"]), ("no", "no"))
    ids = ["--id", "a", "--id", "b"]
    err = run_fails("save", without, V2, *ids, "-o", "null:").err
    contains(err, "cannot be moved together with other devices")
    contains(check(found, "P2P")["text"], "cannot be moved together with other devices")
    equal(checks_of(V2, V2, "--together")["loads"], "yes")
    run_ok("save", V2, V2 + ",seed=2", *ids, "-o", "null:", "-q")


@test
def log_of_written_pages(scratch):
    equal(check(checks_of(V2, V2), "dirty log")["answer"], "yes")
    found = checks_of(V2 + ",dirty-log=no", V2)
    equal((found["loads"], check(found, "dirty log")["answer"]), ("yes", "note"))


@test
def downtime_at_a_bandwidth(scratch):
    """4 MiB and the device's own header, at 10 MiB/s: 0.4 s."""
    uri = "sim:size=4M,interface=v2"
    say = check(checks_of(uri, uri, "--bandwidth", "10M"), "downtime")
    equal(say["answer"], "perhaps")
    contains(say["text"], "at most 40")
    for options, answer in ((["--bandwidth", "10M", "--downtime-limit", "500"], "yes"), ([], "note"),
                            (["--bandwidth", "100M"], "yes"), (["--bandwidth", "10M"], "no")):
        equal(check(checks_of(uri + ",precopy=no", uri, *options), "downtime")["answer"], answer)
    v1 = "sim:size=4M"
    contains(check(checks_of(v1, v1, "--bandwidth", "10M"), "downtime")["text"], "--state-size")
    equal(check(checks_of(v1, v1, "--bandwidth", "10M", "--state-size", "1M"), "downtime")["answer"], "yes")


def read_at_a_rate(listener, bytes_per_s):
    taken, peer = 0, listener.accept()[0]
    begin = time.monotonic()
    while data := peer.recv(65536):
        taken += len(data)
        time.sleep(max(0, begin + taken / bytes_per_s - time.monotonic()))
    peer.close()


@test
def downtime_as_foretold(scratch):
    """4 MiB without pre-copy over a link that takes 10 MiB a second: 0.4 s."""
    uri = "sim:size=4M,interface=v2,precopy=no"
    text = check(checks_of(uri, uri, "--bandwidth", "10M"), "downtime")["text"]
    foretold_ms = float(text.split()[0])
    equal(text.split()[1], "ms")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(scratch + "/link")
        listener.listen()
        reader = threading.Thread(target=read_at_a_rate, args=(listener, 10 << 20))
        reader.start()
        out = run_ok("save", uri, "-o", "unix:%s/link" % scratch, "--no-return-path", "--json")
        reader.join()
    measured_ms = out.json_lines()[-1]["downtime_ns"] / 1e6
    # Less what fits into the socket; more on a machine that has much else to do.
    assert 0.8 * foretold_ms < measured_ms < 4 * foretold_ms, (foretold_ms, measured_ms)


def probe_file(scratch, name, uri):
    path = "%s/%s.json" % (scratch, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(run_ok("probe", "--json", uri).out)
    return path


@test
def files_say_what_the_devices_say(scratch):
    for source, destination, loads in ((V2, V2, "yes"), (V2, V2 + ",config-size=256", "no")):
        one, other = probe_file(scratch, "a", source), probe_file(scratch, "b", destination)
        live = checks_of(source, destination)
        equal(live["loads"], loads)
        for sides in ((one, destination), (source, other), (one, other)):
            equal(checks_of(*sides)["checks"], live["checks"])
        with open(one, encoding="utf-8") as f:
            result = run("preflight", "-", destination, "--json", stdin=f)
        equal(json.loads(result.out)["checks"], live["checks"])


@test
def kernel_devices_need_an_owner(scratch):
    probe = json.loads(run_ok("probe", "--json", V2).out)
    path = scratch + "/kernel.json"
    with open(path, "w", encoding="utf-8") as f:
        json.dump(dict(probe, uri="pci:0000:3b:00.2", access="cdev"), f)
    equal([c["check"] for c in checks_of(V2, V2)["checks"] if c["check"] == "owner"], [])
    contains(check(checks_of(path, V2), "owner")["text"], "fd-from:")
    found = checks_of(V2, path)
    contains(check(found, "owner")["text"], "--give")
    equal(found["loads"], "yes")


@test
def files_that_are_wrong(scratch):
    good = json.loads(run_ok("probe", "--json", V2).out)

    def refused(change, *parts):
        wrong = json.loads(json.dumps(good))
        text = change(wrong)
        path = scratch + "/wrong"
        with open(path, "w", encoding="utf-8") as f:
            f.write(text if isinstance(text, str) else json.dumps(wrong))
        err = run_fails("preflight", path, V2).err
        contains(err, path)
        for part in parts:
            contains(err, part)

    refused(lambda w: "", "no JSON: it ends too early")
    refused(lambda w: "[" * 50, "no JSON", "at byte 1")
    refused(lambda w: json.dumps(w) + "x", "no JSON")
    refused(lambda w: "\0" + json.dumps(w), "no JSON")
    refused(lambda w: "[]", "uri")
    refused(lambda w: w.update(uri=None), "uri")
    refused(lambda w: w.update(uri="\x1b[2J"), "uri")
    refused(lambda w: w.update(uri="a\u009b2J"), "uri")
    for turns in "\u200e\u200f\u2028\u202e\u2066\u2069":
        refused(lambda w, c=turns: w.update(uri="sim:" + c), "uri")
    refused(lambda w: w["pci"].update(vendor=65536), "pci")
    refused(lambda w: w["pci"].update(revision=-1), "pci")
    refused(lambda w: w.update(config_space=None), "config_space")
    refused(lambda w: w["config_space"].update(size=512), "config_space")
    refused(lambda w: w["config_space"].update(hex="0"), "config_space")
    refused(lambda w: w["config_space"].update(hex="00" * 4097), "config_space")
    refused(lambda w: w["config_space"].update(hex="00gg"), "byte 1")
    refused(lambda w: w.update(regions=[{"size": 1}] * 65), "regions")
    refused(lambda w: w["regions"][0].update(size="big"), "region")
    refused(lambda w: w["migration"].update(interface="v3"), "migration.interface")
    refused(lambda w: w.update(migration=[]), "migration")
    refused(lambda w: " " * (1 << 20) + json.dumps(w), "more than 1048576 bytes")
    contains(run_fails("preflight", scratch + "/none", V2).err, "No such file")


FAKE_SSH = """#!/bin/sh
# ssh OPTION... -- HOST COMMAND, to this host: what it is called with is kept, and what it reads.
cat >>%(scratch)s/stdin
while [ "$1" != -- ]; do echo "option $1" >>%(scratch)s/calls; shift; done
printf 'host %%s\\ncommand %%s\\n' "$2" "$3" >>%(scratch)s/calls
[ "$2" != down ] || { echo "ssh: connect to host down port 22: Connection refused" >&2; exit 255; }
PATH=%(folder)s:$PATH exec sh -c "$3"
"""


def fake_ssh(scratch):
    path = scratch + "/ssh"
    with open(path, "w", encoding="utf-8") as f:
        f.write(FAKE_SSH % {"scratch": scratch, "folder": os.path.dirname(os.path.abspath(VFMIG))})
    os.chmod(path, stat.S_IRWXU)
    return dict(os.environ, PATH=scratch + ":" + os.environ["PATH"])


@test
def over_ssh(scratch):
    env = fake_ssh(scratch)
    live = checks_of(V2, V2)
    for there in ("ssh:user@there/" + V2, "ssh:there"):
        found = json.loads(run_ok("preflight", V2, there, "--json", env=env).out)
        equal(found["checks"], live["checks"])
        equal(found["destination"], {"name": there, "uri": V2})
    # A name is a name, for both shells, and the host no option.
    uri = "vfio-user:%s/it's $(touch %s/pwned) a" % (scratch, scratch)
    result = run("preflight", "ssh:-oProxyCommand=x/" + uri, V2, env=env)
    equal(result.code, 1)
    contains(result.err, "vfmig probe: %s: connecting to" % uri)
    with open(scratch + "/calls", encoding="utf-8") as f:
        contains(f.read(), "host -oProxyCommand=x\ncommand vfmig probe --json -- 'vfio-user:")
    assert not os.path.exists(scratch + "/pwned")
    run_ok("preflight", "ssh:there/" + V2, V2, "--ssh", "ssh -p 2222", "--interface", "v2", "--timeout", "1234",
           env=env)
    with open(scratch + "/calls", encoding="utf-8") as f:
        contains(f.read(), "option -p\noption 2222\nhost there\ncommand vfmig probe --json --interface v2 "
                 "--timeout 1234 -- 'sim:")


@test
def ssh_leaves_standard_input_alone(scratch):
    """A probe comes from there."""
    env = fake_ssh(scratch)
    live = checks_of(V2, V2)
    with open(probe_file(scratch, "a", V2), encoding="utf-8") as f:
        found = json.loads(run_ok("preflight", "ssh:there/" + V2, "-", "--json", env=env, stdin=f).out)
    equal(found["checks"], live["checks"])
    equal(os.path.getsize(scratch + "/stdin"), 0)


@test
def ssh_that_fails(scratch):
    env = fake_ssh(scratch)
    result = run("preflight", V2, "ssh:down/" + V2, env=env)
    equal((result.code, result.out), (1, ""))
    equal(result.err.splitlines(), ["ssh: connect to host down port 22: Connection refused", "vfmig preflight: "
                                    "ssh:down/%s: the command failed with exit status 255" % V2])
    for wrong in (("ssh:a", "ssh:b"), ("ssh:", V2), (V2, "ssh:there/"), (V2, "ssh:/x")):
        contains(run_fails("preflight", *wrong, env=env).err, "expected ssh:HOST/URI")


@contextlib.contextmanager
def sshd(scratch):
    """A real one on the loopback interface, for this user and one key; gives what --ssh is to be."""
    server = shutil.which("sshd", path="/usr/sbin:" + os.environ["PATH"])
    if not server or not shutil.which("ssh"):
        raise Skip("there is no sshd or no ssh here (openssh-server, openssh-client)")
    if os.getuid() == 0 and not os.path.isdir("/run/sshd"):
        raise Skip("sshd by root wants a folder /run/sshd, which there is not")
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "%s/%s" % (scratch, key)], check=True,
                       stdin=subprocess.DEVNULL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with open(scratch + "/sshd_config", "w", encoding="utf-8") as f:
        f.write("ListenAddress 127.0.0.1:%d\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nStrictModes no\n"
                "UsePAM no\nPidFile none\nPermitRootLogin yes\nSetEnv PATH=%s:/usr/bin:/bin\n"
                % (port, scratch, scratch, os.path.dirname(os.path.abspath(VFMIG))))
    server = subprocess.Popen([server, "-D", "-e", "-f", scratch + "/sshd_config"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        for line in server.stderr:
            if line.startswith("Server listening"):
                break
        else:
            raise Skip("sshd did not listen")
        yield "ssh -F none -p %d -i %s/user -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null" \
            " -o LogLevel=ERROR -o BatchMode=yes" % (port, scratch)
    finally:
        server.terminate()
        server.wait()
        server.stderr.close()


@test
def over_a_real_ssh(scratch):
    """A device of there that another process serves; one that is not there."""
    with sshd(scratch) as ssh, device(scratch, "it's b", "--size", "64K", "--interface", "v2") as b:
        live = checks_of(V2, b)
        found = json.loads(run_ok("preflight", V2, "ssh:127.0.0.1/" + b, "--ssh", ssh, "--json").out)
        equal(found["checks"], live["checks"])
        equal(found["loads"], "yes")
        result = run("preflight", V2, "ssh:127.0.0.1/vfio-user:/none", "--ssh", ssh)
        equal((result.code, result.out), (1, ""))
        contains(result.err, "vfmig probe: vfio-user:/none: connecting to /none")
        contains(result.err, "ssh:127.0.0.1/vfio-user:/none: the command failed with exit status 1")


main()
