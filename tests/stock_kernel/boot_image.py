"""The kernel in a boot image of Debian's."""

import lzma


def uncompressed(image):
    """The kernel inside a boot image (its boot protocol, fields of 1f1, 248 and 24c): emulated, its own unpacking
    takes longer than all the rest of the boot."""
    def number(offset, size):
        return int.from_bytes(image[offset:offset + size], "little")

    begin = (number(0x1f1, 1) + 1) * 512 + number(0x248, 4)
    return lzma.LZMADecompressor().decompress(image[begin:begin + number(0x24c, 4)])
