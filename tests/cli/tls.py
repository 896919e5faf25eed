# SPDX-License-Identifier: BSD-3-Clause
"""tls.py: links by TLS: who is let in, what is said to who is not, and that no device was touched by then."""
import atexit
import contextlib
import functools
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile

import certificates
from tap import (VFMIG, Skip, contains, device, equal, finish, main, read_event, run, run_fails, run_ok, start,
                 state_of, test)

HOST = ["--tls-hostname", "localhost"]
KEY, OTHER_KEY = 32 * "a5", 32 * "5a"
PONG, SHUT = bytes.fromhex("0002000476666d01"), bytes.fromhex("0001000400000000")  # as QEMU answers
STREAM_END = re.compile(rb'[0-9a-f]{32}"}}$')
TOUCHED = "Input/output error"  # what the devices below answer to the first change of their state


@functools.lru_cache(None)
def folder():
    path = tempfile.mkdtemp(prefix="vfmig-tls-")
    atexit.register(shutil.rmtree, path)
    return path


@functools.lru_cache(None)
def authority(name="vfmig test CA", again=0):
    return certificates.Authority(folder(), name)


@functools.lru_cache(None)
def good():
    return authority().creds("good")


def made(name, *without, **kwargs):
    """New credentials of the usual CA."""
    path = authority().creds(name, **kwargs)
    for file in without:
        os.remove("%s/%s" % (path, file))
    return path


def psk(*lines):
    return certificates.psk(folder(), *lines)


@contextlib.contextmanager
def devices(scratch, *options):
    with device(scratch, "a", "--size", "1M", "--start", *options) as a, \
            device(scratch, "b", "--size", "1M", *options) as b:
        yield a, b


def untouchable(scratch):
    """Devices that fail once their state is changed, so that a refusal is only heard if it came before."""
    return devices(scratch, "--fault", "errno@to-precopy", "--fault", "errno@to-stopcopy", "--fault",
                   "errno@to-resuming")


def unstoppable(scratch):
    return devices(scratch, "--rate", "10", "--fault", "errno@to-stopcopy", "--fault", "errno@to-resuming")


def moves(scratch, save_options, load_options, link="tcp:127.0.0.1:0", address=None):
    with devices(scratch) as (a, b):
        load = start("load", b, "-i", link, "--json", *load_options)
        where = read_event(load, event="listening")["link"]
        if address:
            where = "tcp:%s:%s" % (address, where.rpartition(":")[2])
        run_ok("save", a, "-o", where, *save_options)
        equal(finish(load).code, 0)
        equal((state_of(a), state_of(b)), ("stopped", "running"))
        run_ok("prove", a, b)


def refused(scratch, save_options, load_options, save_says, load_says, make=untouchable):
    link = "unix:%s/link" % scratch
    with make(scratch) as (a, b):
        load = start("load", b, "-i", link, *load_options)
        save = run_fails("save", a, "-o", link, *save_options)
        result = finish(load)
        equal(result.code, 1)
        contains(save.err, save_says)
        contains(result.err, load_says)
        assert TOUCHED not in save.err + result.err, save.err + result.err
        equal((state_of(a), state_of(b)), ("running", "running"))
        run_ok("prove", a)


def tls(path, *more):
    return ["--tls-creds", path, *more]


def with_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
    except OSError as why:
        raise Skip("no IPv6 here: %s" % why)


# ----------------------------------------------------------------- it works

@test
def certificates_over_tcp(scratch):
    moves(scratch, tls(good()), tls(good()))


@test
def certificates_over_tcp_by_name(scratch):
    moves(scratch, tls(good()), tls(good()), address="localhost")


@test
def certificates_over_unix(scratch):
    moves(scratch, tls(good(), *HOST), tls(good()), "unix:%s/link" % scratch)


@test
def a_name_given_is_checked_in_place_of_the_address(scratch):
    there = made("there", names="DNS:there.example")
    moves(scratch, tls(there, "--tls-hostname", "there.example"), tls(there))


@test
def a_key_over_tcp(scratch):
    moves(scratch, tls(psk("qemu:" + KEY)), tls(psk("other:" + OTHER_KEY, "qemu:" + KEY)))


@test
def a_key_over_unix(scratch):
    creds = tls(psk("# whose", "", "only:" + KEY))
    moves(scratch, creds, creds, "unix:%s/link" % scratch)


@test
def a_list_of_revoked_certificates_without_this_one(scratch):
    path = made("not-revoked")
    authority().revoke(good(), "client")
    shutil.move(good() + "/ca-crl.pem", path)
    moves(scratch, tls(path), tls(path))


@test
def ipv6(scratch):
    with_ipv6()
    moves(scratch, [], [], "tcp:[::1]:0")
    os.mkdir(scratch + "/tls")
    moves(scratch + "/tls", tls(good()), tls(good()), "tcp:[::1]:0")


# -------------------------------------------------------- who is not let in

@test
def server_of_another_ca(scratch):
    other = authority("another CA").creds("other")
    refused(scratch, tls(good(), *HOST), tls(other), "certificate is not signed by the CA in %s" % good(),
            'refused this side\'s certificate %s/server-cert.pem by the alert "unknown CA"' % other)


@test
def client_of_another_ca(scratch):
    """It could have sent all of the stream before it heard of it."""
    mixed = authority("another CA").creds("mixed")
    shutil.copy(good() + "/ca-cert.pem", mixed)
    refused(scratch, tls(mixed, *HOST), tls(good()),
            'refused this side\'s certificate %s/client-cert.pem by the alert "unknown CA"' % mixed,
            "certificate is not signed by the CA in %s" % good())


@test
def client_of_another_ca_of_the_same_name(scratch):
    mixed = authority(again=1).creds("mixed")
    shutil.copy(good() + "/ca-cert.pem", mixed)
    refused(scratch, tls(mixed, *HOST), tls(good()), "refused this side's certificate",
            "certificate is not signed by the CA in %s" % good())


@test
def client_without_a_return_path_hears_of_it_too(scratch):
    mixed = authority("another CA").creds("one-way")
    shutil.copy(good() + "/ca-cert.pem", mixed)
    for options, make in ([], devices), (["--max-bandwidth", "2M"], unstoppable):
        refused(scratch, tls(mixed, *HOST, "--no-return-path", *options), tls(good()), '"unknown CA"',
                "is not signed by", make=make)


@test
def server_of_another_name(scratch):
    refused(scratch, tls(good(), "--tls-hostname", "there.example"), tls(good()),
            "certificate is not for there.example (hostname mismatch)", "server-cert.pem by the alert")


@test
def server_of_another_address(scratch):
    refused(scratch, tls(good(), "--tls-hostname", "192.0.2.1"), tls(good()),
            "certificate is not for 192.0.2.1 (IP address mismatch)", "server-cert.pem by the alert")


@test
def expired(scratch):
    old = made("old", days=-1)
    refused(scratch, tls(good(), *HOST), tls(old), "certificate has expired", 'by the alert "certificate expired"')
    refused(scratch, tls(old, *HOST), tls(good()), 'client-cert.pem by the alert "certificate expired"',
            "certificate has expired")


@test
def revoked(scratch):
    path = made("revoked")
    authority().revoke(path, "client")
    refused(scratch, tls(path, *HOST), tls(path), 'client-cert.pem by the alert "certificate revoked"',
            "certificate was revoked by %s/ca-crl.pem" % path)


@test
def a_certificate_is_for_its_side_only(scratch):
    swapped = made("swapped")
    for what in ("cert", "key"):
        shutil.copy("%s/server-%s.pem" % (swapped, what), "%s/client-%s.pem" % (swapped, what))
    refused(scratch, tls(swapped, *HOST), tls(good()), "client-cert.pem by the alert",
            "certificate is refused: unsuitable certificate purpose")


@test
def another_key(scratch):
    refused(scratch, tls(psk("qemu:" + OTHER_KEY)), tls(psk("qemu:" + KEY)),
            "refused the key of user qemu", "another key for its user")


@test
def unknown_user(scratch):
    refused(scratch, tls(psk("me:" + KEY)), tls(psk("qemu:" + KEY)),
            "refused the key of user me", "user me is not in")


@test
def key_against_certificates(scratch):
    refused(scratch, tls(psk("qemu:" + KEY)), tls(good()), "has a certificate, expected the key",
            "refused this side's certificate")
    refused(scratch, tls(good(), *HOST), tls(psk("qemu:" + KEY)), '"handshake failure"',
            "used no key, one of")


@test
def plain_text_to_tls(scratch):
    refused(scratch, [], tls(good()), "refused plain text by a TLS alert: give credentials",
            "does not speak TLS: its first byte is 0x51, as of a stream in plain text", make=devices)


@test
def tls_to_plain_text(scratch):
    refused(scratch, tls(good(), *HOST), [], "does it expect plain text?", "the other side speaks TLS")


def context(side, path, certified=True):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if side == "client" else ssl.PROTOCOL_TLS_SERVER)
    c.load_verify_locations(path + "/ca-cert.pem")
    if certified:
        c.load_cert_chain("%s/%s-cert.pem" % (path, side), "%s/%s-key.pem" % (path, side))
    return c


@contextlib.contextmanager
def waiting_load(scratch, *options):
    """A load that somebody else connects to: the process, a connection."""
    with device(scratch, "b", "--size", "1M", "--fault", "errno@to-resuming") as b:
        load = start("load", b, "-i", "tcp:127.0.0.1:0", "--json", *tls(good(), *options))
        port = int(read_event(load, event="listening")["link"].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            yield load, connection
        equal(state_of(b), "running")


def load_fails(load, says):
    result = finish(load)
    equal(result.code, 1)
    contains(result.out, says)


@test
def client_without_a_certificate(scratch):
    with waiting_load(scratch) as (load, connection):
        with contextlib.suppress(OSError):
            with context("client", good(), False).wrap_socket(connection, server_hostname="localhost") as s:
                contains(str(s.version()), "TLSv1.3")
                s.recv(1)
        load_fails(load, "sent no certificate; one signed by the CA in")


@test
def client_of_an_older_tls(scratch):
    with waiting_load(scratch) as (load, connection):
        c = context("client", good())
        c.maximum_version = ssl.TLSVersion.TLSv1_2
        try:
            c.wrap_socket(connection, server_hostname="localhost")
            raise AssertionError("TLS 1.2 was spoken")
        except ssl.SSLError:
            pass
        load_fails(load, "does not speak TLS 1.3")


@test
def client_that_says_nothing(scratch):
    with waiting_load(scratch, "--timeout", "300") as (load, _):
        load_fails(load, "did not finish the handshake in time")


@contextlib.contextmanager
def server(scratch, side="server"):
    """Somebody else's server, where vfmig's would be: its socket and what to give save."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(scratch + "/server")
        listener.listen(1)
        yield listener, ["-o", "unix:%s/server" % scratch, *tls(good(), *HOST)]


@test
def a_server_that_does_not_answer_keeps_nothing_from_working(scratch):
    with untouchable(scratch) as (a, _), server(scratch) as (listener, link):
        save = start("save", a, *link)
        with listener.accept()[0] as plain, context("server", good()).wrap_socket(plain, server_side=True) as s:
            equal(s.recv(4), b"QEVM")
            save.send_signal(signal.SIGINT)
            contains(finish(save).err, "cancelled")
        equal((save.returncode, state_of(a)), (1, "running"))


@test
def a_server_that_goes_without_a_word(scratch):
    """As QEMU does when it refuses a certificate."""
    with untouchable(scratch) as (a, _), server(scratch) as (listener, link):
        save = start("save", a, *link)
        with listener.accept()[0] as plain, context("server", good()).wrap_socket(plain, server_side=True) as s:
            s.recv(4)
            os.close(s.detach())
        result = finish(save)
        contains(result.err, "it may have refused this side's certificate")
        equal((result.code, state_of(a)), (1, "running"))


@test
def plain_text_refused_after_all_of_it(scratch):
    """Whoever speaks TLS has not taken the stream, however much of it was sent: the source works on."""
    with devices(scratch) as (a, _), server(scratch) as (listener, link):
        save = start("save", a, *link[:2])
        with listener.accept()[0] as s:
            s.sendall(PONG)
            stream = b""
            while not STREAM_END.search(stream[-64:]):
                stream += s.recv(1 << 16)
            s.sendall(bytes.fromhex("15030300020228"))
        contains(finish(save).err, "refused plain text by a TLS alert")
        equal((save.returncode, state_of(a)), (1, "running"))


@test
def a_certificate_refused_after_all_of_it(scratch):
    """The same without a return path: a slow server looks at the certificate when the stream is there already."""
    mixed = authority("another CA").creds("late")
    shutil.copy(good() + "/ca-cert.pem", mixed)
    c = context("server", good())
    c.verify_mode = ssl.CERT_REQUIRED
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    peer = c.wrap_bio(into, out, server_side=True)
    with devices(scratch) as (a, _), server(scratch) as (listener, link):
        save = start("save", a, *link[:2], *tls(mixed, *HOST), "--no-return-path")
        with listener.accept()[0] as s:
            into.write(s.recv(1 << 16))
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.do_handshake()
            s.sendall(out.read())
            rest = b"".join(iter(lambda: s.recv(1 << 16), b""))
            into.write(rest)
            with contextlib.suppress(ssl.SSLError):
                peer.do_handshake()
            s.sendall(out.read())
        contains(finish(save).err, 'by the alert "unknown CA"')
        equal((save.returncode, state_of(a)), (1, "running"))


# ------------------------------------------------------------ credentials

@test
def credentials_that_are_wrong(scratch):
    """Said before anybody is connected to: there is nobody."""
    both = made("both-kinds")
    shutil.copy(psk("qemu:" + KEY) + "/keys.psk", both)
    no_key = made("no-key", "client-key.pem")
    mismatch = made("mismatch")
    shutil.copy(mismatch + "/server-key.pem", mismatch + "/client-key.pem")
    garbage = made("garbage")
    with open(garbage + "/client-cert.pem", "w", encoding="utf-8") as f:
        f.write("no certificate")
    encrypted = made("encrypted")
    subprocess.run(["openssl", "ec", "-aes128", "-passout", "pass:x", "-in", good() + "/client-key.pem", "-out",
                    encrypted + "/client-key.pem"], check=True, stderr=subprocess.DEVNULL)
    for path, says in ((scratch + "/none", "none: No such file"), (scratch, "neither ca-cert.pem"),
                       (both, "ca-cert.pem and keys.psk: which"), (no_key, "client-key.pem: No such file"),
                       (mismatch, "client-key.pem is not the key of"), (garbage, "client-cert.pem is no certificate"),
                       (encrypted, "client-key.pem is encrypted"),
                       (psk("qemu"), "keys.psk:1: expected USER:HEXKEY"), (psk("qemu:xy"), "keys.psk:1: expected"),
                       (psk("qemu:" + 65 * "ab"), "expected USER:HEXKEY"), (psk("#"), "has no line"),
                       (psk("a:" + KEY, "b:" + KEY), "has 2 users: whose")):
        contains(run_fails("save", "sim:", "-o", "tcp:127.0.0.1:1", *tls(path)).err, says)
    if os.geteuid():
        os.chmod(no_key + "/ca-cert.pem", 0)
        contains(run_fails("save", "sim:", "-o", "null:", *tls(no_key)).err, "ca-cert.pem: Permission denied")


@test
def options_that_do_not_fit(scratch):
    for wrong in (["--tls-hostname", "x"], ["--insecure", *tls(good())]):
        equal(run("save", "sim:", "-o", "tcp:127.0.0.1:1", *wrong).code, 2)
    equal(run("load", "sim:", "-i", "tcp:127.0.0.1:1", *tls(good(), *HOST)).code, 2)
    for link in ("null:", "exec:cat", "file:%s/x" % scratch):
        contains(run_fails("save", "sim:", "-o", link, *tls(good())).err, "TLS is for sockets")
    contains(run_fails("save", "sim:", "-o", "-", *tls(good(), *HOST)).err, "TLS is for sockets, and this is none")
    contains(run_fails("save", "sim:", "-o", "unix:%s/x" % scratch, *tls(good())).err, "--tls-hostname NAME")


@test
def a_look_at_what_comes_by_tls(scratch):
    link = "unix:%s/link" % scratch
    inspect = start("inspect", link, *tls(good()))
    run_ok("save", "sim:size=64K", "-q", "-o", link, "--no-return-path", *tls(good(), *HOST))
    result = finish(inspect)
    equal((result.code, result.err), (0, ""))
    contains(result.out, "0000:00:01.0/vfio")
    contains(run_fails("inspect", "tcp:0.0.0.0:0").err, "0.0.0.0 is not of the loopback network")


# ----------------------------------------------------------- the stream's end

@test
def a_stream_that_ends_early_is_not_complete(scratch):
    run_ok("save", "sim:size=1M", "-q", "-o", "file:%s/stream" % scratch)
    with open(scratch + "/stream", "rb") as f:
        stream = f.read()
    for length, close_notify, says in ((100000, False, "without TLS's end (close_notify)"),
                                       (100000, True, "the stream ends in the middle of")):
        load = start("load", "sim:size=1M", "-i", "tcp:127.0.0.1:0", "--json", *tls(good()))
        port = int(read_event(load, event="listening")["link"].rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            s = context("client", good()).wrap_socket(connection, server_hostname="localhost")
            s.sendall(stream[:length])
            if close_notify:
                s.settimeout(1)
                with contextlib.suppress(OSError):
                    s.unwrap()
            else:
                os.close(s.detach())
            load_fails(load, says)
            s.close()


@test
def many_answers_in_one_piece(scratch):
    """Of which poll knows nothing any more once the first of them was read."""
    with devices(scratch) as (a, _), server(scratch) as (listener, link):
        save = start("save", a, *link)
        with listener.accept()[0] as plain, context("server", good()).wrap_socket(plain, server_side=True) as s:
            s.sendall(PONG)
            stream = b""
            while not STREAM_END.search(stream[-64:]):
                stream += s.recv(1 << 16)
            s.sendall(100 * PONG + SHUT)
            equal(finish(save).code, 0)


@test
def to_a_socket_that_only_stores(scratch):
    with devices(scratch) as (a, b), server(scratch) as (listener, link):
        save = start("save", a, *link, "--no-return-path")
        with listener.accept()[0] as plain, context("server", good()).wrap_socket(plain, server_side=True) as s, \
                open(scratch + "/stream", "wb") as stream:
            while data := s.recv(1 << 16):  # b"" is close_notify, anything else an exception
                stream.write(data)
        equal(finish(save).code, 0)
        run_ok("load", b, "-i", "file:%s/stream" % scratch)
        run_ok("prove", a, b)


# ------------------------------------------------------ plain text stays here

@test
def plain_text_does_not_leave_the_machine(scratch):
    for link in ("tcp:0.0.0.0:0", "tcp::0"):
        contains(run_fails("load", "sim:", "-i", link).err, "--insecure")
    contains(run_fails("save", "sim:", "-o", "tcp:192.0.2.1:9").err, "192.0.2.1 is not of the loopback network")
    result = run_fails("save", "sim:", "-o", "tcp:192.0.2.1:9", "--insecure", "--timeout", "50")
    contains(result.err, "connect: ")
    moves(scratch, [], ["--insecure"], "tcp:0.0.0.0:0", "127.0.0.1")


@test
def loopback_is_more_than_one_address(scratch):
    moves(scratch, [], [], "tcp:127.0.0.2:0")


@test
def plain_text_of_ipv6_does_not_leave_the_machine(scratch):
    with_ipv6()
    contains(run_fails("load", "sim:", "-i", "tcp:[::]:0").err, ":: is not of the loopback network")
    for address in ("2001:db8::1", "::ffff:192.0.2.1"):
        contains(run_fails("save", "sim:", "-o", "tcp:[%s]:9" % address).err, "is not of the loopback network")
    moves(scratch, [], [], "tcp:[::ffff:127.0.0.1]:0")


@test
def tls_may_listen_everywhere(scratch):
    moves(scratch, tls(good()), tls(good()), "tcp:0.0.0.0:0", "127.0.0.1")


# ------------------------------------------------------------ systemd's sockets

def activated(listener, *args):
    """vfmig as systemd starts a service of a socket: that is fd 3, and the environment says so."""
    script = 'exec 3<&%d %d<&-; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"' % (2 * (listener.fileno(),))
    return subprocess.Popen(["sh", "-c", script, VFMIG, *args], pass_fds=[listener.fileno()],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def activation(scratch, listener, address, save_options, load_options):
    listener.bind(address)
    listener.listen(1)
    link = "unix:" + address if isinstance(address, str) else "tcp:127.0.0.1:%d" % listener.getsockname()[1]
    with devices(scratch) as (a, b), activated(listener, "load", b, "-i", "fd:3", *load_options) as load:
        try:
            run_ok("save", a, "-o", link, *save_options)
            equal(finish(load).code, 0)
        finally:
            load.kill()
        run_ok("prove", a, b)


def high(listener):
    """Away from 3, as a shell's redirection takes one digit."""
    return socket.socket(fileno=os.dup2(listener.detach(), 9))


@test
def a_tcp_socket_of_systemd(scratch):
    with high(socket.socket()) as listener:
        activation(scratch, listener, ("127.0.0.1", 0), [], [])


@test
def a_tcp_socket_of_systemd_on_every_address_wants_tls(scratch):
    with high(socket.socket()) as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen(1)
        with activated(listener, "load", "sim:", "-i", "fd:3", "--timeout", "5000") as load:
            result = finish(load)
            equal(result.code, 1)
            contains(result.err, "0.0.0.0 is not of the loopback network")
    with high(socket.socket()) as listener:
        activation(scratch, listener, ("0.0.0.0", 0), tls(good()), tls(good()))


@test
def a_unix_socket_of_systemd(scratch):
    with high(socket.socket(socket.AF_UNIX)) as listener:
        activation(scratch, listener, scratch + "/socket", [], [])
    os.mkdir(scratch + "/tls")
    with high(socket.socket(socket.AF_UNIX)) as listener:
        activation(scratch + "/tls", listener, scratch + "/tls/socket", tls(good(), *HOST), tls(good()))


main()
