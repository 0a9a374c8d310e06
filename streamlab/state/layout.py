"""How a store lies in its SQLite file, and how that is read back and checked.

Two tables of sqlitedict's layout. `segments` holds the rows of the head and, beside them, those that a prepared checkpoint
staged. `checkpoints` holds the records 'head' and 'prep': JSON with a checksum. 'prep' lists the keys that it put and those
that it deletes, so the rows of the head are those not put by 'prep', and promoting moves no blob.

Each record has the tally of its rows: number, bytes, and a checksum over keys and sizes. It is compared with the rows when
the file is opened, so that a missing, foreign or renamed row never passes for state. Rows are read by their rowid, never
through the index: a damaged index can then not hand out one key's value under another's name. What the values hold is
checked by `segments.decode`.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from streamlab.errors import StateDamagedError, StateError, did_you_mean
from streamlab.state.store import Checkpoint, from_json, to_json

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterable, Mapping

_SEALED = re.compile(rb'\{"crc32":(\d{1,10}),"record":(.*)\}', re.DOTALL)


def seal(record: Any, what: str) -> str:
    """Return a JSON value as text with a checksum over it.

    Examples
    --------
    >>> seal({"n": 1}, "a record")
    '{"crc32":3561700222,"record":{"n":1}}'
    """
    text = to_json(record, what)
    return f'{{"crc32":{zlib.crc32(text.encode())},"record":{text}}}'


def unseal(text: bytes, what: str) -> Any:
    """Return the value of `seal`, or raise a StateDamagedError when it is not what was written."""
    match = _SEALED.fullmatch(text)
    if match is None or zlib.crc32(match[2]) != int(match[1]):
        raise StateDamagedError(f"{what}: it is not what was written (the checksum differs or is not there).")
    return from_json(match[2], what)


@dataclass(frozen=True, slots=True)
class Tally:
    """What a set of rows adds up to, in any order: rows can be added to it and taken out of it."""

    entries: int = 0
    bytes: int = 0
    digest: int = 0

    def add(self, rows: Iterable[tuple[str, Row]], sign: int = 1) -> Tally:
        """Return the tally with these rows in it as well, or without them when `sign` is -1."""
        entries, total, digest = self.entries, self.bytes, self.digest
        for key, row in rows:
            entries += sign
            total += sign * row.size
            digest += sign * int.from_bytes(blake2b(f"{row.size} {key}".encode(), digest_size=7).digest())
        return Tally(entries, total, digest % 2**56)

    def to_record(self) -> list[int]:
        """Return the fields as JSON."""
        return [self.entries, self.bytes, self.digest]


@dataclass(frozen=True, slots=True)
class Row:
    """Where a segment is, and how many bytes it has."""

    rowid: int
    size: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A staged checkpoint: what becomes of the rows when it is promoted."""

    checkpoint: Checkpoint
    tally: Tally
    put: Mapping[str, Row]
    delete: frozenset[str]

    def prep_record(self) -> str:
        """Return what is written while it is staged."""
        return self._seal(put=sorted(self.put), delete=sorted(self.delete))

    def head_record(self) -> str:
        """Return what is written once it is the head."""
        return self._seal()

    def _seal(self, **more: list[str]) -> str:
        record = {"checkpoint": self.checkpoint.to_record(), "tally": self.tally.to_record(), **more}
        return seal(record, f"checkpoint #{self.checkpoint.number}")


@dataclass(frozen=True, slots=True)
class View:
    """All that a file says, but for the blobs. Each change gives a new view, which counts once it is committed."""

    head: Checkpoint | None = None
    tally: Tally = field(default_factory=Tally)
    rows: Mapping[str, Row] = field(default_factory=dict)
    prepared: Prepared | None = None
    last_rowid: int = 0

    @property
    def ready(self) -> Prepared:
        """What is prepared, or a StateError when nothing is."""
        if self.prepared is None:
            raise StateError("promote: nothing is prepared; stage a checkpoint first.")
        return self.prepared

    def stage(self, checkpoint: Checkpoint, put: Mapping[str, bytes], delete: Collection[str]) -> View:
        """Return the view with a checkpoint prepared, or raise a StateError saying why it cannot be."""
        _check_succession(self, checkpoint)
        fresh = {}
        for number, (key, blob) in enumerate(put.items(), start=self.last_rowid + 1):
            _check_row(key, blob)
            fresh[key] = Row(number, len(blob))
        gone = frozenset(delete)
        if reused := sorted(fresh.keys() & self.rows.keys()):
            raise StateError(f"stage: segments never change, and {reused[:5]} are there already. Put under new keys.")
        if unknown := sorted(gone - self.rows.keys()):
            near = did_you_mean(unknown[0], self.rows)
            raise StateError(f"stage: {unknown[:5]} cannot be deleted, the head has no such segments.{near}")
        after = self.tally.add(((key, self.rows[key]) for key in gone), -1).add(fresh.items())
        own = Checkpoint.from_json(checkpoint.to_json())  # the caller may go on changing its dicts
        return replace(self, prepared=Prepared(own, after, fresh, gone), last_rowid=self.last_rowid + len(fresh))

    def promote(self) -> View:
        """Return the view with what is prepared as its head."""
        prep = self.ready
        rows = {key: row for key, row in self.rows.items() if key not in prep.delete} | dict(prep.put)
        return View(prep.checkpoint, prep.tally, rows, None, self.last_rowid)

    def discard(self) -> View:
        """Return the view with nothing prepared."""
        return replace(self, prepared=None)

    def keys(self, prefix: str) -> list[str]:
        """Return the head's keys with that prefix; the order of code points is the order of UTF-8 bytes."""
        return sorted(key for key in self.rows if key.startswith(prefix))


def read_view(db: sqlite3.Connection) -> View:
    """Return what the file says, or raise a StateDamagedError when its parts do not agree."""
    records: dict[bytes, Any] = {}
    for name, text in db.execute("SELECT key, value FROM checkpoints NOT INDEXED"):
        if name not in {b"head", b"prep"} or name in records or not isinstance(text, bytes):
            raise StateDamagedError(f"its records are not one 'head' and one 'prep': {name!r} is there.")
        records[name] = unseal(text, f"record {name!r}")
    head, prep = records.get(b"head"), records.get(b"prep")
    rows = _read_rows(db)
    last_rowid = max((row.rowid for row in rows.values()), default=0)
    try:
        put = {key: rows.pop(key) for key in prep["put"]} if prep is not None else {}
        prepared = Prepared(*_read_record(prep), put, frozenset(prep["delete"])) if prep is not None else None
        checkpoint, tally = _read_record(head) if head is not None else (None, Tally())
    except (LookupError, TypeError, ValueError) as error:
        raise StateDamagedError(f"a record and the segments do not agree: {error!r}.") from error
    view = View(checkpoint, tally, rows, prepared, last_rowid)
    _check_tally("head", tally, rows)
    if prepared is not None:
        _check_tally("prepared checkpoint", prepared.tally, view.promote().rows)
    return view


def read_blob(db: sqlite3.Connection, key: str, row: Row) -> bytes:
    """Return the value of one row."""
    found = db.execute("SELECT key, value FROM segments WHERE rowid = ?", (row.rowid,)).fetchone()
    if found is None or found[0] != key.encode() or not isinstance(found[1], bytes) or len(found[1]) != row.size:
        raise StateDamagedError(f"segment {key!r} is not where it was written.")
    return found[1]


def delete(db: sqlite3.Connection, rows: Mapping[str, Row]) -> None:
    """Delete these rows and no others."""
    places = [(row.rowid, key) for key, row in rows.items()]
    done = db.executemany("DELETE FROM segments WHERE rowid = ? AND key = ?", places).rowcount if places else 0
    if done != len(places):
        raise StateDamagedError(f"of {len(places)} segments to delete, {done} were where they had been written.")


def _read_rows(db: sqlite3.Connection) -> dict[str, Row]:
    """Read keys and sizes from the table itself; SQLite looks at the head of each row only, not at its blob."""
    rows: dict[str, Row] = {}
    query = "SELECT rowid, key, typeof(value), length(value) FROM segments NOT INDEXED"
    for rowid, name, kind, size in db.execute(query):
        key = name.decode(errors="replace") if isinstance(name, bytes) else ""
        if not key or key in rows or kind != b"blob":
            raise StateDamagedError(f"segment {name!r} has no readable key, or is there twice, or is no blob.")
        rows[key] = Row(rowid, size)
    return rows


def _read_record(record: Any) -> tuple[Checkpoint, Tally]:
    return Checkpoint.from_record(record["checkpoint"]), Tally(*record["tally"])


def _check_tally(what: str, written: Tally, rows: Mapping[str, Row]) -> None:
    found = Tally().add(rows.items())
    if written != found:
        raise StateDamagedError(
            f"the segments are not those of the {what}: {found.entries} with {found.bytes:,} bytes are there, "
            f"{written.entries} with {written.bytes:,} were written."
        )


def _check_succession(view: View, checkpoint: Checkpoint) -> None:
    if view.prepared is not None:
        number = view.prepared.checkpoint.number
        raise StateError(f"stage: checkpoint #{number} is prepared still; promote or discard it first.")
    head = view.head  # without one, any checkpoint can begin: it may come from a changelog
    if head is not None and (checkpoint.parent, checkpoint.number) != (head.id, head.number + 1):
        raise StateError(
            f"stage: checkpoint #{checkpoint.number} follows {checkpoint.parent!r}, but the head is #{head.number} "
            f"{head.id!r}. Make it with Checkpoint.after(head, ...), or clear() the store to begin anew."
        )


def _check_row(key: str, blob: bytes) -> None:
    if not isinstance(key, str) or not key or not key.isprintable():
        raise StateError(f"stage: {key!r} is no key of a segment; printable text such as 'delays/0/17' is.")
    if not isinstance(blob, bytes):
        raise StateError(f"stage: segment {key!r} is a {type(blob).__name__}; bytes, as from encode(), are kept.")
