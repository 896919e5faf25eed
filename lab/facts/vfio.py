# SPDX-License-Identifier: BSD-3-Clause
"""vfio.py: VFIO by group, in system calls only: what the facts are seen with."""
import ctypes
import errno
import fcntl
import os
import struct

BASE = 0x3b64  # _IO(';', 100)
(GET_API_VERSION, CHECK_EXTENSION, SET_IOMMU, GROUP_GET_STATUS, GROUP_SET_CONTAINER, GROUP_UNSET_CONTAINER,
 GROUP_GET_DEVICE_FD, DEVICE_GET_INFO, DEVICE_GET_REGION_INFO, DEVICE_GET_IRQ_INFO, DEVICE_SET_IRQS,
 DEVICE_RESET) = range(BASE, BASE + 12)
IOMMU_GET_INFO, IOMMU_MAP_DMA, IOMMU_UNMAP_DMA = BASE + 12, BASE + 13, BASE + 14
DEVICE_FEATURE, IOMMU_DIRTY_PAGES = BASE + 17, BASE + 17
MIG_GET_PRECOPY_INFO = BASE + 21
TYPE1V2 = 3
GET, SET, PROBE = 1 << 16, 1 << 17, 1 << 18
MIGRATION, MIG_DEVICE_STATE, LOGGING_START, LOGGING_STOP, LOGGING_REPORT, MIG_DATA_SIZE = 1, 2, 6, 7, 8, 9
STATES = 'ERROR STOP RUNNING STOP_COPY RESUMING RUNNING_P2P PRE_COPY PRE_COPY_P2P'.split()


def fact(text):
    print('fact: ' + text, flush=True)


def said(call, *args):
    """What a call gave: its value, or its errno's name."""
    try:
        return call(*args)
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e.errno))


def address(buffer):
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def create(parent, kind, uuid):
    with open(f'/sys/class/mdev_bus/{parent}/mdev_supported_types/{parent}-{kind}/create', 'w') as f:
        f.write(uuid)


class Device:
    def __init__(self, uuid=None, fd=None):
        """Opened by group, or a device fd that someone else has opened."""
        self.fd, self.group, self.container = fd, None, None
        if fd is None:
            self._open(uuid)

    def _open(self, uuid):
        self.container = os.open('/dev/vfio/vfio', os.O_RDWR)
        group = os.path.basename(os.readlink(f'/sys/bus/mdev/devices/{uuid}/iommu_group'))
        self.group = os.open(f'/dev/vfio/{group}', os.O_RDWR)
        fcntl.ioctl(self.group, GROUP_SET_CONTAINER, struct.pack('i', self.container))
        fcntl.ioctl(self.container, SET_IOMMU, TYPE1V2)
        self.fd = fcntl.ioctl(self.group, GROUP_GET_DEVICE_FD, bytearray(uuid.encode() + b'\0'))

    def close(self):
        for fd in (self.fd, self.group, self.container):
            if fd is not None:
                os.close(fd)

    def feature(self, flags, data=b''):
        b = bytearray(struct.pack('II', 8 + len(data), flags) + data)
        fcntl.ioctl(self.fd, DEVICE_FEATURE, b)
        return bytes(b[8:])

    def state(self):
        return STATES[struct.unpack('Ii', self.feature(GET | MIG_DEVICE_STATE, bytes(8)))[0]]

    def set_state(self, name):
        """The data_fd that it gives, -1 for none."""
        data = struct.pack('Ii', STATES.index(name), -1)
        return struct.unpack('Ii', self.feature(SET | MIG_DEVICE_STATE, data))[1]

    def reset(self):
        return fcntl.ioctl(self.fd, DEVICE_RESET)

    def region_info(self, index, argsz=4096):
        b = bytearray(4096)
        struct.pack_into('II', b, 0, argsz, 0)
        struct.pack_into('I', b, 8, index)
        fcntl.ioctl(self.fd, DEVICE_GET_REGION_INFO, b)
        return b

    def region_offset(self, index):
        return struct.unpack_from('Q', self.region_info(index), 24)[0]

    def region_capabilities(self, index):
        b = self.region_info(index)
        at = struct.unpack_from('I', b, 12)[0]
        while at:
            ident, version, following = struct.unpack_from('HHI', b, at)
            yield ident, version, b[at + 8:]
            at = following

    def iommu_capabilities(self):
        b = bytearray(4096)
        struct.pack_into('I', b, 0, len(b))
        fcntl.ioctl(self.container, IOMMU_GET_INFO, b)
        at = struct.unpack_from('I', b, 16)[0]
        while at:
            ident, version, following = struct.unpack_from('HHI', b, at)
            yield ident, version, b[at + 8:]
            at = following
