"""The jobs of a server in memory, and in a SQLite database that survives the server."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from subpixel.files import is_file
from subpixel.web.jobs import Job

_SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    kind TEXT,
    created REAL NOT NULL,
    finished REAL,
    expires REAL,
    length INTEGER NOT NULL,
    path TEXT,
    options TEXT NOT NULL,
    source TEXT,
    target TEXT,
    result TEXT,
    error TEXT
)
"""

_COLUMNS = (
    "id",
    "name",
    "state",
    "kind",
    "created",
    "finished",
    "expires",
    "length",
    "path",
    "options",
    "source",
    "target",
    "result",
    "error",
)
_JSON_COLUMNS = ("options", "source", "target", "result")


class JobStore:
    """All jobs, the oldest first. Used by one thread."""

    def __init__(self, database: Path, folder: Path) -> None:
        """Open or create the database, and load the jobs.

        Args:
            database: the file.
            folder: contains one folder for each job.

        Raises:
            sqlite3.Error: the file is not a database, or of another version of Subpixel.
        """
        self._folder = folder
        # It has the names of files, and the folder may be one that others read. What SQLite puts beside it
        # gets the same permissions.
        database.touch(mode=0o600)
        # A killed process loses nothing with NORMAL; a power failure may undo the last changes.
        self._connection = sqlite3.connect(database, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, _SCHEMA_VERSION):
            raise sqlite3.DatabaseError("it belongs to another version of subpixel")
        self._connection.execute(_SCHEMA)
        self._connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        self._jobs: dict[str, Job] = {}
        for row in self._connection.execute(
            f"SELECT {', '.join(_COLUMNS)} FROM jobs ORDER BY created, rowid"
        ):
            job = self._from_row(dict(zip(_COLUMNS, row, strict=True)))
            self._jobs[job.id] = job

    def _from_row(self, values: dict[str, Any]) -> Job:
        for name in _JSON_COLUMNS:
            values[name] = None if values[name] is None else json.loads(values[name])
        job = Job(folder=self._folder / values["id"], **values)
        job.offset = job.length
        if job.state == "uploading":
            job.resumable = True
            job.offset = job.input.stat().st_size if is_file(job.input) else 0
        return job

    def __iter__(self) -> Iterator[Job]:
        return iter([*self._jobs.values()])

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, id: str) -> Job | None:
        """Return a job; None if there is none with this identifier."""
        return self._jobs.get(id)

    def hold(self, job: Job) -> None:
        """Add a job in memory alone, until it is saved."""
        self._jobs[job.id] = job

    def save(self, job: Job) -> None:
        """Add a job, or store its changes."""
        self._jobs[job.id] = job
        values = [
            json.dumps(value) if name in _JSON_COLUMNS and value is not None else value
            for name, value in ((name, getattr(job, name)) for name in _COLUMNS)
        ]
        assignments = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])
        self._connection.execute(
            f"INSERT INTO jobs ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
            f"ON CONFLICT (id) DO UPDATE SET {assignments}",
            values,
        )

    def remove(self, job: Job) -> None:
        """Forget a job; its files stay."""
        self._connection.execute("DELETE FROM jobs WHERE id = ?", (job.id,))
        self._jobs.pop(job.id, None)

    def close(self) -> None:
        """Close the database."""
        self._connection.close()
