"""Makes compound files (MS-CFB): storages and streams, as Word's old documents and .msg have."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union

Storage = Mapping[str, Union[bytes, "Storage"]]

_SECTOR, _SMALL, _CUTOFF = 512, 64, 4096
_END, _FREE, _FAT = 0xFFFF_FFFE, 0xFFFF_FFFF, 0xFFFF_FFFD


@dataclass
class _Entry:
    name: str
    kind: int
    data: bytes = b""
    child: int = _FREE
    sibling: int = _FREE
    start: int = _END
    children: list["_Entry"] = field(default_factory=list)


def compound(root: Storage) -> bytes:
    """Return a file of streams (bytes) and storages (mappings)."""
    entries: list[_Entry] = []

    def add(name: str, content: Any, kind: int) -> int:
        entry = _Entry(name, kind, content if isinstance(content, bytes) else b"")
        entries.append(entry)
        number = len(entries) - 1
        if not isinstance(content, bytes):
            # A chain of right siblings, in the order that names are compared in.
            names = sorted(content, key=lambda each: (len(each), each.upper()))
            before = -1
            for inner in names:
                made = add(inner, content[inner], 2 if isinstance(content[inner], bytes) else 1)
                if before < 0:
                    entry.child = made
                else:
                    entries[before].sibling = made
                before = made
        return number

    add("Root Entry", root, 5)
    sectors: list[bytes] = []
    chain: list[int] = []

    def put(data: bytes) -> int:
        if not data:
            return _END
        start = len(sectors)
        count = -(-len(data) // _SECTOR)
        for at in range(count):
            sectors.append(data[at * _SECTOR : (at + 1) * _SECTOR].ljust(_SECTOR, b"\0"))
            chain.append(start + at + 1 if at + 1 < count else _END)
        return start

    small = bytearray()
    small_chain: list[int] = []
    for entry in entries:
        if entry.kind == 2 and len(entry.data) >= _CUTOFF:
            entry.start = put(entry.data)
        elif entry.data:
            entry.start = len(small_chain)
            count = -(-len(entry.data) // _SMALL)
            small += entry.data.ljust(count * _SMALL, b"\0")
            small_chain += [*range(entry.start + 1, entry.start + count), _END]
    entries[0].data = bytes(small)
    entries[0].start = put(entries[0].data)
    first_small = put(struct.pack(f"<{len(small_chain)}I", *small_chain))
    directory = b"".join(
        (entry.name.encode("utf-16-le") + b"\0\0").ljust(64, b"\0")
        + struct.pack(
            "<HBBIII", 2 * len(entry.name) + 2, entry.kind, 1, _FREE, entry.sibling, entry.child
        )
        + bytes(36)
        + struct.pack("<IQ", entry.start, len(entry.data))
        for entry in entries
    )
    first = put(directory)
    fats = 1
    while (len(sectors) + fats) * 4 > fats * _SECTOR:
        fats += 1
    places = list(range(len(sectors), len(sectors) + fats))
    table = [*chain, *[_FAT] * fats]
    table += [_FREE] * (fats * _SECTOR // 4 - len(table))
    header = (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
        + bytes(16)
        + struct.pack("<HHHHH6xIIIII", 0x3E, 3, 0xFFFE, 9, 6, 0, fats, first, 0, _CUTOFF)
        + struct.pack("<IIII", first_small, -(-len(small_chain) * 4 // _SECTOR), _END, 0)
        + struct.pack("<109I", *[*places, *[_FREE] * (109 - fats)])
    )
    return header + b"".join(sectors) + struct.pack(f"<{len(table)}I", *table)


def word_document(
    text: str, *, notes: str = "", comments: str = "", headings: int = 0, flags: int = 0
) -> bytes:
    """Return a Word document of one piece; its first `headings` paragraphs are headings."""
    whole = (text + notes + comments).encode("utf-16-le")
    start = 1024
    word = bytearray(start) + whole
    word += bytes(-len(word) % 512)
    page = len(word) // 512
    ends = [start]
    for at, character in enumerate(text + notes + comments):
        if character in "\r\x07":
            ends.append(start + 2 * at + 2)
    ends = ends[:20]
    count = len(ends) - 1
    fkp = bytearray(512)
    struct.pack_into(f"<{count + 1}I", fkp, 0, *ends)
    for number in range(count):
        offset = 300 + 6 * number
        fkp[4 * (count + 1) + 13 * number] = offset // 2
        fkp[offset] = 2
        struct.pack_into("<H", fkp, offset + 1, number + 1 if number < headings else 0)
    fkp[511] = count
    word += fkp
    struct.pack_into("<H", word, 0, 0xA5EC)
    struct.pack_into("<H", word, 0x0A, 0x0200 | flags)
    struct.pack_into("<6I", word, 0x4C, len(text), len(notes), 0, 0, len(comments), 0)
    pieces = struct.pack("<2I", 0, len(whole) // 2) + struct.pack("<HIH", 0, start, 0)
    clx = b"\x02" + struct.pack("<I", len(pieces)) + pieces
    paragraphs = struct.pack("<3I", ends[0], ends[-1], page)
    struct.pack_into("<2I", word, 0x1A2, 0, len(clx))
    struct.pack_into("<2I", word, 0x102, len(clx), len(paragraphs))
    return compound({"WordDocument": bytes(word), "1Table": clx + paragraphs})


def _property(number: int, kind: int, value: int) -> bytes:
    return struct.pack("<HHIQ", kind, number, 6, value)


def outlook_mail(subject: str, body: str, attachments: Mapping[str, bytes]) -> bytes:
    """Return an Outlook mail from Ada to Bob."""

    def texts(values: Mapping[int, str]) -> tuple[dict[str, bytes], bytes]:
        streams = {
            f"__substg1.0_{number:04X}001F": value.encode("utf-16-le")
            for number, value in values.items()
        }
        rows = b"".join(
            _property(number, 0x1F, 2 * len(value) + 2) for number, value in values.items()
        )
        return streams, rows

    streams, rows = texts(
        {0x1A: "IPM.Note", 0x37: subject, 0x1000: body, 0x0C1A: "Ada", 0x0C1F: "ada@example.org"}
    )
    root: dict[str, Any] = {
        **streams,
        "__properties_version1.0": struct.pack(
            "<8xIIII8x", 1, len(attachments), 1, len(attachments)
        )
        + rows,
        "__nameid_version1.0": {"__substg1.0_00020102": b""},
    }
    own, rows = texts({0x3001: "Bob", 0x39FE: "bob@example.org", 0x3003: "bob@example.org"})
    root["__recip_version1.0_#00000000"] = {**own, "__properties_version1.0": bytes(8) + rows}
    for number, (name, data) in enumerate(attachments.items()):
        own, rows = texts({0x3707: name, 0x3704: name})
        rows += _property(0x3705, 3, 1) + _property(0x3701, 0x102, len(data))
        root[f"__attach_version1.0_#{number:08X}"] = {
            **own,
            "__substg1.0_37010102": data,
            "__properties_version1.0": bytes(8) + rows,
        }
    return compound(root)
