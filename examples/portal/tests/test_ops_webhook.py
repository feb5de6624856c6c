"""ops_webhook.py alone, over real sockets and files."""

import asyncio
import fcntl
import json
import os
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio.from_thread
import anyio.to_thread
import pytest
from fastapi import BackgroundTasks
from harness import Fake

from app import ops_webhook
from app.activity_log import ActivityLog
from app.ops_webhook import OpsWebhook, Settings

TAKEN = (202, b'{"webhook_id":"msg_1","state":"pending"}')
NOWHERE = "http://127.0.0.1:1/api/v1/events"
Start = Callable[..., Fake]


class Told(list[tuple[str, str, str, str]]):
    """What was written to the activity log."""

    def add(self, *entry: str) -> None:
        self.append(entry)  # type: ignore[arg-type]

    def codes(self) -> list[str]:
        return [code for _, code, _, _ in self]


def made(folder: Path, url: str) -> tuple[OpsWebhook, Told]:
    told = Told()
    return OpsWebhook(Settings(ops_webhook_url=url, ops_webhook_spool=folder / "spool"), told.add), told


def names(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "spool").glob("*.json"))


async def until(check: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not check():
            await asyncio.sleep(0.02)


def run(test: Callable[[], Awaitable[Any]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


async def emit(webhook: OpsWebhook, session: Any = "onb-1", **fields: Any) -> BackgroundTasks:
    """Emits an event; its background tasks, not yet run."""
    background = BackgroundTasks()
    arguments = {"event": "account.created", "domain": "example.com", "data": {"email": "ana@example.com"}} | fields
    await webhook.emit_event(session_id=session, background=background, **arguments)
    return background


@pytest.mark.parametrize(
    ("status", "answer", "left", "told"),
    [
        (202, TAKEN[1], "nothing", []),
        (200, b'{"state":"disabled"}', "nothing", []),
        (200, b"<html>another server</html>", "spool", ["ops_webhook_away"]),
        (201, b"{}", "spool", ["ops_webhook_away"]),
        (302, b"", "spool", ["ops_webhook_away"]),
        (401, b"{}", "spool", ["ops_webhook_away"]),
        (403, b"{}", "spool", ["ops_webhook_away"]),
        (404, b"{}", "spool", ["ops_webhook_away"]),
        (408, b"{}", "spool", ["ops_webhook_away"]),
        (429, b"{}", "spool", ["ops_webhook_away"]),
        (500, b"[1]", "spool", ["ops_webhook_away"]),
        (503, b"{}", "spool", ["ops_webhook_away"]),
        (400, b'{"code":"malformed_json"}', "refused", ["ops_event_refused"]),
        (409, b"not json", "refused", ["ops_event_refused"]),
        (413, b'{"code":"payload_too_large"}', "refused", ["ops_event_refused"]),
        (422, b'{"code":"ana@example.com"}', "refused", ["ops_event_refused"]),
    ],
)
def test_an_answer_says_where_the_event_goes(
    tmp_path: Path, fake: Start, status: int, answer: bytes, left: str, told: list[str]
) -> None:
    emit_retry = fake(lambda key, body: (status, answer))
    webhook, log = made(tmp_path, emit_retry.url)

    async def test() -> None:
        await (await emit(webhook))()
        await webhook._client.aclose()  # type: ignore[union-attr]

    run(test)
    refused = list((tmp_path / "spool" / "refused").glob("*.json"))
    assert (len(names(tmp_path)), len(refused)) == {"nothing": (0, 0), "spool": (1, 0), "refused": (0, 1)}[left]
    assert log.codes() == told
    assert "ana@example.com" not in str(log)


def test_file_and_folder_are_synced_before_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    webhook, _ = made(tmp_path, NOWHERE)
    synced: list[tuple[int, list[str]]] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        real(handle)
        synced.append((os.fstat(handle).st_ino, names(tmp_path)))

    monkeypatch.setattr(os, "fsync", fsync)
    run(lambda: emit(webhook))
    (name,) = names(tmp_path)
    spool = tmp_path / "spool"
    inodes = [path.stat().st_ino for path in (tmp_path, spool / f"{name}.json", spool)]
    assert [inode for inode, _ in synced] == inodes, "the new folder in its parent, the file, its name"
    assert [seen for _, seen in synced] == [[], [], [name]], "the name is given when the file is whole"


def test_a_slow_disk_does_not_hold_up_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    webhook, log = made(tmp_path, NOWHERE)
    loop_runs = threading.Event()
    real = os.fsync

    def fsync(handle: int) -> None:
        assert loop_runs.wait(4), "the event loop stands still"
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)

    async def test() -> None:
        emitting = asyncio.create_task(emit(webhook))
        await asyncio.sleep(0.05)
        assert not emitting.done()
        loop_runs.set()
        await emitting

    run(test)
    assert len(names(tmp_path)) == 1 and log == []


def test_a_disk_that_hangs_is_given_up(tmp_path: Path, fake: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    emit_retry = fake(lambda key, body: TAKEN)
    webhook, log = made(tmp_path, emit_retry.url)
    goes_on = threading.Event()
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: goes_on.wait(30) and real(handle))
    monkeypatch.setattr(ops_webhook, "LIMIT_SECONDS", 0.2)

    async def test() -> None:
        background = await emit(webhook)
        monkeypatch.setattr(ops_webhook, "LIMIT_SECONDS", 5.0)
        await background()
        assert len(emit_retry.posts) == 1 and log.codes() == ["ops_spool_failed"]
        goes_on.set()
        async with webhook.running():
            await until(lambda: len(emit_retry.posts) == 2 and not names(tmp_path))

    run(test)
    assert emit_retry.posts[0] == emit_retry.posts[1], "the same key and bytes, so emit-retry takes it once"


def test_it_never_raises_and_keeps_what_can_be_an_event(tmp_path: Path) -> None:
    webhook, log = made(tmp_path, NOWHERE)
    itself: dict[str, Any] = {}
    itself["itself"] = itself

    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("ana@example.com")

        __bool__ = __repr__ = __str__

    async def test() -> None:
        for data in (itself, {("a", "b"): 1}, {"x": float("nan")}, {"x": Hostile()}, Hostile()):
            await emit(webhook, data=data)
        for field in ("event", "domain", "session"):
            await emit(webhook, **{field: Hostile()})
        await emit(webhook, None, domain=None, data=None, event=None)
        await emit(webhook, 7, domain=["x"], data="text", event={1, 2})
        await webhook.emit_event("account.created", "onb-1", "example.com", {}, None)  # type: ignore[arg-type]

    run(test)
    events = [json.loads((tmp_path / "spool" / f"{name}.json").read_text()) for name in names(tmp_path)]
    assert [event["data"] for event in events[:5]] == [{}] * 5
    assert len(events) == 8, "all but those without a name, a domain or a session"
    without, fault = ["ops_event_without_data"], ["ops_event_fault"]
    assert log.codes() == without * 5 + fault * 3 + without + fault
    assert "ana@example.com" not in str(log) + str(events)


def test_the_event_is_what_the_contract_wants(tmp_path: Path) -> None:
    webhook, _ = made(tmp_path, NOWHERE)
    at = datetime.fromisoformat("2026-11-24T10:15:30+00:00")
    run(lambda: emit(webhook, None, data={"at": at, "aliases": ["büro"]}))
    (name,) = names(tmp_path)
    event = json.loads((tmp_path / "spool" / f"{name}.json").read_text())
    assert datetime.fromisoformat(event.pop("timestamp")).utcoffset() is not None
    assert event == {
        "event": "account.created",
        "session_id": "",
        "domain": "example.com",
        "data": {"at": str(at), "aliases": ["büro"]},
    }


def test_an_event_that_always_fails_holds_up_no_other(
    tmp_path: Path, fake: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops_webhook, "DRAIN_SECONDS", 0.05)
    emit_retry = fake(lambda key, body: (500, b"") if b"onb-bad" in body else TAKEN)
    webhook, _ = made(tmp_path, emit_retry.url)

    async def test() -> None:
        for session in ("onb-bad", "onb-1", "onb-2"):
            await emit(webhook, session)
        async with webhook.running():
            await until(lambda: len(names(tmp_path)) == 1)

    run(test)
    order = [json.loads(body)["session_id"] for _, body in emit_retry.posts[:3]]
    assert order == ["onb-bad", "onb-1", "onb-2"], "oldest first"


def test_many_events_that_always_fail_hold_up_no_other_and_are_no_outage(
    tmp_path: Path, fake: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops_webhook, "DRAIN_SECONDS", 0.05)
    emit_retry = fake(lambda key, body: (403, b"") if b"onb-bad" in body else TAKEN)
    webhook, log = made(tmp_path, emit_retry.url)

    async def test() -> None:
        for number in range(40):
            await emit(webhook, f"onb-bad-{number}" if number % 10 < 5 else f"onb-{number}")
        async with webhook.running():
            await until(lambda: len(names(tmp_path)) == 20)
            seen = len(emit_retry.posts)
            await until(lambda: len(emit_retry.posts) > seen + 40)
            await (await emit(webhook, "onb-new"))()
            await until(lambda: len(names(tmp_path)) == 20)
            # Those that are left have failed while others were taken: nobody is told again that emit-retry is away.
            told, seen = len(log), len(emit_retry.posts)
            await until(lambda: len(emit_retry.posts) > seen + 40)
            assert len(log) == told, log
            await (await emit(webhook, "onb-newer"))()
            assert len(names(tmp_path)) == 20, "a new one goes at once"

    run(test)
    left = [json.loads((tmp_path / "spool" / f"{name}.json").read_text())["session_id"] for name in names(tmp_path)]
    assert all(session.startswith("onb-bad") for session in left)


def nested(levels: int) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for _ in range(levels - 1):
        data = {"d": data}
    return data


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        ({"note": "caf\udce9"}, {"note": "caf\ufffd"}),
        ({"note": "\ud83e"}, {"note": "\ufffd"}),
        ({"caf\udce9": ["\udce9", 1]}, {"caf\ufffd": ["\ufffd", 1]}),
        (nested(66), {}),
        (nested(64), {}),
        (("a", "b"), {}),
        ({1: "a", "1": "b"}, {}),
        ({"n": float("inf")}, {}),
        ({"log": "x" * 80_000}, {}),
        ({"log": "é" * 33_000}, {}),
    ],
)
def test_whatever_data_holds_the_event_is_kept_and_a_warn_says_what_became_of_it(
    tmp_path: Path, data: Any, kept: dict[str, Any]
) -> None:
    webhook, log = made(tmp_path, NOWHERE)
    run(lambda: emit(webhook, data=data))
    (name,) = names(tmp_path)
    event = json.loads((tmp_path / "spool" / f"{name}.json").read_bytes().decode())
    assert event["data"] == kept and event["session_id"] == "onb-1"
    assert log.codes() == ["ops_event_without_data"]


@pytest.mark.parametrize("data", [nested(63), {"log": "x" * 65_000}, {"l": [1] * 24_000}, {"é": "🧱"}, None, {1: "a"}])
def test_data_that_can_be_sent_goes_as_it_is(tmp_path: Path, data: Any) -> None:
    webhook, log = made(tmp_path, NOWHERE)
    run(lambda: emit(webhook, data=data))
    (name,) = names(tmp_path)
    event = json.loads((tmp_path / "spool" / f"{name}.json").read_bytes())
    assert event["data"] == {str(key): value for key, value in (data or {}).items()} and not log


def test_a_session_that_opshook_does_not_take_is_made_one_that_it_takes(tmp_path: Path) -> None:
    webhook, log = made(tmp_path, NOWHERE)

    async def test() -> None:
        for session in ("a\x00b", "ab", "x" * 128, "x" * 129, "x" * 130):
            await emit(webhook, session)

    run(test)
    events = [json.loads((tmp_path / "spool" / f"{name}.json").read_bytes()) for name in names(tmp_path)]
    sessions = [event["session_id"] for event in events]
    assert len(set(sessions)) == 5 and sessions[1:3] == ["ab", "x" * 128]
    assert all(len(session) <= 128 and session.isprintable() for session in sessions)
    assert log.codes() == ["ops_event_session"] * 3


def test_an_outage_beside_events_that_always_fail_is_told_and_so_is_the_next_one(
    tmp_path: Path, fake: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops_webhook, "DRAIN_SECONDS", 0.05)
    monkeypatch.setattr(ops_webhook, "OUTLIVED_SECONDS", 0.5)
    away: list[bool] = []
    emit_retry = fake(lambda key, body: (403, b"") if away or b"onb-bad" in body else TAKEN)
    webhook, log = made(tmp_path, emit_retry.url)

    async def test() -> None:
        await emit(webhook, "onb-bad")
        async with webhook.running():
            for number in range(4):
                seen = len(emit_retry.posts)
                await until(lambda seen=seen: len(emit_retry.posts) > seen)
                await emit(webhook, f"onb-{number}")
                await until(lambda: len(names(tmp_path)) == 1)
            for outage in range(2):
                log.clear()
                away.append(True)
                await emit(webhook, f"onb-waits-{outage}")
                await until(lambda: "ops_webhook_away" in log.codes())
                away.clear()
                await until(lambda: len(names(tmp_path)) == 1 and "ops_webhook_back" in log.codes())

    run(test)


def test_while_emit_retry_is_away_only_the_drain_asks_for_it(tmp_path: Path) -> None:
    webhook, log = made(tmp_path, NOWHERE)
    posts: list[str] = []
    real = webhook._post

    async def post(name: str, body: bytes) -> Any:
        posts.append(name)
        return await real(name, body)

    webhook._post = post  # type: ignore[method-assign]

    async def test() -> None:
        for _ in range(20):
            await (await emit(webhook))()
        await webhook._client.aclose()  # type: ignore[union-attr]

    run(test)
    assert len(posts) == 1 and log.codes() == ["ops_webhook_away"]


@pytest.mark.parametrize("verdict", ["taken", "refused"])
def test_what_another_worker_settles_between_the_open_and_the_lock_is_not_sent_again(
    tmp_path: Path, fake: Start, monkeypatch: pytest.MonkeyPatch, verdict: Any
) -> None:
    emit_retry = fake(lambda key, body: TAKEN)
    webhook, log = made(tmp_path, emit_retry.url)
    another, _ = made(tmp_path, emit_retry.url)
    real = fcntl.flock

    def flock(file: Any, how: int) -> None:
        another._settle(names(tmp_path)[0], b"{}", verdict, "")
        real(file, how)

    async def test() -> None:
        background = await emit(webhook)
        monkeypatch.setattr(fcntl, "flock", flock)
        await background()

    run(test)
    assert emit_retry.posts == [] and log == []


def test_of_workers_that_see_the_outage_at_the_same_moment_one_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpsWebhook, "_is_away", lambda _: False)
    (tmp_path / "spool").mkdir()
    workers = [made(tmp_path, NOWHERE) for _ in range(2)]
    for act in ("_went_away", "_came_back"):
        for webhook, _ in workers:
            getattr(webhook, act)(*(["ConnectError"] if act == "_went_away" else []))
    assert [code for _, log in workers for code in log.codes()] == ["ops_webhook_away", "ops_webhook_back"]


def test_what_a_killed_worker_left_half_written_is_removed_once_it_is_old(tmp_path: Path) -> None:
    webhook, _ = made(tmp_path, NOWHERE)
    spool = tmp_path / "spool"
    spool.mkdir()
    old, new = spool / ".old.tmp", spool / ".new.tmp"
    for path, age in ((old, 2 * ops_webhook.OLD_SECONDS), (new, 0)):
        path.write_bytes(b"{")
        os.utime(path, (time.time() - age,) * 2)

    async def test() -> None:
        async with webhook.running():
            await until(lambda: not old.exists())

    run(test)
    assert new.exists()


def test_what_in_the_spool_is_no_event_is_told_once_and_stops_nothing(
    tmp_path: Path, fake: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops_webhook, "DRAIN_SECONDS", 0.02)
    emit_retry = fake(lambda key, body: TAKEN)
    webhook, log = made(tmp_path, emit_retry.url)
    (tmp_path / "spool" / "0-folder.json").mkdir(parents=True)

    async def test() -> None:
        await emit(webhook)
        async with webhook.running():
            await until(lambda: names(tmp_path) == ["0-folder"])
            await asyncio.sleep(0.2)

    run(test)
    assert log.codes() == ["ops_spool_failed"]


def test_an_activity_log_that_fails_harms_nothing(tmp_path: Path) -> None:
    def fails(*_: str) -> None:
        raise OSError("no space left")

    webhook = OpsWebhook(Settings(ops_webhook_url=NOWHERE, ops_webhook_spool=tmp_path / "spool"), fails)

    async def test() -> None:
        await (await emit(webhook))()
        await webhook._client.aclose()  # type: ignore[union-attr]

    run(test)
    assert len(names(tmp_path)) == 1


def test_a_route_that_is_no_coroutine_can_emit(tmp_path: Path) -> None:
    """As the README says for `def` routes, which FastAPI runs in a thread."""
    webhook, _ = made(tmp_path, NOWHERE)

    def route() -> None:
        anyio.from_thread.run(webhook.emit_event, "account.created", "onb-1", "example.com", {}, BackgroundTasks())

    run(lambda: anyio.to_thread.run_sync(route))
    assert len(names(tmp_path)) == 1


def test_settings() -> None:
    assert Settings.from_environment({}) == Settings()
    told = Settings.from_environment(
        {
            "PORTAL_OPS_WEBHOOK_URL": "http://emit.example/api/v1/events",
            "PORTAL_OPS_WEBHOOK_SECRET": " token\n",
            "PORTAL_OPS_WEBHOOK_SPOOL": "/var/spool/portal",
            "OPS_WEBHOOK_URL": "http://ops.example",
            "OPS_WEBHOOK_SECRET": "whsec_",
        }
    )
    assert told == Settings("http://emit.example/api/v1/events", "token", True, Path("/var/spool/portal"))
    assert "token" not in repr(told)
    for name in ("PORTAL_OPS_WEBHOOK_ENABLED", "OPS_WEBHOOK_ENABLED"):
        assert not Settings.from_environment({name: "False"}).ops_webhook_enabled
        assert Settings.from_environment({name: "true"}).ops_webhook_enabled


def test_the_activity_log_answers_the_newest_first_and_passes_over_what_is_broken(tmp_path: Path) -> None:
    log = ActivityLog(tmp_path / "new" / "activity.jsonl")
    assert log.entries() == []
    log.add("warn", "a", "first", "onb-1")
    with open(tmp_path / "new" / "activity.jsonl", "a") as file:
        file.write('{"at": "cut off\n')
    log.add("info", "b", "second")
    log.add("warn", "c", "third")
    assert [entry["code"] for entry in log.entries()] == ["c", "b", "a"]
    assert [entry["message"] for entry in log.entries("warn", 1)] == ["third"]
