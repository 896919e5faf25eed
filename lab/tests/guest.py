# SPDX-License-Identifier: BSD-3-Clause
"""guest.py: mediated devices, QEMUs and written pages for the tests that run in the lab's guest."""
import errno
import json
import os
import socket
import subprocess
import sys
import uuid

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
sys.path += [os.path.join(TOP, 'tests/cli'), os.path.join(TOP, 'lab/facts')]
import vfio  # noqa: E402
from tap import VFMIG, equal  # noqa: E402

SCRATCH_REGISTER = 7  # of a serial port
PAGE = 4096


class Mdev:
    """A mediated device, made for one test."""

    def __init__(self, parent, kind, **parameters):
        for name, value in parameters.items():
            with open(f'/sys/module/{parent}/parameters/{name}', 'w') as f:
                f.write(str(value))
        self.uuid = str(uuid.uuid4())
        vfio.create(parent, kind, self.uuid)
        self.path = f'/sys/bus/mdev/devices/{self.uuid}'
        self.uri = f'mdev:{self.uuid}'

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with open(self.path + '/remove', 'w') as f:
            f.write('1')


class V1(Mdev):
    def __init__(self, kind='trapped', **parameters):
        defaults = {'state_kib': 2048, 'section_kib': 256, 'precopy': 1, 'dirty_kib_s': 0, 'access_bytes': 0}
        super().__init__('vfmig_v1', kind, **{**defaults, **parameters})

    def change(self, pages):
        with open(self.path + '/vfmig/change', 'w') as f:
            f.write(str(pages))

    def read(self, name):
        with open(f'{self.path}/vfmig/{name}', 'rb') as f:
            return f.read()

    def stats(self):
        words = self.read('stats').decode().split()
        return {k: v if 'digest' in k else int(v) for k, v in zip(words[::2], words[1::2])}

    def sizes(self, name):
        return [int(word) for word in self.read(name).split()]


class Mtty(Mdev):
    def __init__(self):
        super().__init__('mtty', '2')

    def registers(self, values=None):
        """The two ports' scratch registers; None: reads them."""
        device = vfio.Device(self.uuid)
        got = scratch_registers(device, values)
        device.close()
        return got


def scratch_registers(device, values=None):
    got = []
    for port in range(2):
        at = device.region_offset(port) + SCRATCH_REGISTER
        if values:
            os.pwrite(device.fd, bytes([values[port]]), at)
        got.append(os.pread(device.fd, 1, at)[0])
    return got


class Qemu:
    """One of the two QEMUs with these devices, stopped, told what to do over QMP."""
    COMMAND = {'7.2': ['qemu-system-x86_64'],
               '10.0': ['/opt/qemu-10/usr/bin/qemu-system-x86_64', '-L', '/opt/qemu-10/usr/share/qemu', '-L',
                        '/opt/qemu-10/usr/share/seabios', '-L', '/usr/share/seabios']}
    OPTIONS = {'7.2': 'x-enable-migration=on', '10.0': 'enable-migration=on,x-device-dirty-page-tracking=off'}

    def __init__(self, scratch, version, devices, incoming=False):
        self.socket = socket.socketpair(socket.AF_UNIX)
        theirs = self.socket[1].fileno()
        os.set_inheritable(theirs, True)
        arguments = [*self.COMMAND[version], '-accel', 'tcg', '-S', '-display', 'none', '-nodefaults', '-machine',
                     f'pc-q35-{version}', '-m', '16M', '-chardev', f'socket,id=qmp,fd={theirs}', '-mon',
                     'chardev=qmp,mode=control']
        for number, device in enumerate(devices, 1):
            arguments += ['-device', f'vfio-pci,sysfsdev={device.path},addr={number},{self.OPTIONS[version]}']
        self.log = open(f'{scratch}/qemu-{version}-{"in" if incoming else "out"}.log', 'w+b')
        self.process = subprocess.Popen(arguments + (['-incoming', 'defer'] if incoming else []), stdout=self.log,
                                        stderr=self.log, pass_fds=[theirs], stdin=subprocess.DEVNULL)
        self.socket[1].close()
        self.file = self.socket[0].makefile('rw')
        self.command('qmp_capabilities')
        self.command('migrate-set-capabilities', capabilities=[{'capability': 'events', 'state': True}])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def receive(self):
        line = self.file.readline()
        if not line:
            self.log.seek(0)
            raise AssertionError('QEMU ended: ' + self.log.read().decode())
        return json.loads(line)

    def command(self, name, **arguments):
        self.file.write(json.dumps({'execute': name, 'arguments': arguments}) + '\n')
        self.file.flush()
        while True:
            answer = self.receive()
            if 'error' in answer:
                raise AssertionError(f'{name}: {answer["error"]}')
            if 'return' in answer:
                return answer['return']

    def migrated(self):
        """Waits for the end of a migration."""
        while True:
            event = self.receive()
            if event.get('event') != 'MIGRATION':
                continue
            if event['data']['status'] == 'completed':
                return
            if event['data']['status'] == 'failed':
                self.log.seek(0)
                raise AssertionError(f'QEMU: migration failed: {self.log.read().decode()}')

    def save(self, path):
        self.command('migrate', uri=f'exec:cat>{path}')
        self.migrated()

    def load(self, path):
        """The devices leave RESUMING, which is where they say whether all is well, when the machine starts."""
        self.command('migrate-incoming', uri=f'exec:cat {path}')
        self.migrated()
        self.command('cont')


class Failed(Exception):
    """A command of Dirty's: its errno (EOPNOTSUPP is called ENOTSUP) and its message."""


class Dirty:
    """The program lab-dirty, which has a device open and tells its logs of written pages."""

    def __init__(self, uri, access='group'):
        path = os.path.join(os.path.dirname(VFMIG), 'lab', 'lab-dirty')
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.say(f'open {uri} {access}')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        equal(self.process.wait(), 0)

    def say(self, line):
        self.process.stdin.write(line + '\n')
        self.process.stdin.flush()
        word, *rest = self.process.stdout.readline().split()
        if word == 'error':
            raise Failed(int(rest[0]), ' '.join(rest[1:]))
        return [int(number) for number in rest]

    def fails(self, line):
        try:
            said = self.say(line)
        except Failed as failure:
            return errno.errorcode[failure.args[0]]
        raise AssertionError(f'{line}: {said}, and was to fail')

    def map(self, iova, pages):
        self.say(f'map memory {iova} {pages * PAGE}')

    def write(self, iova, length=1):
        self.say(f'write memory {iova} {length}')

    def report(self, iova, pages, page_size=PAGE):
        return self.say(f'report mappings {iova} {pages * PAGE} {page_size}')

    def changed(self, iova, pages):
        return self.say(f'changed memory {iova} {pages * PAGE}')

    def unmap(self, iova, pages):
        return self.say(f'unmap mappings {iova} {pages * PAGE} {PAGE}')

    def check(self, iova, pages, expected):
        """The report is what memory shows, and what is expected."""
        equal((self.report(iova, pages), self.changed(iova, pages)), (expected, expected))
