# SPDX-License-Identifier: BSD-3-Clause
"""certificates.py: a CA, certificates and keys for tests, in folders as --tls-creds and QEMU's tls-creds take them."""
import os
import shutil
import subprocess
import tempfile

from tap import Skip

NAMES = "DNS:localhost,IP:127.0.0.1,IP:::1"
CONFIG = """[ca]
default_ca = here
[here]
database = {0}/index.txt
default_md = sha256
default_crl_days = 2
"""


def _openssl(*args):
    try:
        done = subprocess.run(["openssl", *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
    except FileNotFoundError:
        raise Skip("no openssl (package openssl)")
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def new_key(*request):
    """A key and, in one go, what is made of it."""
    _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", *request)


class Authority:
    def __init__(self, folder, name="vfmig test CA"):
        self.folder = tempfile.mkdtemp(prefix="ca-", dir=folder)
        self.cert, self.key = self.folder + "/ca-cert.pem", self.folder + "/ca-key.pem"
        new_key("-x509", "-days", "2", "-subj", "/CN=" + name, "-keyout", self.key, "-out", self.cert)

    def certificate(self, folder, side, names=NAMES, days=2):
        """FOLDER/SIDE-cert.pem and its key; side: client or server."""
        base = "%s/%s" % (folder, side)
        extensions = self.folder + "/extensions"
        with open(extensions, "w", encoding="utf-8") as f:
            f.write("subjectAltName=%s\nextendedKeyUsage=%sAuth\n" % (names, side))
        new_key("-subj", "/CN=" + side, "-keyout", base + "-key.pem", "-out", base + ".csr")
        _openssl("x509", "-req", "-in", base + ".csr", "-CA", self.cert, "-CAkey", self.key, "-CAcreateserial",
                 "-days", str(days), "-extfile", extensions, "-out", base + "-cert.pem")
        os.remove(base + ".csr")

    def creds(self, name, **kwargs):
        """A folder of both sides' credentials."""
        folder = "%s/%s" % (self.folder, name)
        os.mkdir(folder)
        shutil.copy(self.cert, folder)
        for side in ("client", "server"):
            self.certificate(folder, side, **kwargs)
        return folder

    def revoke(self, folder, side):
        """FOLDER/ca-crl.pem, which lists SIDE's certificate."""
        serial = _openssl("x509", "-in", "%s/%s-cert.pem" % (folder, side), "-noout", "-serial").split("=")[1].strip()
        with open(self.folder + "/index.txt", "w", encoding="utf-8") as f:
            f.write("R\t400101000000Z\t240101000000Z\t%s\tunknown\t/CN=%s\n" % (serial, side))
        with open(self.folder + "/ca.conf", "w", encoding="utf-8") as f:
            f.write(CONFIG.format(self.folder))
        _openssl("ca", "-config", self.folder + "/ca.conf", "-gencrl", "-cert", self.cert, "-keyfile", self.key,
                 "-out", folder + "/ca-crl.pem")


def psk(folder, *lines):
    """A folder with keys.psk."""
    folder = tempfile.mkdtemp(prefix="psk-", dir=folder)
    with open(folder + "/keys.psk", "w", encoding="utf-8") as f:
        f.write("".join(line + "\n" for line in lines))
    return folder
