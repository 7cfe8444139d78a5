"""Raw text files, paragraph by paragraph: .txt and .md by blank lines, .jsonl by record and blank lines."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from undercut.errors import ConfigurationError
from undercut.ingest.columns import TEXT_NAMES
from undercut.ingest.json_lines import parse
from undercut.ingest.lines import Lines, is_gzip, open_lines
from undercut.ingest.rules import JSON, NO_TEXT

SUFFIXES = (".txt", ".md", ".jsonl")
_BLANK_LINES = re.compile(r"\n[ \t\r]*\n")


class Paragraph(NamedTuple):
    """A paragraph as read: its document's line (0: the file is the document), its number in it, its line.

    ``text`` keeps its line feeds; ``cut`` tells that it is a piece of a longer one; ``fault`` names the
    reason to reject it.
    """

    document: int
    number: int
    line: int
    text: str
    cut: bool = False
    fault: str = ""


def find_files(path: Path, field: str, uri: str) -> tuple[list[Path], int]:
    """Return a folder's raw text files in the order of their paths, and how many others it holds.

    Raises:
        ConfigurationError: there are none.
    """
    present = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    files = [p for p in present if _form(p) in SUFFIXES]
    if not files:
        raise ConfigurationError(field, uri, "a folder with .txt, .md or .jsonl files, also .gz", "Add files to it")
    return files, len(present) - len(files)


def _form(path: Path) -> str:
    return (path.with_suffix("") if is_gzip(path) else path).suffix.lower()


def read(path: Path, field: str, uri: str, max_characters: int) -> Iterator[Paragraph]:
    """Yield a file's paragraphs, the longest cut at white space; memory holds one at a time.

    Raises:
        ConfigurationError: a gzip file is damaged.
    """
    records = _form(path) == ".jsonl"
    with open_lines(path, field, uri, in_parts=not records) as lines:
        yield from _records(lines, max_characters) if records else _plain(lines, max_characters)


def _plain(lines: Lines, max_characters: int) -> Iterator[Paragraph]:
    number, waiting, characters, first, goes_on = 0, list[str](), 0, 1, False
    for line in chain(lines, [""]):
        ends = not line.strip()
        if waiting and (ends or characters + len(line) > max_characters):
            pieces = list(_pieces("".join(waiting).rstrip(), max_characters))
            for piece in pieces:
                yield Paragraph(0, number, first, piece, cut=goes_on or not ends or len(pieces) > 1)
                number += 1
            waiting, characters, goes_on = [], 0, not ends
        if not ends:
            first = lines.first if not waiting else first
            waiting.append(line)
            characters += len(line)
        lines.start_record()


def _records(lines: Lines, max_characters: int) -> Iterator[Paragraph]:
    for line in lines:
        content = parse(line)
        text = None if content is None else next((content[n] for n in TEXT_NAMES if n in content), None)
        if content is None:
            if line.strip():
                yield Paragraph(lines.first, 0, lines.first, line, fault=JSON)
        elif not isinstance(text, str):
            yield Paragraph(lines.first, 0, lines.first, line, fault=NO_TEXT)
        else:
            number = 0
            for part in _BLANK_LINES.split(text):
                for piece in _pieces(part, max_characters) if part.strip() else ():
                    yield Paragraph(lines.first, number, lines.first, piece, len(piece) < len(part))
                    number += 1
        lines.start_record()


def _pieces(text: str, max_characters: int) -> Iterator[str]:
    """Yield a text in pieces of at most ``max_characters``, cut at white space where there is any."""
    start = 0
    while len(text) - start > max_characters:
        end = max(text.rfind(mark, start + 1, start + max_characters + 1) for mark in " \n")
        end = end if end > start else start + max_characters
        yield text[start:end]
        start = end
    yield text[start:]


def documents(batch: Any, names: list[str]) -> pa.StringArray:
    """Return each staged paragraph's document: its file's name, and its line where a file holds many."""
    pairs = zip(batch["file"].to_pylist(), batch["document"].to_pylist(), strict=True)
    return pa.array([f"{names[file]}:{line}" if line else names[file] for file, line in pairs], pa.string())
