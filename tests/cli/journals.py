# SPDX-License-Identifier: BSD-3-Clause
"""journals.py: journals that somebody else wrote, changed or left behind, and what status says of a folder."""
import json
import os
import stat

from tap import Skip, contains, device, equal, finish, main, read_event, run, run_fails, run_ok, start, state_of, test

S = "0123456789abcdef0123456789abcdef"
OTHER = "f" * 32


def write(folder, side, states, uri, link="unix:/nowhere/l", session=S, name=None, **members):
    path = "%s/%s.%s" % (folder, name or session, side)
    first = dict({"vfmig-journal": 2, "session": session, "side": side, "order": 1, "link": link,
                  "devices": [{"uri": uri, "id": "0000:00:01.0/vfio"}], "since": "2026-01-01T00:00:00Z",
                  "peer": "vfmig"}, **members)
    lines = [dict(first, state=states[0])] + [{"state": s, "since": "2026-01-01T00:00:00Z"} for s in states[1:]]
    with open(path, "w", encoding="utf-8") as f:
        f.write("".join(json.dumps(line) + "\n" for line in lines))
    os.chmod(path, 0o600)
    return path


def folder_of(scratch):
    os.mkdir(scratch + "/j")
    return scratch + "/j"


@test
def a_command_in_a_journal_is_not_run(scratch):
    j = folder_of(scratch)
    with device(scratch, "a", "--size", "64K") as uri:
        for link in "exec:touch %s/ran; cat" % scratch, "file:%s/ran" % scratch, "fd:0":
            write(j, "source", ["stopped", "decided"], uri, link)
            result = run_fails("resolve", S, "--journal", j, "--retry-for", "300")
            contains(result.err, "only unix: and tcp: are opened from a journal")
        assert not os.path.exists(scratch + "/ran")


@test
def a_journal_of_somebody_else_is_not_followed(scratch):
    if os.geteuid() != 0:
        raise Skip("needs root, to make a file of another user's")
    j = folder_of(scratch)
    with device(scratch, "a", "--size", "64K") as uri:
        path = write(j, "source", ["stopped"], uri)
        os.chown(path, 65534, 65534)
        contains(run_fails("resolve", S, "source", "--journal", j).err, "belongs to user 65534")
        os.chown(path, 0, 0)
        os.chmod(path, 0o620)
        contains(run_fails("resolve", S, "source", "--journal", j).err, "others may write to it (mode 0620)")
        os.chmod(path, 0o600)
        os.chmod(j, 0o777)
        contains(run_fails("resolve", S, "source", "--journal", j).err, "others may write to it (mode 0777)")
        equal(json.loads(run_ok("status", "--json", "--journal", j).out)["state"], "stopped")


@test
def a_journal_with_another_session_inside(scratch):
    j = folder_of(scratch)
    write(j, "destination", ["waiting", "loading", "prepared"], "vfio-user:/x", session=OTHER, name=S)
    for command in "status", "resolve":
        contains(run_fails(command, S, "--journal", j).err, "it is of another session inside: " + OTHER)
    write(j, "source", ["saving"], "vfio-user:/x", name=S, session=S)
    os.rename("%s/%s.source" % (j, S), "%s/%s.destination" % (j, S))
    contains(run_fails("status", S, "--journal", j).err, "another session inside")


@test
def what_is_no_file_is_not_waited_for(scratch):
    j = folder_of(scratch)
    for make in os.mkfifo, os.mkdir:
        make("%s/%s.source" % (j, S))
        for command in ["status"], ["status", S], ["resolve", S]:
            equal(run(*command, "--journal", j).code, 1)
        with device(scratch, "a", "--size", "64K") as uri:
            contains(run_fails("save", uri, "-o", "null:", "--journal", j).err, S)
            equal(state_of(uri), "running")
        (os.unlink if make is os.mkfifo else os.rmdir)("%s/%s.source" % (j, S))


@test
def a_damaged_one_hides_no_other(scratch):
    j = folder_of(scratch)
    write(j, "source", ["stopped"], "vfio-user:/x")
    with open("%s/%s.source" % (j, OTHER), "w", encoding="ascii") as f:
        f.write("junk\n")
    result = run("status", "--journal", j)
    equal(result.code, 1)
    contains(result.out, S + " source: stopped")
    contains(result.err, OTHER)


@test
def what_an_older_vfmig_wrote_is_read(scratch):
    j = folder_of(scratch)
    with device(scratch, "a", "--size", "64K", "--start") as uri:
        for state, ended in ("stopped", False), ("decided", False), ("done", True), ("runs-on", True):
            path = write(j, "source", [state], uri, **{"vfmig-journal": 1})
            found = json.loads(run_ok("status", "--json", "--journal", j).out)
            equal((found["state"], found["ended"], found["peer"], found["order"]), (state, ended, "vfmig", 0))
            result = run("save", uri, "-o", "null:", "--journal", j)
            equal(result.code, 0 if ended else 1)
            if ended:
                run_ok("recover", uri, "--run")
            else:
                contains(result.err, "still has it")
            os.unlink(path)


@test
def files_are_their_owners_alone(scratch):
    j = folder_of(scratch)
    with device(scratch, "a", "--size", "64K", "--start") as a, device(scratch, "b", "--size", "64K") as b:
        old = os.umask(0)
        try:
            load = start("load", b, "-i", "unix:%s/l" % scratch, "--json", "--journal", j)
            read_event(load, event="listening")
            run_ok("save", a, "-o", "unix:%s/l" % scratch, "--journal", j)
            equal(finish(load).code, 0)
        finally:
            os.umask(old)
        found = [os.stat("%s/%s" % (j, name)) for name in os.listdir(j)]
        equal([(stat.S_IMODE(s.st_mode), s.st_uid) for s in found], [(0o600, os.geteuid())] * 2)


@test
def a_journal_that_is_removed_promises_nothing(scratch):
    j = folder_of(scratch)
    os.mkdir(scratch + "/k")
    with device(scratch, "a", "--size", "64K", "--start") as a, device(scratch, "b", "--size", "64K") as b:
        load = start("load", b, "-i", "unix:%s/l" % scratch, "--json", "--journal", scratch + "/k")
        read_event(load, event="listening")
        save = start("save", a, "-o", "unix:%s/l" % scratch, "--journal", j, "--stop-command",
                     "rm %s/*" % j)
        result = finish(save)
        finish(load)
        equal(result.code, 1)
        contains(result.err, "was removed during the session")
        equal(state_of(a), "running")
        run_ok("prove", a)


@test
def who_keeps_no_journal_is_told(scratch):
    j = folder_of(scratch)
    mine = ["--journal", j]
    for here, there, said in ((mine, [], "the other side keeps no journal"),
                              ([], mine, "this side keeps no journal")):
        with device(scratch, "a", "--size", "64K", "--start") as a, device(scratch, "b", "--size", "64K") as b:
            load = start("load", b, "-i", "unix:%s/l" % scratch, *there)
            result = run_ok("save", a, "-o", "unix:%s/l" % scratch, *here)
            equal(finish(load).code, 0)
            contains(result.err, said)


@test
def what_a_journal_names_is_shown_escaped(scratch):
    j = folder_of(scratch)
    evil = "\x1b]0;title\x07\x9b31m\nline"
    write(j, "source", ["stopped"], "vfio-user:/" + evil, "unix:/" + evil)
    for more in [], ["--json"]:
        out = run_ok("status", "--journal", j, *more).out
        assert not any(c in out for c in "\x1b\x07\x9b"), out
    contains(run_ok("status", "--journal", j).out, "\\x1b]0;title\\x07\\xc2\\x9b31m\\x0aline")
    result = run("resolve", S, "--journal", j, "--retry-for", "200")
    assert not any(c in result.out + result.err for c in "\x1b\x07\x9b"), result.err


@test
def a_folder_without_sessions(scratch):
    j = folder_of(scratch)
    equal(run_ok("status", "--journal", j).out, "no sessions in %s\n" % j)
    equal(run_ok("status", "--json", "--journal", j).out, "")


@test
def the_beginning_of_an_id(scratch):
    j = folder_of(scratch)
    write(j, "source", ["stopped"], "vfio-user:/x", session="ab" + 30 * "0")
    write(j, "source", ["stopped"], "vfio-user:/y", session="ac" + 30 * "0")
    contains(run_ok("status", "ab", "--journal", j).out, "vfio-user:/x")
    contains(run_fails("status", "a", "--journal", j).err, "several in %s begin so" % j)
    contains(run_fails("status", "b", "--journal", j).err, "no journal of it")
    equal(run("status", "AB", "--journal", j).code, 2)


@test
def commands_are_whole(scratch):
    j = scratch + "/it's one"
    os.mkdir(j)
    write(j, "source", ["stopped", "decided"], "vfio-user:/x", "tcp:there:4444",
          **{"tls-creds": "/etc/vf mig", "tls-hostname": "there.example"})
    found = json.loads(run_ok("status", "--json", "--journal", os.path.relpath(j, scratch), cwd=scratch).out)
    equal(found["commands"], [{"when": "to go on", "command":
                               "vfmig resolve %s --side source --journal '%s' --tls-creds '/etc/vf mig' --tls-hostname "
                               "there.example" % (S, os.path.realpath(j).replace("'", "'\\''"))}])


main()
