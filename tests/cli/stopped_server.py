# SPDX-License-Identifier: BSD-3-Clause
"""stopped_server.py: what the command makes of a vfio-user server whose device an earlier client has stopped."""
from made_server import RUNNING, STATES, STOP, STOP_COPY, Server
from tap import contains, equal, main, run_fails, run_ok, state_of, test

DATA = bytes(range(250)) * 20


@test
def what_a_stopped_one_is(scratch):
    for state in (STOP, STOP_COPY, RUNNING):
        server = Server("%s/%d" % (scratch, state), state, DATA)
        equal(state_of(server.uri), STATES[state])
        equal(server.went, [])


@test
def recovered_by_running(scratch):
    for state in (STOP, STOP_COPY):
        server = Server("%s/%d" % (scratch, state), state, DATA)
        result = run_fails("recover", server.uri)
        contains(result.out, "another device may be running")
        equal(server.state, state)
        contains(run_ok("recover", server.uri, "--run").out, "is now running")
        equal((server.state, server.resets), (RUNNING, 0))


@test
def discarded_without_running(scratch):
    for state in (STOP, STOP_COPY):
        server = Server("%s/%d" % (scratch, state), state, DATA)
        contains(run_ok("recover", server.uri, "--discard").out, "it was reset")
        equal((server.state, server.resets), (RUNNING, 1))
        assert RUNNING not in server.went, server.went


@test
def saved_when_stopped(scratch):
    streams = []
    for state in (STOP, RUNNING):
        server = Server("%s/%d" % (scratch, state), state, DATA)
        path = "%s/state%d" % (scratch, state)
        run_ok("save", server.uri, "-o", "file:" + path)
        with open(path, "rb") as f:
            streams.append(f.read())
        assert DATA[:1000] in streams[-1] and DATA[-1000:] in streams[-1]
        equal(server.state, STOP)
    assert bytes(range(256)) in streams[0]  # its config space, too


main()
