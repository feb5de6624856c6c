#!/usr/bin/env python3
"""Reads and changes one setting of a function on this host, and restarts the function. `scripts/rotate-secret` calls it.

usage: settings.py [--root DIR] get FUNCTION NAME   prints the value
       settings.py [--root DIR] set FUNCTION NAME   takes the value from standard input, puts it into the function's
                                                    environment file in one step, restarts it and waits for /ready; where
                                                    it does not get ready, the old value is put back

Exit status: 0 done, 1 it failed and the old value is in force, 2 wrong usage, or the file can't be read.
"""

import os
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

import units  # noqa: E402
from install import FUNCTIONS, Failed, Install  # noqa: E402


def with_value(text: str, name: str, value: str) -> str:
    """The file with this value; at its end where it had none."""
    lines = text.splitlines()
    kept = [line for line in lines if not line.startswith(f"{name}=")]
    place = next((number for number, line in enumerate(lines) if line.startswith(f"{name}=")), len(kept))
    kept.insert(place, f'{name}="{value}"' if " " in value else f"{name}={value}")
    return "\n".join(kept) + "\n"


def write(path: Path, text: str) -> None:
    """In one step: whoever reads it sees the old file or the new one. Owner and mode stay."""
    was = path.stat()
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(name, was.st_mode & 0o777)
    if os.geteuid() == 0:
        os.chown(name, was.st_uid, was.st_gid)
    os.replace(name, path)


def change(install: Install, path: Path, function: str, name: str, value: str) -> None:
    before = path.read_text()
    write(path, with_value(before, name, value))
    try:
        install.host.restart(function)
        install.wait_until_ready(function)
    except Failed:
        write(path, before)
        install.host.restart(function)
        install.wait_until_ready(function)
        raise


def main(arguments: list[str]) -> int:
    root = Path("/")
    if arguments[:1] == ["--root"] and len(arguments) > 1:
        root, arguments = Path(arguments[1]).resolve(), arguments[2:]
    roles = {function: role for role, functions in FUNCTIONS.items() for function in functions}
    match arguments:
        case ["get" | "set" as what, function, name] if function in roles and name.isidentifier():
            pass
        case ["-h"] | ["--help"]:
            print(__doc__)
            return 0
        case _:
            print("settings.py: see --help", file=sys.stderr)
            return 2
    path = root / f"etc/opshook/{function}.env"
    try:
        values = units.environment(path)
        if what == "get":
            print(values.get(name, ""))
            return 0
        value = sys.stdin.read().strip()
        if not value or any(mark in value for mark in "\n\"'\\"):
            print("settings.py: the value on standard input must be one line without quotes", file=sys.stderr)
            return 2
        install = Install(roles[function], root, False)
        install.settings[function] = values
        change(install, path, function, name, value)
    except (OSError, units.Refused) as error:
        print(f"settings.py: {error}", file=sys.stderr)
        return 2
    except Failed as failed:
        print(f"settings.py: {failed}\nthe old value is in force again", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
