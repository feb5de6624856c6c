#!/usr/bin/env python3
"""Runs units under a folder instead of under systemd: the ExecStart of each, with its EnvironmentFiles and its socket.

For a try without a host (`scripts/deploy-vm --root DIR`) and for tests: of a unit it takes ExecStart, EnvironmentFile,
StateDirectory, RestartSec, TimeoutStopSec and, of its socket, ListenStream. Users, hardening and ordering are systemd's.

usage: units.py --root DIR serve                     holds the sockets and watches the services, until SIGTERM
       units.py --root DIR start|stop|restart UNIT   asks that one; UNIT such as opshook@receive
       units.py --root DIR status                    a line a unit: name, process id or -, starts
       units.py --root DIR end                       stops all, and the one that serves
"""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

UNITS = "etc/systemd/system"
CONTROL = "run/units.sock"


class Refused(Exception):
    """What was asked for can't be done; the text says why."""


def settings(path: Path) -> list[tuple[str, str]]:
    """The assignments of a unit file and of its drop-ins, in order."""
    files = [path, *sorted(path.with_name(path.name + ".d").glob("*.conf"))]
    lines = [line.strip() for file in files for line in file.read_text().splitlines()]
    return [tuple(line.split("=", 1)) for line in lines if "=" in line and line[:1] not in "#;["]


def environment(path: Path) -> dict[str, str]:
    """An EnvironmentFile's values: KEY=VALUE a line, quotes around the whole value taken away."""
    values = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.replace("_", "a").isalnum():
            raise Refused(f"{path}, line {number}: expected NAME=VALUE")
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        values[name] = value
    return values


class Unit:
    """A service, its socket where it has one, and its process."""

    def __init__(self, root: Path, name: str):
        self.root, self.name = root, name
        template, _, self.instance = name.partition("@")
        file = f"{template}@.service" if self.instance else f"{name}.service"
        self.file = root / UNITS / file
        if not self.file.is_file():
            raise Refused(f"there is no unit {name} in {root / UNITS}")
        self.process: subprocess.Popen | None = None
        self.wanted, self.starts, self.due = False, 0, 0.0
        self.socket = self.listen()

    def listen(self) -> socket.socket | None:
        for path in sorted((self.root / UNITS).glob("*.socket")):
            values = settings(path)
            if ("Service", f"{self.name}.service") in values:
                address = [value for key, value in values if key == "ListenStream" and value][-1]
                host, _, port = address.rpartition(":")
                listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    listener.bind((host, int(port)))
                except OSError as error:
                    raise Refused(f"{path.name}: {address} can't be listened on: {error.strerror}") from error
                listener.listen(1024)
                return listener
        return None

    def value(self, wanted: str, default: str) -> str:
        return next((value for key, value in reversed(settings(self.file)) if key == wanted), default)

    def start(self) -> None:
        """Starts its process; does nothing where it runs."""
        self.wanted = True
        if self.process and self.process.poll() is None:
            return
        root = self.root
        env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        for path in [value for key, value in settings(self.file) if key == "EnvironmentFile"]:
            file = root / path.replace("%i", self.instance).lstrip("/")
            if not file.is_file():
                raise Refused(f"{self.name}: its settings {file} are missing")
            env |= environment(file)
        if state := self.value("StateDirectory", ""):
            env["STATE_DIRECTORY"] = str(root / "var/lib" / state)
            Path(env["STATE_DIRECTORY"]).mkdir(mode=0o700, parents=True, exist_ok=True)
        program = str(root / self.value("ExecStart", "").replace("%i", self.instance).lstrip("/"))
        log = root / "var/log" / f"{self.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [program]
        if self.socket:
            # The shell's own process id is the program's: LISTEN_PID has to be that.
            command = ["/bin/sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" 3<&%d' % self.socket.fileno(), program]
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/",
                pass_fds=[self.socket.fileno()] if self.socket else [],
            )  # fmt: skip
        self.starts += 1

    def stop(self) -> None:
        """SIGTERM, then SIGKILL when its time is over."""
        self.wanted = False
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(float(self.value("TimeoutStopSec", "90")))
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def tend(self) -> None:
        """Starts again what has ended by itself."""
        if self.wanted and self.process and self.process.poll() is not None:
            if not self.due:
                self.due = time.monotonic() + float(self.value("RestartSec", "1"))
            elif time.monotonic() >= self.due:
                self.due = 0.0
                self.start()


class Manager:
    """Holds the units and takes what is asked."""

    def __init__(self, root: Path):
        self.root, self.units, self.ended = root, {}, False

    def unit(self, name: str) -> Unit:
        if name not in self.units:
            self.units[name] = Unit(self.root, name)
        return self.units[name]

    def do(self, what: str, name: str) -> str:
        match what:
            case "start":
                self.unit(name).start()
            case "stop":
                self.unit(name).stop()
            case "restart":
                self.unit(name).stop()
                self.unit(name).start()
            case "status":
                lines = []
                for unit in self.units.values():
                    runs = unit.process and unit.process.poll() is None
                    lines.append(f"{unit.name} {unit.process.pid if runs else '-'} {unit.starts}")
                return "\n".join(lines)
            case "end":
                for unit in reversed(list(self.units.values())):
                    unit.stop()
                self.ended = True
        return ""

    def serve(self) -> None:
        control = self.root / CONTROL
        control.parent.mkdir(parents=True, exist_ok=True)
        control.unlink(missing_ok=True)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        here = os.getcwd()
        # The name of a socket may have 107 bytes: it is made from its own folder.
        os.chdir(control.parent)
        server.bind(control.name)
        os.chdir(here)
        server.listen(16)
        signal.signal(signal.SIGTERM, lambda *_: self.do("end", ""))
        ready = selectors.DefaultSelector()
        ready.register(server, selectors.EVENT_READ)
        while not self.ended:
            for _ in ready.select(0.1):
                connection, _ = server.accept()
                with connection, connection.makefile("rw") as talk:
                    try:
                        what, name = json.loads(talk.readline())
                        answer = {"ok": True, "text": self.do(what, name)}
                    except (Refused, OSError, ValueError) as error:
                        answer = {"ok": False, "text": str(error)}
                    talk.write(json.dumps(answer) + "\n")
            for unit in self.units.values():
                unit.tend()
        control.unlink(missing_ok=True)


def ask(root: Path, what: str, name: str) -> str:
    """Asks the one that serves under a folder. Raises Refused."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    here = os.getcwd()
    try:
        os.chdir((root / CONTROL).parent)
        client.connect(Path(CONTROL).name)
    except OSError as error:
        raise Refused(f"nothing serves units under {root}") from error
    finally:
        os.chdir(here)
    with client, client.makefile("rw") as talk:
        talk.write(json.dumps([what, name]) + "\n")
        talk.flush()
        answer = json.loads(talk.readline())
    if not answer["ok"]:
        raise Refused(answer["text"])
    return answer["text"]


def main(arguments: list[str]) -> int:
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    match arguments:
        case ["--root", root, "serve"]:
            Manager(Path(root).resolve()).serve()
            return 0
        case ["--root", root, ("status" | "end") as what]:
            name = ""
        case ["--root", root, ("start" | "stop" | "restart") as what, name]:
            pass
        case _:
            print("units.py: see --help", file=sys.stderr)
            return 2
    try:
        if text := ask(Path(root).resolve(), what, name):
            print(text)
    except Refused as refused:
        print(f"units.py: {refused}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
