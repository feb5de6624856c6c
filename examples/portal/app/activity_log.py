"""The portal's activity log: a file of JSON lines that is only ever appended to, for all workers together."""

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

TAIL_BYTES = 1 << 20  # how far back `entries` looks


class ActivityLog:
    """What happened, for people: `at`, `level` (info or warn), `code`, `message`, `session_id`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def add(self, level: str, code: str, message: str, session_id: str = "") -> None:
        """Appends an entry. Raises OSError where the disk does not take it."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = {"at": at, "level": level, "code": code, "message": message, "session_id": session_id}
        line = (json.dumps(entry) + "\n").encode()
        with self._lock:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(file, line)  # one write, so that the lines of two workers never mix
            finally:
                os.close(file)

    def entries(self, level: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """The newest entries of the level, newest first, out of the last 1 MiB."""
        try:
            with open(self._path, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
                lines = file.read(TAIL_BYTES).splitlines()
        except FileNotFoundError:
            return []
        found: list[dict[str, Any]] = []
        for line in reversed(lines):
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the first line of the tail may be cut, and so may one that a full disk broke off
            if level in (None, entry["level"]):
                found.append(entry)
            if len(found) == limit:
                break
        return found
