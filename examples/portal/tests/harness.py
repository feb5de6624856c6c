"""Runs the portal under uvicorn, opshook's three functions, and what stands in for a bad emit-retry: all real processes
and sockets, on free ports of this machine."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

PORTAL = Path(__file__).parent.parent
REPOSITORY = PORTAL.parent.parent
OPSHOOK = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target") / "debug" / "opshook"

PATIENCE = 60.0  # longer than anything takes on a busy machine: a test that waits so long has failed
QUICK = 4.0  # of an answer on a busy machine that waits for nobody: a call to an emit-retry that hangs takes 5 s
OPS_TOKEN = "token-of-the-tests-for-ops-0123456789"
EMAIL = "ana.maria@example.com"
ACCOUNT = {
    "domain": "example.com",
    "email": EMAIL,
    "account_verified": True,
    "needs_review": False,
    "dns_mode": "cloudflare",
    "mail_aliases": ["postmaster", "abuse"],
}


def http(method: str, url: str, **options: Any) -> httpx.Response:
    """A request over a connection of its own, straight to this machine."""
    return httpx.request(method, url, trust_env=False, verify=False, timeout=PATIENCE, **options)


def eventually(check: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """The first true answer of `check`."""
    deadline = time.monotonic() + seconds
    while not (answer := check()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
    return answer


class Process:
    """A process in a group of its own, what it says, and its end."""

    def __init__(self, command: list[str | Path], environment: dict[str, str], limit: int | None = None) -> None:
        def limit_files() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit or 0, limit or 0))

        self.lines: list[str] = []
        self._process = subprocess.Popen(
            command,
            env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"} | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=None if limit is None else limit_files,
        )
        self.id = self._process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as output:
            self.lines.extend(iter(output.readline, ""))

    def line(self, pattern: str) -> re.Match[str]:
        """The first line that matches, once it is there."""

        def look() -> re.Match[str] | None:
            assert self._process.poll() is None, f"it ended:\n{self.said()}"
            return next((found for line in list(self.lines) if (found := re.search(pattern, line))), None)

        return eventually(look, f"a line {pattern} of {self._process.args}")

    def said(self) -> str:
        return "".join(self.lines)

    def kill(self) -> None:
        """kill -9, of it and of its workers."""
        os.killpg(self.id, signal.SIGKILL)
        self._process.wait(PATIENCE)

    def stop(self) -> None:
        """SIGTERM, and kill -9 for what is left."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
        try:
            os.killpg(self.id, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._reader.join(PATIENCE)


class Ops:
    """`opshook up`: all of opshook in one process."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder, self.settings = folder, settings
        self.emit = "127.0.0.1:0"
        self.process: Process | None = None

    def start(self) -> "Ops":
        """Starts it; again where it was before."""
        free = "127.0.0.1:0"
        command: list[str | Path] = [OPSHOOK, "up", "--json", "--data-dir", self.folder, "--emit-addr", self.emit]
        command += ["--receive-addr", free, "--query-addr", free, "--dynamodb-addr", free]
        self.process = Process(command, {"OPS_API_TOKEN": OPS_TOKEN, "RUST_LOG": "warn"} | self.settings)
        addresses = json.loads(self.process.line(r'^\{"receive".*').string)
        self.query, self.emit = addresses["query-events"], addresses["emit-retry"].removeprefix("http://")
        return self

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()

    @property
    def events_url(self) -> str:
        return f"http://{self.emit}/api/v1/events"

    def _list(self, url: str, **query: str) -> list[dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self.settings.get('EMIT_API_TOKEN') if self.emit in url else OPS_TOKEN}"}
        items: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            more = {"limit": "500"} | ({"cursor": cursor} if cursor else {})
            page = http("GET", url, params=query | more, headers=headers)
            page.raise_for_status()
            items += page.json()["items"]
            cursor = page.json()["next_cursor"]
        return items

    def outbox(self, **query: str) -> list[dict[str, Any]]:
        return self._list(f"http://{self.emit}/api/v1/outbox", **query)

    def records(self, **query: str) -> list[dict[str, Any]]:
        return self._list(f"{self.query}/api/v1/webhooks/events", **query)

    def body(self, event_id: str) -> dict[str, Any]:
        """What ops received, byte for byte, read as JSON."""
        url = f"{self.query}/api/v1/webhooks/events/{event_id}"
        answer = http("GET", url, headers={"Authorization": f"Bearer {OPS_TOKEN}"})
        return json.loads(answer.raise_for_status().json()["body"])

    def tickets(self, **query: str) -> list[dict[str, Any]]:
        return self._list(f"{self.query}/api/v1/desk/tickets", **query)


class Portal:
    """The portal under uvicorn."""

    def __init__(self, folder: Path, url: str, workers: int = 1, limit: int | None = None, **settings: str) -> None:
        self.folder, self.spool = folder, folder / "ops_spool"
        ours = {"PORTAL_DATA_DIR": str(folder), "PORTAL_OPS_WEBHOOK_SPOOL": str(self.spool), "PORTAL_OPS_WEBHOOK_URL": url}
        command: list[str | Path] = [sys.executable, "-m", "uvicorn", "app.main:app", "--app-dir", PORTAL]
        command += ["--port", "0", "--workers", str(workers)]
        self.process = Process(command, ours | settings, limit)
        try:
            self.url = self.process.line(r"running on (http://127\.0\.0\.1:\d+)")[1]
            eventually(self._healthy, "the portal is healthy")
        except BaseException:
            self.process.stop()
            raise

    def _healthy(self) -> bool:
        try:
            return http("GET", f"{self.url}/api/onboarding/health").status_code == 200
        except httpx.TransportError:
            return False

    def post(self, path: str, body: dict[str, Any], session: str) -> float:
        """Does a step; how many seconds until the answer, which has to be 200."""
        started = time.monotonic()
        answer = http("POST", f"{self.url}/api/onboarding/{path}", json=body, headers={"X-Session-Id": session})
        seconds = time.monotonic() - started
        assert answer.status_code == 200, answer.text
        return seconds

    def activity(self, level: str) -> list[dict[str, Any]]:
        answer = http("GET", f"{self.url}/api/onboarding/activity", params={"level": level, "limit": 500})
        answer.raise_for_status()
        return answer.json()["items"]

    def codes(self, level: str = "warn") -> list[str]:
        """The activity's codes, oldest first."""
        return [entry["code"] for entry in reversed(self.activity(level))]

    def spooled(self) -> list[Path]:
        return sorted(self.spool.glob("*.json"))

    def refused(self) -> list[Path]:
        return sorted(self.spool.glob("refused/*.json"))

    def told(self) -> str:
        """All that it logged."""
        log = self.folder / "activity.jsonl"
        return self.process.said() + (log.read_text() if log.exists() else "")


Script = Callable[[str, bytes], tuple[int, bytes] | None]


class Fake:
    """Stands in for emit-retry. The script answers a key and a body with a status and a body, or with None: no answer."""

    def __init__(self, script: Script) -> None:
        self.posts: list[tuple[str, bytes]] = []
        self.headers: list[dict[str, str]] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                key = self.headers["Idempotency-Key"]
                fake.posts.append((key, body))
                fake.headers.append(dict(self.headers.items()))
                answer = script(key, body)
                if answer is not None:
                    self.send_response(answer[0])
                    self.send_header("Content-Length", str(len(answer[1])))
                    self.end_headers()
                    self.wfile.write(answer[1])

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/api/v1/events"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def keys(self) -> list[str]:
        return [key for key, _ in self.posts]

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
