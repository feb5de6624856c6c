"""The portal and opshook together: what was promised for each step (T011 to T027), and that no event is lost or doubled."""

import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from harness import ACCOUNT, EMAIL, QUICK, Fake, Ops, Portal, eventually, http

T014 = {name: ACCOUNT[name] for name in ("email", "account_verified", "needs_review", "dns_mode", "mail_aliases")}
DOMAIN = {"domain": "example.com"}
FAILURE = {"step": "apply_dns", "reason": "zone_missing"}
STEPS = [
    ("create-account", ACCOUNT, "account.created", T014),
    ("validate-domain", DOMAIN, "domain.validated", {}),
    ("apply-dns", DOMAIN | {"dns_mode": "manual"}, "dns.applied", {"dns_mode": "manual"}),
    ("complete", DOMAIN, "onboarding.completed", {}),
    ("fail", DOMAIN | FAILURE, "onboarding.failed", FAILURE),
]
TOKEN = "token-of-the-tests-for-emit-0123456789"
NOWHERE = "http://127.0.0.1:1/api/v1/webhooks/onboard"  # nothing listens on port 1

Start = Callable[..., Any]


def all_delivered(running: Ops, count: int) -> None:
    """Waits until so many messages are delivered, and sees that the outbox has no other."""
    eventually(lambda: len(running.outbox(state="delivered")) >= count, f"{count} delivered")
    assert len(running.outbox()) == count


def emptied(web: Portal) -> None:
    eventually(lambda: not web.spooled(), "the spool is empty")


@pytest.mark.parametrize("workers", [1, 2])
def test_each_step_answers_200_and_ops_has_its_record_to_the_letter(ops: Start, portal: Start, workers: int) -> None:
    running = ops()
    web = portal(running.events_url, workers=workers)
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    for path, body, _, _ in STEPS:
        web.post(path, body, "onb-steps")
    after = datetime.now(UTC)

    all_delivered(running, len(STEPS))
    records = {record["event"]: record for record in running.records(session_id="onb-steps")}
    for _, _, event, data in STEPS:
        sent = running.body(records[event]["event_id"])
        happened = datetime.fromisoformat(sent.pop("timestamp"))
        assert happened.tzinfo is not None and before <= happened <= after
        assert sent == {"event": event, "session_id": "onb-steps", "domain": "example.com", "data": data}
    (ticket,) = running.tickets()
    assert ticket["subject"] == f"[account.created] example.com — {EMAIL}"
    emptied(web)
    assert web.activity("warn") == []


def test_the_session_is_the_headers_or_the_cookies_or_made(portal: Start) -> None:
    web = portal(NOWHERE, PORTAL_OPS_WEBHOOK_ENABLED="false")

    def session(**headers: str) -> str:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = http("POST", f"{web.url}/api/onboarding/complete", json=DOMAIN, headers=sent)
        assert answer.headers["X-Session-Id"] == answer.cookies["session_id"] == answer.json()["session_id"]
        return answer.json()["session_id"]

    assert session(X_Session_Id="onb-header", Cookie="session_id=onb-cookie") == "onb-header"
    assert session(Cookie="a=b; session_id=onb-cookie") == "onb-cookie"
    made = [session(), session(X_Session_Id="no name of a session"), session(Cookie="session_id=" + "x" * 129)]
    assert len({name for name in made if name.startswith("onb-")}) == 3


def test_a_step_with_a_bad_body_is_refused_and_tells_ops_nothing(portal: Start) -> None:
    web = portal(NOWHERE)
    bad = [
        ("create-account", ACCOUNT | {"email": "nobody"}),
        ("create-account", ACCOUNT | {"dns_mode": "other"}),
        ("create-account", ACCOUNT | {"mail_aliases": ["no alias"]}),
        ("create-account", {"domain": "example.com"}),
        ("validate-domain", {"domain": "no domain"}),
        ("complete", {}),
        ("complete", DOMAIN | {"unknown": 1}),
        ("fail", DOMAIN | {"step": "apply_dns", "reason": "in words, with ana@example.com"}),
    ]
    for path, body in bad:
        assert http("POST", f"{web.url}/api/onboarding/{path}", json=body).status_code == 422, body
    assert web.spooled() == []


def test_while_ops_is_down_the_portal_answers_200_at_once_and_emit_retry_has_the_events(
    ops: Start, portal: Start
) -> None:
    running = ops(OPS_WEBHOOK_URL=NOWHERE)
    web = portal(running.events_url)
    assert max(web.post(path, body, "onb-down") for path, body, _, _ in STEPS) < QUICK
    eventually(lambda: len(running.outbox(state="pending")) == len(STEPS), "all are in the outbox")
    emptied(web)
    assert web.activity("warn") == []


@pytest.mark.parametrize("workers", [1, 2])
def test_while_emit_retry_is_away_all_goes_on_with_one_warn_and_then_all_is_delivered_once(
    ops: Start, portal: Start, workers: int
) -> None:
    running = ops()
    running.stop()
    web = portal(running.events_url, workers=workers)
    waited = [web.post(path, body, f"onb-{n}") for n in range(8) for path, body, _, _ in STEPS]
    assert max(waited) < QUICK
    assert len(web.spooled()) == len(waited)
    eventually(lambda: web.codes() == ["ops_webhook_away"], "the warn is there")

    running.start()
    all_delivered(running, len(waited))
    emptied(web)
    eventually(lambda: web.codes("info") == ["ops_webhook_back"], "the activity log says that it is back")
    assert web.codes() == ["ops_webhook_away"], "one warn an outage, for all workers"
    assert len(running.tickets()) == 8
    web.post("complete", DOMAIN, "onb-after")
    all_delivered(running, len(waited) + 1)


def test_an_emit_retry_that_never_answers_delays_no_answer_of_the_portal(portal: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        web = portal(f"http://127.0.0.1:{silent.getsockname()[1]}/api/v1/events")
        assert max(web.post("create-account", ACCOUNT, f"onb-{n}") for n in range(40)) < QUICK
        eventually(lambda: web.codes() == ["ops_webhook_away"], "the warn is there")
        assert len(web.spooled()) == 40


@pytest.mark.parametrize("name", ["PORTAL_OPS_WEBHOOK_ENABLED", "OPS_WEBHOOK_ENABLED"])
def test_disabled_is_silent(portal: Start, fake: Start, name: str) -> None:
    emit: Fake = fake(lambda key, body: (202, b"{}"))
    web = portal(emit.url, **{name: "false"})
    for path, body, _, _ in STEPS:
        web.post(path, body, "onb-off")
    web.process.stop()
    assert not web.spool.exists()
    assert emit.posts == []
    assert not (web.folder / "activity.jsonl").exists() and "ops_" not in web.process.said()


def test_an_emit_retry_that_is_disabled_takes_the_events_out_of_the_spool(ops: Start, portal: Start) -> None:
    running = ops(OPS_WEBHOOK_ENABLED="false")
    web = portal(running.events_url)
    web.post("create-account", ACCOUNT, "onb-off")
    emptied(web)
    assert running.outbox() == [] and web.activity("warn") == []


def test_a_portal_killed_right_after_its_answer_sends_the_event_when_it_starts_again(ops: Start, portal: Start) -> None:
    running = ops()
    running.stop()
    web = portal(running.events_url)
    web.post("create-account", ACCOUNT, "onb-killed")
    web.process.kill()
    assert len(web.spooled()) == 1

    running.start()
    again = portal(running.events_url)
    all_delivered(running, 1)
    emptied(again)
    assert len(running.tickets()) == 1


def test_a_portal_killed_while_emit_retry_takes_the_event_makes_no_second_message(
    ops: Start, portal: Start, fake: Start
) -> None:
    running = ops()

    def takes_and_never_says(key: str, body: bytes) -> None:
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        assert http("POST", running.events_url, content=body, headers=headers).status_code == 202

    between: Fake = fake(takes_and_never_says)
    web = portal(between.url)
    web.post("create-account", ACCOUNT, "onb-killed")
    eventually(lambda: running.outbox(), "emit-retry has it")
    web.process.kill()
    assert len(web.spooled()) == 1

    again = portal(running.events_url)
    emptied(again)
    all_delivered(running, 1)
    assert len(running.records()) == len(running.tickets()) == 1


def test_two_workers_with_a_full_spool_hand_over_each_event_once(ops: Start, portal: Start, fake: Start) -> None:
    running = ops()
    running.stop()
    filling = portal(running.events_url)
    for n in range(120):
        filling.post("create-account", ACCOUNT, f"onb-{n}")
    filling.process.stop()
    assert len(filling.spooled()) == 120

    running.start()

    def hand_on(key: str, body: bytes) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        answer = http("POST", running.events_url, content=body, headers=headers)
        return answer.status_code, answer.content

    counting: Fake = fake(hand_on)
    emptied(portal(counting.url, workers=2))
    assert len(counting.posts) == len(set(counting.keys())) == 120, "the lock lets one worker post an event, once"
    all_delivered(running, 120)
    assert len(running.tickets()) == 120


def test_without_a_spool_the_event_is_sent_directly(ops: Start, portal: Start) -> None:
    running = ops()
    folder = running.folder.parent / "portal"
    folder.mkdir()
    (folder / "ops_spool").write_text("a file where the folder should be")
    web = portal(running.events_url)
    web.post("create-account", ACCOUNT, "onb-direct")
    all_delivered(running, 1)
    assert web.codes().count("ops_spool_failed") >= 1
    assert "ops_event_lost" not in web.codes()


def test_on_a_full_disk_the_portal_answers_200_and_the_event_arrives(ops: Start, portal: Start) -> None:
    running = ops()
    web = portal(running.events_url, limit=0)  # no file can grow: neither the spool nor the activity log
    web.post("create-account", ACCOUNT, "onb-full")
    all_delivered(running, 1)
    assert "ops_spool_failed" in web.process.said() and "the activity log failed" in web.process.said()
    assert list(web.spool.iterdir()) == [], "what was half written is removed"


def test_without_a_spool_and_without_emit_retry_the_loss_is_told(portal: Start, tmp_path: Any) -> None:
    (tmp_path / "portal").mkdir()
    (tmp_path / "portal" / "ops_spool").write_text("a file where the folder should be")
    web = portal(NOWHERE)
    assert web.post("create-account", ACCOUNT, "onb-lost") < QUICK
    lost = eventually(lambda: [e for e in web.activity("warn") if e["code"] == "ops_event_lost"], "the loss is told")
    assert [entry["session_id"] for entry in lost] == ["onb-lost"]


def test_an_event_that_emit_retry_refuses_is_kept_aside_and_stops_no_other(ops: Start, portal: Start) -> None:
    running = ops()
    running.stop()
    web = portal(running.events_url)
    web.post("complete", {"domain": "two..dots"}, "onb-refused")
    web.post("create-account", ACCOUNT, "onb-good")
    running.start()
    all_delivered(running, 1)
    emptied(web)
    (refused,) = web.refused()
    (entry,) = [entry for entry in web.activity("warn") if entry["code"] == "ops_event_refused"]
    assert entry["session_id"] == "onb-refused"
    assert "422 invalid_event" in entry["message"] and refused.stem in entry["message"]
    assert b"two..dots" in refused.read_bytes()


def test_a_wrong_token_is_told_and_with_the_right_one_all_goes(ops: Start, portal: Start) -> None:
    running = ops(EMIT_API_TOKEN=TOKEN)
    web = portal(running.events_url, PORTAL_OPS_WEBHOOK_SECRET="a-wrong-token")
    web.post("create-account", ACCOUNT, "onb-token")
    (warn,) = eventually(lambda: web.activity("warn"), "the warn is there")
    assert "401" in warn["message"] and "PORTAL_OPS_WEBHOOK_SECRET" in warn["message"]
    assert len(web.spooled()) == 1 and web.refused() == []
    web.process.stop()

    again = portal(running.events_url, PORTAL_OPS_WEBHOOK_SECRET=TOKEN)
    all_delivered(running, 1)
    emptied(again)
    for told in (web.process.said(), again.told()):
        assert not any(secret in told for secret in ("a-wrong-token", TOKEN, EMAIL, "ana.maria"))


def test_the_spool_and_the_log_are_for_the_portals_own_eyes(portal: Start) -> None:
    web = portal("http://127.0.0.1:1/api/v1/events")
    web.post("create-account", ACCOUNT, "onb-eyes")
    eventually(lambda: web.codes() == ["ops_webhook_away"], "the warn is there")
    (event,) = web.spooled()
    modes = [path.stat().st_mode & 0o777 for path in (web.spool, event, web.folder / "activity.jsonl")]
    assert modes == [0o700, 0o600, 0o600]
    assert EMAIL in event.read_text() and EMAIL not in web.told()
