"""The real binaries, as processes on ports of 127.0.0.1 that end with the benchmark."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECRET = "whsec_b3BzaG9vay1kZXZlbG9wbWVudC1zZWNyZXQtb25seSE="
ONBOARD = "/api/v1/webhooks/onboard"
# No proxy: all traffic stays on this machine.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Failed(Exception):
    """The benchmark could not be done; the text says why."""


def build():
    """Builds the release binaries. Answers where they are."""
    command = ["cargo", "build", "--release", "--workspace", "--bins", "--locked"]
    try:
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=2)
    except FileNotFoundError as error:
        raise Failed("cargo is missing: install Rust 1.95 or later with rustup") from error
    if done.returncode != 0:
        raise Failed("the build failed")
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"


def wait_for(what, seconds, done, pause=0.02):
    """What `done` answers, once it is something; fails after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        found = done()
        if found:
            return found
        if time.monotonic() > end:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(pause)


def free_port():
    """A port below the range that outgoing connections take, so that it stays free while nobody listens on it."""
    for _ in range(1_000):
        port = random.randrange(15_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Failed("no port is free")


def get(url, timeout=10):
    """Status and text of an answer; none where there is no answer."""
    try:
        with OPENER.open(url, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return None, ""


class Process:
    """A binary that runs, with its log in a file. It is killed where it has not ended."""

    def __init__(self, site, name, arguments, settings):
        self.log = site.folder / f"{name}-{len(site.processes)}.log"
        self.name = name
        program = site.binaries / name
        # What cargo-lambda builds stands in a folder for each function.
        if program.is_dir():
            program /= "bootstrap"
        if not program.exists():
            raise Failed(f"{program} is missing: build it, or leave --binaries out")
        self.started = time.monotonic()
        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(
                [program, *arguments], env=settings, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=site.folder
            )
        site.processes.append(self)

    def says(self, pattern, seconds=30):
        """The first group of the pattern, once it is in its log."""

        def found():
            match = re.search(pattern, self.log.read_text(errors="replace"))
            if match is None and self.child.poll() is not None:
                raise Failed(f"{self.name} ended: {self.log.read_text(errors='replace')[-2000:]}")
            return match

        return wait_for(f"{self.name} says {pattern}", seconds, found, pause=0.002)[1]

    def resident_mb(self):
        """Its resident size now."""
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[1]) / 1024

    def peak_mb(self):
        """The most that was ever resident."""
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[1]) / 1024

    def terminate(self):
        """Sends SIGTERM, and does not wait."""
        self.child.send_signal(signal.SIGTERM)

    def stop(self, seconds=30):
        """Sends SIGTERM and waits for its end: after how many seconds it came."""
        sent = time.monotonic()
        self.terminate()
        return self.ended(seconds) - sent

    def ended(self, seconds=30):
        """Waits for its end, and answers when that was."""
        try:
            status = self.child.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"{self.name} does not stop") from error
        if status != 0:
            raise Failed(f"{self.name} ended with {status}: {self.log.read_text(errors='replace')[-2000:]}")
        return time.monotonic()

    def kill(self):
        """Ends it at once."""
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()


class Emit(Process):
    """An emit-retry that runs."""

    def __init__(self, site, engine, url):
        super().__init__(site, "emit-retry", [], site.settings(engine, OPS_WEBHOOK_URL=url))
        self.address = self.says(r'"address":"([^"]+)"')

    def url(self, path):
        return f"http://{self.address}{path}"

    def ready_after(self):
        """Seconds from its exec until `/ready` answered 200."""
        wait_for("emit-retry is ready", 60, lambda: get(self.url("/ready"))[0] == 200, pause=0.005)
        return time.monotonic() - self.started

    def metric(self, name):
        """A metric without labels; none while nothing was counted."""
        match = re.search(rf"^{name} (\S+)", get(self.url("/metrics"))[1], re.MULTILINE)
        return float(match[1]) if match else None

    def activity(self, code):
        """The entries of the activity log with a code, newest first."""
        status, text = get(self.url("/api/v1/activity?limit=500"))
        if status != 200:
            raise Failed(f"the activity log answered {status}: {text}")
        return [entry for entry in json.loads(text)["items"] if entry["code"] == code]


class Site:
    """A folder of its own, and what runs in it."""

    def __init__(self, binaries):
        self.binaries = binaries
        self.processes = []

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="opshook-bench-"))
        return self

    def __exit__(self, kind, error, trace):
        for process in reversed(self.processes):
            process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def settings(self, engine, **more):
        """The settings of a process that reaches an engine, and nothing else of this environment."""
        return {
            "PATH": os.environ.get("PATH", ""),
            "AWS_ENDPOINT_URL_DYNAMODB": engine,
            "AWS_REGION": "local",
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "WEBHOOK_SECRET": SECRET,
            "OPS_WEBHOOK_SECRET": SECRET,
            "LISTEN_ADDR": "127.0.0.1:0",
            **more,
        }

    def engine(self, name):
        """Starts an embedded engine on disk, with its tables: its URL."""
        arguments = ["engine", "--json", "--listen", "127.0.0.1:0", "--data-dir", str(self.folder / name)]
        engine = Process(self, "opshook", arguments, {"RUST_LOG": "warn"}).says(r'"dynamodb":"([^"]+)"')
        made = subprocess.run(
            [self.binaries / "opshook", "tables", "create"], env=self.settings(engine), capture_output=True, text=True
        )
        if made.returncode != 0:
            raise Failed(f"the tables could not be made: {made.stderr}")
        return engine

    def receive(self, engine, port):
        """Starts a receive on a port, and waits until it listens."""
        receive = Process(self, "receive", [], self.settings(engine, LISTEN_ADDR=f"127.0.0.1:{port}"))
        receive.says(r'"address":"([^"]+)"')
        return receive
