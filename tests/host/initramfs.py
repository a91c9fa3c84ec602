"""Initramfs archives (cpio "newc"), written here so that equal contents are equal bytes. See the kernel's
Documentation/driver-api/early-userspace/buffer-format.rst."""

import stat


def _record(inode, name, mode, data=b"", device=(0, 0)):
    path = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + path
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


class Archive:
    """Collects files and gives the archive's bytes; folders above them are added by themselves."""

    def __init__(self):
        self._entries = {}

    def _add(self, name, mode, data=b"", device=(0, 0)):
        name = name.lstrip("/")
        above = name.rpartition("/")[0]
        if above and above not in self._entries:
            self._add(above, stat.S_IFDIR | 0o755)
        self._entries[name] = (mode, data, device)

    def folder(self, name):
        """Add an empty folder."""
        self._add(name, stat.S_IFDIR | 0o755)

    def file(self, name, data, mode=0o644):
        """Add a regular file."""
        self._add(name, stat.S_IFREG | mode, data)

    def link(self, name, target):
        """Add a symbolic link."""
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, name, major, minor):
        """Add a character device."""
        self._add(name, stat.S_IFCHR | 0o600, b"", (major, minor))

    def pack(self):
        """The archive. Entries keep the order in which they were added."""
        records = [_record(inode, name, mode, data, device)
                   for inode, (name, (mode, data, device)) in enumerate(self._entries.items(), 1)]
        whole = b"".join(records) + _record(0, "TRAILER!!!", 0)
        # The kernel looks for a following archive at a multiple of four; QEMU and loaders like whole sectors.
        return whole + b"\0" * (-len(whole) % 512)
