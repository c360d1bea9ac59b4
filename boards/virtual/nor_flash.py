"""Flash as NOR flash behaves, kept in a file of the PC.

A program only clears bits, by pages of 256 octets; an erase sets a whole 4 KiB block. Whatever
would set a bit without an erase is an error here, as it would be lost on the chip. Every operation
reaches the file before it returns, so killing the process is a power cut.

Size as the file system of a stock Raspberry Pi Pico: 352 blocks, 1,408 KiB.
"""

BLOCK = 4096
PAGE = 256
BLOCKS = 352
_ERASED_PAGE = b"\xff" * PAGE

_IOCTL_SYNC = 3
_IOCTL_BLOCKS = 4
_IOCTL_BLOCK_SIZE = 5
_IOCTL_ERASE = 6


class NorFlash:
    """Block device for ``VfsLfs2(..., progsize=256)``. ``programs`` (pages) and ``erases`` count
    operations since construction. ``path``: an existing file of BLOCKS x BLOCK octets."""

    def __init__(self, path):
        self._file = open(path, "r+b")
        self._page = bytearray(PAGE)
        self.programs = 0
        self.erases = 0

    def readblocks(self, number, buffer, offset=0):
        """Read ``len(buffer)`` octets from ``offset`` in block ``number`` on. Allocates
        nothing."""
        self._file.seek(number * BLOCK + offset)
        if self._file.readinto(buffer) != len(buffer):
            raise OSError(5)

    def writeblocks(self, number, buffer, offset=0):
        """Program whole pages. Raises OSError(22) for an unaligned program or a bit to be set."""
        size = len(buffer)
        if offset % PAGE or size % PAGE or offset + size > BLOCK:
            raise OSError(22)
        start = number * BLOCK + offset
        self._file.seek(start)
        old = self._page
        for at in range(0, size, PAGE):
            if self._file.readinto(old) != PAGE:
                raise OSError(5)
            if old != _ERASED_PAGE:
                bits = int.from_bytes(buffer[at : at + PAGE], "little")
                if int.from_bytes(old, "little") & bits != bits:
                    raise OSError(22)
            self.programs += 1
        self._file.seek(start)
        if self._file.write(buffer) != size:
            raise OSError(5)

    def ioctl(self, operation, argument):
        """littlefs's questions, and erase."""
        if operation == _IOCTL_BLOCKS:
            return BLOCKS
        if operation == _IOCTL_BLOCK_SIZE:
            return BLOCK
        if operation == _IOCTL_ERASE:
            self._file.seek(argument * BLOCK)
            for _ in range(0, BLOCK, PAGE):
                if self._file.write(_ERASED_PAGE) != PAGE:
                    raise OSError(5)
            self.erases += 1
        return 0
