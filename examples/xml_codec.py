"""A codec of one's own: commands as XML, parsed so that no document can do harm.

The parser refuses document types, and with them entities: those that expand to gigabytes and those that read files or
fetch from elsewhere. It is only Python's own expat, so that nothing need be installed; defusedxml does the same.

    python examples/xml_codec.py
"""

import asyncio
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

import raftwright

DEPTH_MAX = 8
BYTES_MAX = 1 << 20


def parse(data: bytes) -> ElementTree.Element:
    """The root element. ValueError for what is no XML, has a document type, or is too long or too deep."""
    if len(data) > BYTES_MAX:
        raise ValueError("the document is too long")
    builder, depth = ElementTree.TreeBuilder(), 0
    parser = expat.ParserCreate()

    def refuse(*_: object) -> int:
        raise ValueError("a document type is not allowed")

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEPTH_MAX:
            raise ValueError("the document is too deep")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(f"this is no XML: {error}") from error
    return builder.close()


def _written(root: ElementTree.Element) -> bytes:
    data: bytes = ElementTree.tostring(root, encoding="utf-8")
    return data


class Xml:
    """Dataclasses of text and whole numbers as XML, one element a field; results are one element of text."""

    def encode(self, value: Any) -> bytes:
        if isinstance(value, str | int):
            root = ElementTree.Element("result")
            root.text = str(value)
            return _written(root)
        root = ElementTree.Element("command")
        for field in fields(value):
            ElementTree.SubElement(root, field.name).text = str(getattr(value, field.name))
        return _written(root)

    def decode(self, data: bytes, kind: Any) -> Any:
        root = parse(data)
        if kind in (str, int, Any):
            return int(root.text or "0") if kind is int else root.text or ""
        found = {element.tag: element.text or "" for element in root}
        known = {field.name: field.type for field in fields(kind)}
        if set(found) != set(known):
            raise ValueError(f"the elements must be {', '.join(known)}")
        return kind(**{name: int(text) if known[name] is int else text for name, text in found.items()})


@raftwright.command("note", result=int)
@dataclass(frozen=True)
class Note:
    author: str
    text: str
    priority: int


class Notes(raftwright.StateMachine):
    """Notes in the order they came; the result is how many there are."""

    commands = (Note,)
    codec = Xml

    def __init__(self) -> None:
        self.notes: list[Note] = []

    def apply(self, command: Note, context: raftwright.ApplyContext) -> int:
        self.notes.append(command)
        return len(self.notes)

    def query(self, request: Any) -> list[Note]:
        return list(self.notes)

    def snapshot(self) -> Iterable[bytes]:
        codec = Xml()
        frozen = list(self.notes)
        return (codec.encode(note) + b"\0" for note in frozen)  # the one byte that no XML has

    def restore(self, chunks: Iterable[bytes]) -> None:
        codec = Xml()
        self.notes = [codec.decode(line, Note) for line in b"".join(chunks).split(b"\0") if line]


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with raftwright.Node(state_machine=Notes(), name="a", data_dir=directory) as node:
            print(await node.propose(Note("Ada", "<b> & 'quotes' are only text", 3)), "note")
            await node.take_snapshot()
        async with raftwright.Node(state_machine=Notes(), name="a", data_dir=directory) as node:
            for note in await node.query(None):
                print(f"{note.author}: {note.text} ({note.priority})")
    bomb = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><command>&b;</command>'
    try:
        Xml().decode(bomb, Note)
    except ValueError as error:
        print("refused:", error)


if __name__ == "__main__":
    asyncio.run(main())
