"""Hands the portal's onboarding events to emit-retry, which signs them and delivers them to ops.

This one file is all that a portal copies. It needs FastAPI, httpx and a POSIX system.

    ops_webhook = OpsWebhook(Settings.from_environment(), activity_log.add)
    # around the portal's life, in its lifespan:   async with ops_webhook.running(): yield
    await ops_webhook.emit_event("account.created", session_id, domain, {"email": email}, background_tasks)

When `emit_event` returns, the event is on disk, in the spool. A background task sends it after the portal's answer, and
takes it out of the spool once emit-retry has it on its own disk. What is left there is sent at the next start and by a
timer, by whichever worker locks it first, always with the same key and bytes, so that emit-retry takes it once.

The settings are those of the seed (T010), with two differences. Signing, and retrying for days, is emit-retry's work: so
`ops_webhook_url` is emit-retry, the secret that signs stays with it, and `ops_webhook_secret` is only the token that it
asks for, its EMIT_API_TOKEN, if it has one. And in the environment they begin with PORTAL_, for emit-retry, which may
share it, has an OPS_WEBHOOK_URL and an OPS_WEBHOOK_SECRET of its own.
"""

import asyncio
import fcntl
import hashlib
import json
import logging
import os
import random
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal

import httpx
from fastapi import BackgroundTasks

LIMIT_SECONDS = 5.0  # of a call to emit-retry, and of writing an event to the spool
DRAIN_SECONDS = 2.0  # between two looks at what is left in the spool
FAILURES_A_DRAIN = 3  # of different events in a row: then the rest waits for the next look
AT_ONCE = 8  # calls of background tasks in one worker
MOST_BYTES = 65_536  # of the body that emit-retry sends
MOST_DOMAIN = 253  # bytes
MOST_LEVELS = 64  # of objects and lists within each other, the event itself included
MOST_SESSION = 128  # characters
OUTLIVED_SECONDS = 60  # then an event that failed while another was taken counts once more
OLD_SECONDS = 3600  # what is half written for so long is of a worker that was killed before it answered

Log = Callable[[str, str, str, str], None]  # writes to the portal's activity log: level, code, message, session_id
Verdict = Literal["taken", "refused", "away"]
logger = logging.getLogger("ops_webhook")


@dataclass(frozen=True)
class Settings:
    """Where events go. A portal with a settings class of its own (T010) fills this from it."""

    ops_webhook_url: str = "http://127.0.0.1:8082/api/v1/events"
    ops_webhook_secret: str = field(default="", repr=False)
    ops_webhook_enabled: bool = True
    ops_webhook_spool: Path = Path(".portal/ops_spool")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Reads PORTAL_OPS_WEBHOOK_URL, _SECRET, _SPOOL and _ENABLED. OPS_WEBHOOK_ENABLED=false switches off too (T023)."""
        names = ("URL", "SECRET", "SPOOL", "ENABLED")
        url, secret, spool, enabled = (environment.get(f"PORTAL_OPS_WEBHOOK_{name}", "").strip() for name in names)
        switches = {enabled.lower(), environment.get("OPS_WEBHOOK_ENABLED", "").strip().lower()}
        on = switches.isdisjoint({"false", "0", "no", "off"})
        return cls(url or cls.ops_webhook_url, secret, on, Path(spool or cls.ops_webhook_spool))


class OpsWebhook:
    """The way to emit-retry; one in each worker, all on the same spool."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self._settings, self._log = settings, log
        self._spool = Path(settings.ops_webhook_spool)
        self._marker = self._spool / ".away"  # there while emit-retry is away: all workers warn once an outage
        self._away_unmarked = False  # the same where the disk takes no marker
        self._failing: set[str] = set()  # the events that failed since one was taken
        self._outlived: dict[str, tuple[int, float]] = {}  # how often another was taken after an event had failed, and when
        self._told: set[str] = set()
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._client: httpx.AsyncClient | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Around the portal's life: sends what is left in the spool, at the start and from time to time."""
        drain = asyncio.create_task(self._drain_for_ever()) if self._settings.ops_webhook_enabled else None
        try:
            yield
        finally:
            if drain is not None:
                drain.cancel()
                await asyncio.gather(drain, return_exceptions=True)
            if self._client is not None:
                await self._client.aclose()
                self._client = None

    async def emit_event(
        self, event: str, session_id: str | None, domain: str | None, data: Mapping[str, Any], background: BackgroundTasks
    ) -> None:
        """Makes an event durable, and has it sent after the portal's answer. Never raises; while disabled does nothing.

        The arguments are the fields of opshook's event; no session is "". What can't be sent of the data is repaired or left
        out, with a warn: the event itself is never lost for it.
        """
        if not self._settings.ops_webhook_enabled:
            return
        session, name = "", f"{time.time_ns():020d}-{uuid.uuid4().hex}"  # the Idempotency-Key; it sorts by time
        try:
            given, at = _unicode(str(session_id or "")), datetime.now(UTC).isoformat(timespec="milliseconds")
            session = _session_of(given)
            fields = {"event": event, "session_id": session, "domain": _unicode(str(domain or "")), "timestamp": at}
            body, fault = _body(fields, data)
            if fault:
                await self._say("ops_event_without_data", f"{name}: {fault}", session)
            if session != given:
                await self._say("ops_event_session", f"{name}: its session id is not one that opshook takes", session)
            try:
                async with asyncio.timeout(LIMIT_SECONDS):
                    await asyncio.to_thread(self._keep, name, body)
            except Exception as error:
                await self._say("ops_spool_failed", f"{name} is sent without being kept ({_name(error)})", session)
                background.add_task(self._send_unkept, name, body, session)
            else:
                background.add_task(self._send_kept, name)
        except Exception as error:
            await self._say("ops_event_fault", f"{name} was called for wrongly ({_name(error)})", session)

    def _make_spool(self) -> None:
        self._spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sync(self._spool.parent)
        for left in self._spool.glob(".*.tmp"):
            if time.time() - left.stat().st_mtime > OLD_SECONDS:
                left.unlink(missing_ok=True)

    def _keep(self, name: str, body: bytes) -> None:
        """Writes an event to the spool, and syncs it and its folder."""
        if not self._spool.is_dir():
            self._make_spool()
        temporary = self._spool / f".{name}.tmp"
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, self._spool / f"{name}.json")
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync(self._spool)

    async def _send_kept(self, name: str) -> None:
        """A background task. While emit-retry is away only the drain calls it."""
        async with self._at_once:
            if not await asyncio.to_thread(self._is_away):
                await self._send(name)

    async def _send_unkept(self, name: str, body: bytes, session: str) -> None:
        """A background task: the one attempt for what the disk would not take."""
        verdict, why = await self._post(name, body)
        if verdict != "taken":
            await self._say("ops_event_lost", f"{name} could be neither kept nor sent ({why})", session)

    async def _drain_for_ever(self) -> None:
        with suppress(OSError):  # the first event will tell
            await asyncio.to_thread(self._make_spool)
        while True:
            try:
                await self._look()
            except Exception as error:
                await self._say_once("the spool", error)
            await asyncio.sleep(DRAIN_SECONDS)

    async def _look(self) -> None:
        """Sends what is in the spool, oldest first. Who failed goes behind those that did not; after a few failures in a row
        the rest waits for the next look, which begins with others."""
        names = await asyncio.to_thread(self._names)
        known = set(names)
        self._failing &= known
        self._outlived = {name: outlived for name, outlived in self._outlived.items() if name in known}
        failed = self._failing | self._outlived.keys()
        new = [name for name in names if name not in failed]
        if self._failing and new:
            new = list(dict.fromkeys([new[-1], random.choice(new), *new]))
        old = [name for name in names if name in failed]
        failures = 0
        for name in new + random.sample(old, len(old)):
            taken = await self._send(name)
            failures = failures + 1 if taken is False else 0 if taken else failures
            if failures == FAILURES_A_DRAIN:
                break

    def _names(self) -> list[str]:
        """All events in the spool, oldest first."""
        if not self._spool.exists():
            return []
        return sorted(file.removesuffix(".json") for file in os.listdir(self._spool) if file.endswith(".json"))

    async def _send(self, name: str) -> bool | None:
        """Sends an event of the spool. False where it has to wait; None where another worker is at it, or it can't be read."""
        try:
            file = await asyncio.to_thread(self._claim, name)
            if file is None:
                return None
            with file:
                body = file.read()
                verdict, why = await self._post(name, body)
                await asyncio.to_thread(self._settle, name, body, verdict, why)
            return verdict != "away"
        except Exception as error:
            await self._say_once(name, error)
            return None

    def _claim(self, name: str) -> BinaryIO | None:
        """Locks an event while its file is open, so that a killed worker leaves no lock."""
        with suppress(FileNotFoundError, BlockingIOError), ExitStack() as closing:
            file = closing.enter_context(open(self._spool / f"{name}.json", "rb"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between the open and the lock another worker may have settled it.
            if os.path.samestat(os.fstat(file.fileno()), os.stat(file.name)):
                closing.pop_all()
                return file
        return None

    async def _post(self, name: str, body: bytes) -> tuple[Verdict, str]:
        headers = {"Content-Type": "application/json", "Idempotency-Key": name}
        if self._settings.ops_webhook_secret:
            headers["Authorization"] = f"Bearer {self._settings.ops_webhook_secret}"
        try:
            # emit-retry is near: no proxies of the environment, and no idle connection that it may be about to close.
            once = httpx.Limits(max_keepalive_connections=0)
            self._client = self._client or httpx.AsyncClient(timeout=LIMIT_SECONDS, limits=once, trust_env=False)
            async with asyncio.timeout(LIMIT_SECONDS):
                return _verdict(await self._client.post(self._settings.ops_webhook_url, content=body, headers=headers))
        except Exception as error:
            return "away", _name(error)

    def _settle(self, name: str, body: bytes, verdict: Verdict, why: str) -> None:
        kept, refused = self._spool / f"{name}.json", self._spool / "refused"
        if verdict == "away":
            return self._failed(name, why)
        if verdict == "taken":
            kept.unlink(missing_ok=True)
        else:
            refused.mkdir(mode=0o700, exist_ok=True)
            os.rename(kept, refused / kept.name)
            message = f"emit-retry refuses {name} ({why}): it is kept in refused/"
            self._write("warn", "ops_event_refused", message, _session(body))
        failing, self._failing = self._failing, set()
        now = time.monotonic()
        outlived = {other: (self._outlived.get(other, (0, now))[0] + 1, now) for other in failing}
        self._outlived = {other: seen for other, seen in (self._outlived | outlived).items() if other != name}
        self._came_back()

    def _failed(self, name: str, why: str) -> None:
        """emit-retry is away where different events failed and none was taken since: a few, or all that there are. One that
        failed while another was taken says nothing of emit-retry: for a while, and if it happens again, for ever."""
        if self._says_nothing(name):
            return
        self._failing.add(name)
        others = (other for other in self._names() if not self._says_nothing(other))
        if len(self._failing) >= FAILURES_A_DRAIN or self._failing.issuperset(others):
            self._went_away(why)

    def _says_nothing(self, name: str) -> bool:
        times, at = self._outlived.get(name, (0, 0.0))
        return times > 1 or (times == 1 and time.monotonic() < at + OUTLIVED_SECONDS)

    def _is_away(self) -> bool:
        return self._away_unmarked or os.path.exists(self._marker)

    def _went_away(self, why: str) -> None:
        if not self._is_away():
            try:
                self._marker.touch(mode=0o600, exist_ok=False)
            except FileExistsError:
                return
            except OSError:
                self._away_unmarked = True
            self._write("warn", "ops_webhook_away", f"emit-retry takes no events ({why}); they wait in the spool", "")

    def _came_back(self) -> None:
        was_away, self._away_unmarked = self._away_unmarked, False
        with suppress(FileNotFoundError):
            self._marker.unlink()
            was_away = True
        if was_away:
            self._write("info", "ops_webhook_back", "emit-retry takes events again; what waited is sent", "")

    async def _say_once(self, what: str, error: Exception) -> None:
        if what not in self._told:
            self._told.add(what)
            await self._say("ops_spool_failed", f"{what} can't be read or changed ({_name(error)})", "")

    async def _say(self, code: str, message: str, session: str) -> None:
        with suppress(Exception):
            await asyncio.to_thread(self._write, "warn", code, message, session)

    def _write(self, level: str, code: str, message: str, session: str) -> None:
        """Tells people. Messages hold nothing of `data`, and no words of an exception, for these may quote it."""
        logger.log(logging.WARNING if level == "warn" else logging.INFO, "%s: %s", code, message)
        try:
            self._log(level, code, message, session)
        except Exception as error:
            logger.warning("the activity log failed (%s)", _name(error))


def _verdict(answer: httpx.Response) -> tuple[Verdict, str]:
    """What is about the way or about us (404 and 405 come of a wrong URL) is tried again; the rest is about the event."""
    told: Any = None
    with suppress(ValueError):
        told = answer.json()
    told, status = told if isinstance(told, dict) else {}, answer.status_code
    if status == 202 or (status == 200 and told.get("state") == "disabled"):
        return "taken", ""
    if status in (401, 403):
        return "away", f"{status}: compare PORTAL_OPS_WEBHOOK_SECRET with its EMIT_API_TOKEN"
    if status < 400 or status in (404, 405):
        return "away", f"{status}: look at PORTAL_OPS_WEBHOOK_URL"
    if status in (408, 429) or status >= 500:
        return "away", str(status)
    code = str(told.get("code"))
    return "refused", f"{status} {code}" if re.fullmatch("[a-z_]{1,40}", code) else str(status)


def _body(fields: dict[str, str], data: Any) -> tuple[bytes, str]:
    """The event in bytes that emit-retry takes, and what is wrong with its data: then it is repaired or left out."""
    without = _json(fields | {"data": {}})
    try:
        # What JSON has no type for (a date, a UUID) goes as text, so that one such field costs ops nothing.
        text = _json({"data": {} if data is None else dict(data)})
        repaired = _unicode(text)
        if _levels(json.loads(repaired, object_pairs_hook=_object)) > MOST_LEVELS:
            return without.encode(), f"its data is left out: it has more than {MOST_LEVELS} levels"
    except Exception as error:
        return without.encode(), f"its data is left out: it is no JSON ({_name(error)})"
    body = (without.removesuffix("{}}") + repaired.removeprefix('{"data":')).encode()
    if len(body) + _growth(fields["domain"]) > MOST_BYTES:
        return without.encode(), f"its data is left out: the event has more than {MOST_BYTES} bytes"
    return body, "" if repaired == text else "its data holds text that is no Unicode: that is replaced"


def _json(value: Any) -> str:
    return json.dumps(value, default=str, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def _growth(domain: str) -> int:
    """How many bytes more a domain has when emit-retry writes it in ASCII."""
    with suppress(UnicodeError):
        return max(0, len(domain.encode("idna")) - len(domain.encode()))
    return MOST_DOMAIN


def _unicode(text: str) -> str:
    """The text with U+FFFD in place of what is no Unicode, such as half an emoji."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _levels(value: Any) -> int:
    """How many objects and lists stand within each other."""
    levels, inner = 0, [value]
    while inner := [value for value in inner if isinstance(value, dict | list)]:
        levels += 1
        inner = [part for value in inner for part in (value.values() if isinstance(value, dict) else value)]
    return levels


def _session_of(given: str) -> str:
    """A session id that opshook takes: without control characters, and not too long. Different ones stay different."""
    text = "".join(c for c in given if not (ord(c) < 32 or 127 <= ord(c) < 160))
    if text == given and len(text) <= MOST_SESSION:
        return text
    return f"{text[: MOST_SESSION - 17]}~{hashlib.sha256(given.encode()).hexdigest()[:16]}"


def _session(body: bytes) -> str:
    with suppress(Exception):
        return str(json.loads(body)["session_id"])
    return ""


def _name(error: BaseException) -> str:
    return type(error).__name__


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
