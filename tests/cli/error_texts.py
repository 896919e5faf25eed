# SPDX-License-Identifier: BSD-3-Clause
"""error_texts.py: what is said of a wrong call, a wrong file, an impossible device: a table, a line each.

The table of all error texts is what scripts/errors prints; scripts/check errors says which no test produces.
"""
import os
import socket

from tap import contains, equal, main, run, test

SESSION = "0123456789abcdef" * 2
LONG = "a" * 5000
USAGE, FAILED = 2, 1
# Command, exit status, what is said. {} is the scratch folder.
TABLE = [
    ("device vfio-user:{}/a --config=x,y", USAGE, "--config=x,y: a comma is not possible here"),
    ("device vfio-user:{}/a vfio-user:{}/b", USAGE, "one socket at a time: 'vfio-user:{}/b' is too many"),
    ("device nonsense", USAGE, "'nonsense': expected vfio-user:PATH"),
    ("device", USAGE, "where is it to be served?"),
    ("device vfio-user:{}/file", FAILED, "{}/file exists and is no socket"),
    ("device vfio-user:{}/listens", FAILED, "{}/listens is in use by a running server"),
    ("device vfio-user:{}/" + "a" * 200, FAILED, "a socket's path has 1 to 107 bytes"),
    ("dirty sim: sim:", USAGE, "one device at a time: 'sim:' is too many"),
    ("prove", USAGE, "which device?"),
    ("prove sim: sim: third", USAGE, "a source and a destination: 'third' is too many"),
    ("prove --wait=x sim:", USAGE, "--wait=x: expected a number of steps, from 1"),
    ("prove --since=3 sim:", USAGE, "--since is of a --log"),
    ("prove sim: --log {}/file", FAILED, "{}/file: the device's log has 0 entries"),
    ("prove sim:log=0/64 --log {}/file", FAILED, "expected a log of 64 entries"),
    ("prove sim:seed=1 sim:seed=2", FAILED, "does not do the work of sim:seed=1: seed 2"),
    ("recover", USAGE, "which device?"),
    ("recover sim: second", USAGE, "'second' is too many: one device at a time"),
    ("resolve x --journal {}", USAGE, "'x' is not a session's id, or its beginning: up to 32 hexadecimal digits"),
    ("resolve " + SESSION + " both --journal {}", USAGE, "'both': expected source or destination"),
    ("resolve " + SESSION + " source b --journal {}", USAGE, "'b' is too many"),
    ("resolve --journal {}", USAGE, "which session?"),
    ("resolve " + SESSION, USAGE, "which journal?"),
    ("resolve " + SESSION + " --journal {}", FAILED, "session " + SESSION + ": no journal of it in {}"),
    ("status", USAGE, "which journal?"),
    ("status " + SESSION + " second --journal {}", USAGE, "'second' is too many: one session, or none for all"),
    ("status x --journal {}", USAGE, "'x' is not a session's id, or its beginning: up to 32 hexadecimal digits"),
    ("shim", USAGE, "which program?"),
    ("shim" + " -d sim:" * 17 + " -- true", USAGE, "more than 16 devices"),
    ("save" + " sim:" * 65 + " -o null:", USAGE, "more than 64 devices"),
    ("save sim: -o null:" + " --dma f@0" * 65, USAGE, "more than 64 --dma"),
    ("save sim: -o null: --memory x", USAGE, "--memory: 'x': expected NAME=PATH"),
    ("save sim: -o null: --memory r={}/file", FAILED, "{}/file has 3 bytes: memory has whole pages of 4096"),
    ("save sim:size=1M -o null: --machine " + "m" * 256, FAILED, "machine name of 256 bytes, expected 1 to 255"),
    ("save sim:size=1M -o tcp:no.such.host.invalid:1", FAILED, "look up the address: "),
    ("save sim:size=1M -o tcp:localhost:1 --tls-creds {}/pem", FAILED, "ca-cert.pem holds no certificate in PEM form"),
    ("save sim:size=1M -o tcp:localhost:1 --tls-creds {}/psk", FAILED, "keys.psk: expected a file of at most"),
    ("load sim: -i null:" + " --skip-memory m" * 65, USAGE, "more than 64 --skip-memory"),
    ("probe sim:config={}/file", FAILED, "config space of 3 bytes, expected 256 or 4096"),
    ("probe sim:fault=bad-offset@data-offset:x", FAILED, 'fault: "x" is no number'),
    ("probe sim:section=5K", FAILED, "option section=5K: expected a multiple of 4096"),
    ("probe " + "sim:fault=slow@pending" + ",fault=slow@pending" * 40, FAILED, "fault: more than"),
    ("probe vfio:/dev/" + LONG, FAILED, "aaa...: VFIO has no device 'aaa"),
    ("probe vfio:", FAILED, "VFIO has no device ''"),
    ("probe --access=group vfio:/dev/vfio/devices/vfio0", FAILED, "vfio0"),
    ("probe nonsense:", FAILED, "no such kind of device, expected one of vfio-user:/PATH"),
    ("inspect {}/file", FAILED, "offset 0x3: the stream ends in the middle of the header, 5 more bytes expected"),
]


def prepare(scratch):
    for name, content in [("file", b"abc"), ("pem/ca-cert.pem", b"abc"), ("psk/keys.psk", b"a" * (1 << 21))]:
        os.makedirs(os.path.dirname("%s/%s" % (scratch, name)), exist_ok=True)
        with open("%s/%s" % (scratch, name), "wb") as f:
            f.write(content)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(scratch + "/listens")
    listener.listen()
    return listener


def row(command, code, text):
    def body(scratch):
        with prepare(scratch):
            result = run(*command.replace("{}", scratch).split())
        equal(result.code, code)
        contains(result.err, text.replace("{}", scratch))
        contains(result.err.splitlines()[0], "vfmig %s: " % command.split()[0])
    body.__name__ = command[:40]
    test(body)


for line in TABLE:
    row(*line)
main()
