# SPDX-License-Identifier: BSD-3-Clause
"""vfmig.py: libvfmig for Python, to script the bring-up of a device that migrates. Linux, no other module needed.

    import vfmig
    with vfmig.Device("vfio-user:/run/a.sock") as a, vfmig.Device("vfio-user:/run/b.sock") as b:
        print(a.state)                                     # "running"
        status = vfmig.save(a, "file:device.state", downtime_limit_ns=50_000_000)
        print(status.total_bytes, status.downtime_ns)
        vfmig.load(b, "file:device.state")

URIs, links and options are vfmig.h's. What fails raises vfmig.Error, an OSError with the library's line. What the
library logs goes to the logger "vfmig". Guest memory and participants of one's own are for C.
The library is libvfmig.so.0, or what the environment's LIBVFMIG names.
"""
import ctypes as C
import logging
import os
import select

_lib = C.CDLL(os.environ.get("LIBVFMIG", "libvfmig.so.0"))
_log = logging.getLogger("vfmig")
_LEVELS = [logging.WARNING, logging.INFO, logging.DEBUG]
_AGAIN, _WAIT, _DONE = 0, 1, 2
DMA_READ, DMA_WRITE = 1, 2
_LOG_FN = C.CFUNCTYPE(None, C.c_void_p, C.c_int, C.c_char_p)
_LISTENING_FN = C.CFUNCTYPE(None, C.c_void_p, C.c_char_p)


class _Error(C.Structure):
    _fields_ = [("code", C.c_int), ("message", C.c_char * 508)]


class _DeviceOptions(C.Structure):
    _fields_ = [("size", C.c_size_t), ("timeout_ms", C.c_uint32), ("interface", C.c_char_p),
                ("split_transactions", C.c_bool), ("access", C.c_char_p)]


class _LinkOptions(C.Structure):
    _fields_ = [("size", C.c_size_t), ("timeout_ms", C.c_uint32), ("listening", _LISTENING_FN),
                ("listening_opaque", C.c_void_p), ("tls_creds", C.c_char_p), ("tls_hostname", C.c_char_p),
                ("insecure", C.c_bool), ("further_connections", C.c_uint32), ("zstd_level", C.c_uint32)]


class _SaveOptions(C.Structure):
    _fields_ = [("size", C.c_size_t), ("machine", C.c_char_p), ("downtime_limit_ns", C.c_uint64),
                ("no_precopy", C.c_bool), ("no_return_path", C.c_bool), ("log", _LOG_FN), ("log_opaque", C.c_void_p),
                ("max_bandwidth", C.c_uint64), ("precopy_timeout_ns", C.c_uint64), ("precopy_timeout", C.c_void_p),
                ("precopy_timeout_opaque", C.c_void_p), ("journal", C.c_char_p), ("retry_for_ns", C.c_uint64),
                ("multifd_channels", C.c_uint32), ("multifd_uuid", C.c_uint8 * 16), ("switchover_ack", C.c_bool),
                ("no_digest", C.c_bool), ("again", C.c_char_p)]


class _LoadOptions(C.Structure):
    _fields_ = [("size", C.c_size_t), ("require_digest", C.c_bool), ("no_start", C.c_bool),
                ("no_verify_first", C.c_bool), ("log", _LOG_FN), ("log_opaque", C.c_void_p), ("journal", C.c_char_p),
                ("retry_for_ns", C.c_uint64), ("multifd_channels", C.c_uint32), ("multifd_uuid", C.c_uint8 * 16),
                ("max_queued", C.c_uint64), ("switchover_ack", C.c_bool),
                ("replace", C.c_char_p)]


class Status(C.Structure):
    """struct vfmig_status; phase_name is its phase in words."""
    _fields_ = [("phase", C.c_int)] + [(name, C.c_uint64) for name in (
        "setup_bytes", "precopy_bytes", "stop_copy_bytes", "total_bytes", "rounds", "pending_bytes",
        "bandwidth_bytes_per_s", "expected_downtime_ns", "elapsed_ns", "downtime_ns")] + [
        ("source_may_run", C.c_bool), ("digest_verified", C.c_bool), ("session", C.c_char * 33),
        ("outcome_unknown", C.c_bool)] + [
        (name, C.c_uint64) for name in ("memory_pages", "memory_zero_pages", "dirty_syncs", "dirty_pages",
                                        "dirty_interval_ns", "compressed_bytes")] + [
        ("downtime_steps_ns", C.c_uint64 * 12)]

    @property
    def phase_name(self):
        return _lib.vfmig_phase_name(self.phase).decode()


class Error(OSError):
    """errno and strerror as ever; status: of the save or load that failed, or None."""
    status = None


_lib.vfmig_version.restype = _lib.vfmig_state_name.restype = _lib.vfmig_phase_name.restype = C.c_char_p
_lib.vfmig_device_name.restype = C.c_char_p


def _call(name, *args):
    """Calls a function whose last parameter is the error; its result, if that is none."""
    err = _Error()
    result = getattr(_lib, name)(*args, C.byref(err))
    if result < 0:
        raise Error(-result, err.message.decode(errors="replace") or os.strerror(-result))
    return result


def _fill(options, given):
    """Sets what of `given` the option struct has, and takes it out of there."""
    options.size = C.sizeof(options)
    for name, kind in options._fields_[1:]:
        if name in given:
            value = given.pop(name)
            if kind is C.c_char_p and value is not None:
                value = os.fsencode(value)
            elif kind is _LISTENING_FN:
                value = kind(lambda _, where, tell=value: tell(where.decode()))
            setattr(options, name, kind(*value) if name == "multifd_uuid" else value)
    return options


def _refuse(given):
    if given:
        raise TypeError("no such option: " + ", ".join(given))


def version():
    return _lib.vfmig_version().decode()


class Device:
    """An open device. options: those of struct vfmig_device_options."""

    def __init__(self, uri, **options):
        self.handle = C.c_void_p()
        opts = _fill(_DeviceOptions(), options)
        _refuse(options)
        _call("vfmig_device_open", os.fsencode(uri), C.byref(opts), C.byref(self.handle))

    @property
    def name(self):
        return _lib.vfmig_device_name(self.handle).decode()

    @property
    def state(self):
        state = C.c_int()
        _call("vfmig_device_state", self.handle, C.byref(state))
        return _lib.vfmig_state_name(state).decode()

    def dma_map(self, iova, length, fd, offset=0, flags=DMA_READ | DMA_WRITE):
        _call("vfmig_device_dma_map", self.handle, C.c_uint64(iova), C.c_uint64(length), fd, C.c_uint64(offset), flags)

    def dma_unmap(self, iova, length):
        _call("vfmig_device_dma_unmap", self.handle, C.c_uint64(iova), C.c_uint64(length))

    def close(self):
        _lib.vfmig_device_close(self.handle)
        self.handle = C.c_void_p()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _run(kind, handle, on_status):
    """Steps to the end. An exception, Ctrl-C's say, ends the migration as a cancel does."""
    events, result, status = C.c_short(), _AGAIN, Status()
    while result != _DONE:
        result = _call("vfmig_%s_step" % kind, handle)
        if on_status:
            getattr(_lib, "vfmig_%s_status" % kind)(handle, C.byref(status))
            on_status(status)
        if result == _WAIT:
            fd = getattr(_lib, "vfmig_%s_wait" % kind)(handle, C.byref(events))
            poll = select.poll()
            poll.register(fd, events.value)
            poll.poll()


def _migrate(kind, devices, link_uri, opts, on_status, options):
    opts.log = _LOG_FN(lambda _, level, line: _log.log(_LEVELS[level], line.decode(errors="replace")))
    link, handle, status = C.c_void_p(), C.c_void_p(), Status()
    link_options = _fill(_LinkOptions(), options)
    _refuse(options)
    try:
        _call("vfmig_link_open", os.fsencode(link_uri), int(kind == "load"), C.byref(link_options), C.byref(link))
        _call("vfmig_%s_new" % kind, link, C.byref(opts), C.byref(handle))
        for device_id, device in devices.items():
            _call("vfmig_%s_add_device" % kind, handle, device.handle, device_id and os.fsencode(device_id))
        _run(kind, handle, on_status)
    except Error as error:
        error.status = status
        raise
    finally:
        if handle:
            getattr(_lib, "vfmig_%s_status" % kind)(handle, C.byref(status))
        getattr(_lib, "vfmig_%s_free" % kind)(handle)
        _lib.vfmig_link_close(link)
    return status


def save(devices, link, on_status=None, **options):
    """Saves a Device, or a dict of them by their section ids, into a link; the Status at the end.

    on_status: called with the Status after each step. options: those of vfmig_save_options and vfmig_link_options."""
    devices = {"0000:00:01.0/vfio": devices} if isinstance(devices, Device) else devices
    return _migrate("save", devices, link, _fill(_SaveOptions(), options), on_status, options)


def load(devices, link, on_status=None, **options):
    """The same the other way round; a Device alone is loaded from the only section of a stream."""
    devices = {None: devices} if isinstance(devices, Device) else devices
    return _migrate("load", devices, link, _fill(_LoadOptions(), options), on_status, options)
