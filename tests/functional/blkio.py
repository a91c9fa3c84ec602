"""libblkio, a block device client of others, as far as tests use it: its virtio-blk-vhost-user driver through ctypes."""

import contextlib
import ctypes
import functools

import backends  # noqa: F401  (puts tests/host on the path)
import peers

DRIVER = b"virtio-blk-vhost-user"
NO_UNMAP = 2
TIMEOUT = 60


class Region(ctypes.Structure):
    """struct blkio_mem_region."""

    _fields_ = [("addr", ctypes.c_void_p), ("len", ctypes.c_size_t), ("iova", ctypes.c_uint64),
                ("fd_offset", ctypes.c_int64), ("fd", ctypes.c_int), ("flags", ctypes.c_uint32)]


class Completion(ctypes.Structure):
    """struct blkio_completion."""

    _fields_ = [("user_data", ctypes.c_void_p), ("error_msg", ctypes.c_char_p), ("ret", ctypes.c_int),
                ("reserved", ctypes.c_uint8 * 12)]


class Timespec(ctypes.Structure):
    """struct timespec."""

    _fields_ = [("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long)]


class BlkioError(Exception):
    """What libblkio says went wrong."""


@functools.cache
def library():
    """The library, with the types of what is called here."""
    lib = ctypes.CDLL(str(peers.libblkio()))
    lib.blkio_get_error_msg.restype = ctypes.c_char_p
    lib.blkio_get_queue.restype = ctypes.c_void_p
    pointer, number, size = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_size_t
    lib.blkio_get_queue.argtypes = [pointer, ctypes.c_int]
    for name in ("read", "write"):
        getattr(lib, f"blkioq_{name}").argtypes = [pointer, number, pointer, size, pointer, ctypes.c_uint32]
    for name in ("discard", "write_zeroes"):
        getattr(lib, f"blkioq_{name}").argtypes = [pointer, number, number, pointer, ctypes.c_uint32]
    lib.blkioq_flush.argtypes = [pointer, pointer, ctypes.c_uint32]
    lib.blkioq_do_io.argtypes = [pointer, pointer, ctypes.c_int, ctypes.c_int, pointer]
    for name in ("connect", "start"):
        getattr(lib, f"blkio_{name}").argtypes = [pointer]
    for name in ("alloc_mem_region", "map_mem_region"):
        getattr(lib, f"blkio_{name}").argtypes = [pointer, pointer] + ([size] if name.startswith("alloc") else [])
    lib.blkio_set_str.argtypes = [pointer, ctypes.c_char_p, ctypes.c_char_p]
    lib.blkio_set_bool.argtypes = [pointer, ctypes.c_char_p, ctypes.c_bool]
    lib.blkio_set_int.argtypes = [pointer, ctypes.c_char_p, ctypes.c_int]
    lib.blkio_get_uint64.argtypes = [pointer, ctypes.c_char_p, pointer]
    lib.blkio_get_bool.argtypes = [pointer, ctypes.c_char_p, pointer]
    return lib


class Device:
    """A disk behind a vhost-user socket, with a memory region for buffers."""

    def __init__(self, path, n_queues=1, buffers=1 << 20, read_only=False):
        self.lib, self._handle = library(), ctypes.c_void_p()
        self._check(self.lib.blkio_create(DRIVER, ctypes.byref(self._handle)))
        try:
            self._start(path, n_queues, read_only)
        except BlkioError:
            # A back-end serves one connection at a time.
            self.lib.blkio_destroy(ctypes.byref(self._handle))
            raise
        self.region = Region()
        self._check(self.lib.blkio_alloc_mem_region(self._handle, ctypes.byref(self.region), buffers))
        self._check(self.lib.blkio_map_mem_region(self._handle, ctypes.byref(self.region)))
        self.queues = [self.lib.blkio_get_queue(self._handle, n) for n in range(n_queues)]
        self.bytes = (ctypes.c_char * buffers).from_address(self.region.addr)

    def _start(self, path, n_queues, read_only):
        self._check(self.lib.blkio_set_str(self._handle, b"path", str(path).encode()))
        if read_only:
            self._check(self.lib.blkio_set_bool(self._handle, b"read-only", True))
        self._check(self.lib.blkio_connect(self._handle))
        self._check(self.lib.blkio_set_int(self._handle, b"num-queues", n_queues))
        self._check(self.lib.blkio_start(self._handle))

    def _check(self, status):
        if status < 0:
            raise BlkioError(self.lib.blkio_get_error_msg().decode())

    @property
    def capacity(self):
        """Bytes."""
        value = ctypes.c_uint64()
        self._check(self.lib.blkio_get_uint64(self._handle, b"capacity", ctypes.byref(value)))
        return value.value

    def wait(self, count, queue=0):
        """Wait for requests; returns what each returned, by its user data."""
        done, room = {}, (Completion * count)()
        timeout = Timespec(TIMEOUT, 0)
        while len(done) < count:
            found = self.lib.blkioq_do_io(self.queues[queue], ctypes.byref(room), count - len(done), count - len(done),
                                          ctypes.byref(timeout))
            self._check(found)
            for completion in room[:found]:
                done[completion.user_data or 0] = completion.ret
        return done

    def read(self, start, at, length, tag=0, queue=0):
        """Start a read to an offset of the buffers."""
        self.lib.blkioq_read(self.queues[queue], start, self.region.addr + at, length, tag, 0)

    def write(self, start, at, length, tag=0, queue=0):
        """Start a write from an offset of the buffers."""
        self.lib.blkioq_write(self.queues[queue], start, self.region.addr + at, length, tag, 0)

    def discard(self, start, length, tag=0, queue=0):
        """Start a discard."""
        self.lib.blkioq_discard(self.queues[queue], start, length, tag, 0)

    def write_zeroes(self, start, length, tag=0, queue=0, flags=0):
        """Start a write of zeroes."""
        self.lib.blkioq_write_zeroes(self.queues[queue], start, length, tag, flags)

    def flush(self, tag=0, queue=0):
        """Start a flush."""
        self.lib.blkioq_flush(self.queues[queue], tag, 0)

    def close(self):
        """Disconnect and free all of it."""
        if self._handle:
            del self.bytes
            self.lib.blkio_destroy(ctypes.byref(self._handle))
            self._handle = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BlkioError):
            self.close()
