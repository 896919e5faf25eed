# SPDX-License-Identifier: BSD-3-Clause
"""inside.py: a program under the shim, which does VFIO's system calls; its argument is what is to be looked at."""
import array
import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import socket
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
BASE = ord(";") << 8 | 100
(API_VERSION, EXTENSION, SET_IOMMU, GROUP_STATUS, SET_CONTAINER, UNSET_CONTAINER, DEVICE_FD, DEVICE_INFO, REGION_INFO,
 IRQ_INFO, SET_IRQS, RESET) = range(BASE, BASE + 12)
IOMMU_INFO, MAP, UNMAP, DIRTY, FEATURE, PRECOPY_INFO = BASE + 12, BASE + 13, BASE + 14, BASE + 17, BASE + 17, BASE + 21
START, STOP, GET_BITMAP = 1, 2, 4
GET, SET, PROBE = 1 << 16, 1 << 17, 1 << 18
IOVA = 0x100000
PAGE = 4096


def ioctl(fd, request, arg=0):
    r = LIBC.ioctl(fd, ctypes.c_ulong(request), ctypes.byref(arg) if isinstance(arg, ctypes.Array) else
                   ctypes.c_void_p(arg))
    if r < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return r


def packed(layout, *values, room=0):
    data = struct.pack("=" + layout, *values)
    return ctypes.create_string_buffer(data, len(data) + room)


@contextlib.contextmanager
def fails(code):
    try:
        yield
    except OSError as e:
        assert e.errno == code, "%s, expected %s" % (errno.errorcode[e.errno], errno.errorcode[code])
    else:
        raise AssertionError("no error, expected %s" % errno.errorcode[code])


def open_group():
    container = os.open("/dev/vfio/vfio", os.O_RDWR)
    group = os.open("/dev/vfio/1000", os.O_RDWR)
    ioctl(group, SET_CONTAINER, packed("i", container))
    ioctl(container, SET_IOMMU, 3)
    return container, group


def open_device():
    container, group = open_group()
    return container, group, ioctl(group, DEVICE_FD, packed("13s", b"0000:f0:00.0"))


def memory(pages):
    m = mmap.mmap(-1, pages * PAGE)
    return m, ctypes.addressof(ctypes.c_char.from_buffer(m))


def map_dma(container, iova, size, address, flags=3):
    ioctl(container, MAP, packed("IIQQQ", 32, flags, address, iova, size))


def bitmap(container, iova, pages, pgsize=PAGE):
    bits = ctypes.create_string_buffer((pages + 63) // 64 * 8)
    ioctl(container, DIRTY, packed("IIQQQQQ", 48, GET_BITMAP, iova, pages * PAGE, pgsize, len(bits),
                                   ctypes.addressof(bits)))
    return int.from_bytes(bits.raw, "little")


def register(device, offset, value=None):
    if value is not None:
        os.pwrite(device, struct.pack("=Q", value), offset)
    return struct.unpack("=Q", os.pread(device, 8, offset))[0]


def let_log(device, iova, entries, count):
    """The engine on until it has written count entries more; then off."""
    register(device, 0x50, iova)
    register(device, 0x58, entries)
    before = register(device, 0x60)
    register(device, 0x08, 1)
    while register(device, 0x60) < before + count:
        pass
    register(device, 0x08, 0)


def opening():
    container = os.open("/dev/vfio/vfio", os.O_RDWR)
    assert ioctl(container, API_VERSION) == 0
    assert ioctl(container, EXTENSION, 3) == 1 and ioctl(container, EXTENSION, 7) == 0
    with fails(errno.EINVAL):
        ioctl(container, SET_IOMMU, 3)
    with fails(errno.ENOENT):
        os.open("/dev/vfio/1001", os.O_RDWR)
    group = os.open("/dev/vfio/1000", os.O_RDWR)
    with fails(errno.EBUSY):
        os.open("/dev/vfio/1000", os.O_RDWR)
    name = packed("13s", b"0000:f0:00.0")
    with fails(errno.EINVAL):
        ioctl(group, DEVICE_FD, name)
    with fails(errno.EINVAL):
        ioctl(group, SET_CONTAINER, packed("i", 0))
    status = packed("II", 8, 0)
    ioctl(group, GROUP_STATUS, status)
    assert struct.unpack("=II", status.raw[:8]) == (8, 1)
    ioctl(group, SET_CONTAINER, packed("i", container))
    with fails(errno.ENODEV):
        ioctl(container, SET_IOMMU, 7)
    ioctl(container, SET_IOMMU, 3)
    with fails(errno.ENODEV):
        ioctl(group, DEVICE_FD, packed("13s", b"0000:f0:01.0"))
    device = ioctl(group, DEVICE_FD, name)
    with fails(errno.EBUSY):
        ioctl(group, UNSET_CONTAINER)
    with fails(errno.ENOTTY):
        ioctl(device, API_VERSION)
    os.close(group)
    os.close(container)
    with fails(errno.EBUSY):  # the device holds them
        os.open("/dev/vfio/1000", os.O_RDWR)
    again = os.dup(device)
    os.close(device)
    assert os.pread(again, 2, 7 << 40) == b"\xf0\xff"
    os.close(again)
    os.close(os.open("/dev/vfio/1000", os.O_RDWR))


def regions():
    device = open_device()[2]
    info = packed("IIIIQQ", 32, 0, 9, 0, 0, 0, room=256)
    ioctl(device, REGION_INFO, info)
    argsz, flags, _, caps, size, offset = struct.unpack_from("=IIIIQQ", info)
    assert flags == 15 and caps == 0 and argsz > 32 and offset == 9 << 40
    struct.pack_into("=I", info, 0, argsz)
    ioctl(device, REGION_INFO, info)
    at, found = struct.unpack_from("=I", info, 12)[0], {}
    while at:
        cap, _, following = struct.unpack_from("=HHI", info, at)
        found[cap], at = at, following
    assert struct.unpack_from("=II", info, found[2] + 8) == (3, 1)
    assert struct.unpack_from("=IIQQ", info, found[1] + 8) == (1, 0, 0x1000, size - 0x1000)
    with fails(errno.EINVAL):
        ioctl(device, REGION_INFO, packed("IIIIQQ", 32, 0, 10, 0, 0, 0))
    with fails(errno.EINVAL):
        ioctl(device, REGION_INFO, packed("IIIIQQ", 31, 0, 0, 0, 0, 0))
    one = mmap.mmap(device, size - 0x1000, offset=offset + 0x1000)
    two = mmap.mmap(device, 0x1000, offset=offset + 0x2000)
    one[0x1000:0x1004] = b"seen"
    assert two[:4] == b"seen"
    for wrong, length in ((0, 0x1000), (0x1000, size)):
        with fails(errno.EINVAL):
            mmap.mmap(device, length, offset=offset + wrong)
    with fails(errno.EINVAL):
        mmap.mmap(device, 0x1000)


def dma():
    container, _, device = open_device()
    m, address = memory(8)
    map_dma(container, IOVA, 4 * PAGE, address)
    map_dma(container, IOVA + 4 * PAGE, 4 * PAGE, address + 4 * PAGE)
    for iova, size, flags, code in ((IOVA, PAGE, 3, errno.EEXIST), (IOVA + 1, PAGE, 3, errno.EINVAL),
                                    (0, 100, 3, errno.EINVAL), (0, PAGE, 0, errno.EINVAL),
                                    (1 << 48, PAGE, 3, errno.EINVAL), (0, 0, 3, errno.EINVAL)):
        with fails(code):
            map_dma(container, iova, size, address, flags)
    with fails(errno.EINVAL):
        bitmap(container, IOVA, 8)
    let_log(device, IOVA, 16, 16)
    ioctl(container, DIRTY, packed("II", 8, START))
    assert bitmap(container, IOVA, 8) == 0  # nothing since the start
    let_log(device, IOVA + 3 * PAGE, 2 * PAGE // 32, 2 * PAGE // 32)
    assert m[3 * PAGE:3 * PAGE + 8] == b"vfsimlog"
    assert bitmap(container, IOVA, 8) == 0b11000
    assert bitmap(container, IOVA, 8) == 0
    let_log(device, IOVA + 6 * PAGE, 1, 1)
    for iova, pages, pgsize in ((IOVA, 6, PAGE), (IOVA + PAGE, 3, PAGE), (IOVA, 8, 8192), (IOVA, 0, PAGE)):
        with fails(errno.EINVAL):
            bitmap(container, iova, pages, pgsize)
    with fails(errno.EINVAL):
        ioctl(container, UNMAP, packed("IIQQ", 24, 0, IOVA + PAGE, PAGE))
    bits = ctypes.create_string_buffer(8)
    unmap = packed("IIQQQQQ", 48, 1, IOVA + 4 * PAGE, 4 * PAGE, PAGE, 8, ctypes.addressof(bits))
    ioctl(container, UNMAP, unmap)
    assert bits.raw[0] == 0b0100 and struct.unpack_from("=Q", unmap, 16)[0] == 4 * PAGE
    ioctl(container, DIRTY, packed("II", 8, STOP))
    everything = packed("IIQQ", 24, 2, 0, 0)
    ioctl(container, UNMAP, everything)
    assert struct.unpack_from("=Q", everything, 16)[0] == 4 * PAGE
    lost = register(device, 0x68)
    register(device, 0x08, 1)
    while register(device, 0x68) == lost:
        pass


def feature(device, flags, layout="", *values):
    data = packed("II" + layout, 8 + struct.calcsize("=" + layout), flags, *values)
    ioctl(device, FEATURE, data)
    return struct.unpack_from("=" + layout, data, 8)


def set_state(device, state):
    return feature(device, SET | 2, "Ii", state, -1)[1]


def features_v1():
    device = open_device()[2]
    for flags in (GET | 1, GET | 2, PROBE | 1):
        with fails(errno.ENOTTY):
            feature(device, flags, "Q", 0)


def features():
    device = open_device()[2]
    assert feature(device, GET | 1, "Q", 0)[0] & 5 == 5
    feature(device, PROBE | GET | SET | 2)
    for flags, layout, code in ((PROBE | SET | 1, "", errno.EINVAL), (GET | SET | 2, "Ii", errno.EINVAL),
                                (GET | 1, "", errno.EINVAL), (2, "Ii", errno.EINVAL), (GET | 3, "Q", errno.ENOTTY),
                                (1 << 19 | GET | 1, "Q", errno.EINVAL)):
        with fails(code):
            feature(device, flags, layout, *[0] * len(layout))
    assert feature(device, GET | 2, "Ii", 0, 0) == (2, -1)
    assert set_state(device, 2) == -1
    save = set_state(device, 6)
    assert save >= 0 and fcntl.fcntl(save, fcntl.F_GETFD) == fcntl.FD_CLOEXEC
    info = packed("IIQQ", 24, 0, 0, 0)
    ioctl(save, PRECOPY_INFO, info)
    assert sum(struct.unpack_from("=QQ", info, 8)) > 0
    with fails(errno.EBADF):
        os.write(save, b"x")
    with fails(errno.ESPIPE):
        os.pread(save, 1, 0)
    state = b""
    with fails(errno.ENOMSG):
        while True:
            state += os.read(save, 65536)
    assert set_state(device, 3) == -1
    with fails(errno.EINVAL):
        ioctl(save, PRECOPY_INFO, info)
    piece = os.read(save, 65536)
    while piece:
        state += piece
        piece = os.read(save, 65536)
    assert set_state(device, 1) == -1
    with fails(errno.ENODEV):
        os.read(save, 1)
    load = set_state(device, 4)
    with fails(errno.EBADF):
        os.read(load, 1)
    os.write(load, state[:-1])
    with fails(errno.EINVAL):
        set_state(device, 1)
    ioctl(device, RESET)
    with fails(errno.ENODEV):
        os.write(load, state[-1:])
    assert feature(device, GET | 2, "Ii", 0, 0) == (2, -1)


def give(path):
    device = open_device()[2]
    register(device, 0x50, 4711)
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [device]))])


def take(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    print("listening", flush=True)
    s = listener.accept()[0]
    _, ancillary, _, _ = s.recvmsg(1, 64)
    assert s.recv(1) == b""  # the giver has gone
    device = struct.unpack("i", ancillary[0][2][:4])[0]
    info = packed("IIIII", 20, 0, 0, 0, 0)
    ioctl(device, DEVICE_INFO, info)
    assert struct.unpack_from("=III", info, 4) == (3, 10, 5)
    assert register(device, 0x50) == 4711


def fork():
    """A child's copies of the fds are not its devices; closing them is nothing to the parent."""
    device = open_device()[2]
    pid = os.fork()
    if pid == 0:
        os.closerange(3, 100)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert os.pread(device, 2, 7 << 40) == b"\xf0\xff"
    os.closerange(3, 100)
    os.close(os.open("/dev/vfio/1000", os.O_RDWR))


globals()[sys.argv[1]](*sys.argv[2:])
