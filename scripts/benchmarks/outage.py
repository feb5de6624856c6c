"""Ops is away with 10,000 messages pending, and is back: a calm endpoint meanwhile, and a fast drain in order after."""

import json
import time

from benchmarks import endpoint
from benchmarks.dynamodb import EVENTS, Engine, unix_ms
from benchmarks.endpoint import Endpoint
from benchmarks.report import Figure
from benchmarks.system import ONBOARD, Emit, Failed, free_port, wait_for

NAME = "outage"
ABOUT = "ops down with 10,000 messages pending, and back"
PENDING = 10_000
WATCHED_S = 60
# contract §5 by design/delivery.md: the waits before the probes.
PROBE_WAITS_S = [1, 2, 4, 8, 16, 30]
# An attempt's time of day and the arrival of its request are two clocks' readings.
TOLERANCE_S = 0.05
# What was on its way when the endpoint went down arrives within this, well before the first probe.
ON_THE_WAY_S = 0.5
SLOTS = 32
# What fails until the endpoint is in doubt, and then one each 75 ms for 1.5 s.
MOST_UNTIL_OPEN = SLOTS + 4
DELIVERED = 1_000
MOST_S = 10
# After so many that got through, the probe among them, so many may be under way at once.
STEPS = [(0, 1), (1, 4), (5, 8), (13, 16), (29, 32)]
# What 32 places and the messages that were tried before can put out of order.
MOST_OUT_OF_ORDER = SLOTS + 8
NOTE = (
    "{pending:,} messages written straight into the outbox (BatchWriteItem), then emit-retry started. For {watched} s ops "
    "answers 503 or closes the connection, in turn; what was on its way when the endpoint went down is no probe. Then the "
    "real receive takes its place, on an engine of its own. The {delivered:,} count from the first delivery; the order is that "
    "of receive's event ids, and how far one is out of it is told in places; the steps are read from the attempts."
)


def run(site, options, progress):
    """The figures, and how they were taken."""
    port = free_port()
    portal_engine, ops_engine = site.engine("portal"), site.engine("ops")
    outbox = Engine(portal_engine)
    oldest_first = outbox.fill(PENDING, progress.step)
    with Endpoint(lambda number: [endpoint.UNAVAILABLE, endpoint.CLOSE][number % 2], port) as ops:
        emit = Emit(site, portal_engine, f"http://127.0.0.1:{port}{ONBOARD}")
        wait_for("the endpoint is down", 30, lambda: emit.metric("opshook_endpoint_down") == 1)
        opened_ms = unix_ms(emit.activity("endpoint_down")[0]["at"])
        opened = time.monotonic() - (time.time() - opened_ms / 1000)
        while time.monotonic() < opened + WATCHED_S:
            progress.step(f"ops is down: {len(ops.requests)} requests in {time.monotonic() - opened:.0f} s")
            time.sleep(0.2)
        requests = list(ops.requests)
    calm = calm_figures(requests, opened, progress)
    back = time.monotonic()
    site.receive(ops_engine, port)
    receive_engine = Engine(ops_engine)
    wait_for("a probe gets through", 60, lambda: emit.activity("endpoint_up"), pause=0.1)
    first = time.monotonic()
    while outbox.is_anything_pending():
        progress.step(f"ops is back: draining for {time.monotonic() - first:.0f} s")
        if time.monotonic() > first + 300:
            raise Failed("the backlog is not drained within 300 s")
        time.sleep(0.5)
    drain = drain_figures(outbox.messages(), receive_engine.rows(EVENTS), oldest_first, progress)
    waited = Figure(NAME, "ops back until the first is delivered", first - back, "s")
    return [*calm, waited, *drain], NOTE.format(pending=PENDING, watched=WATCHED_S, delivered=DELIVERED)


def calm_figures(requests, opened, progress):
    """Requests while the endpoint was down, by the probe intervals."""
    after = [request for request in requests if request.at > opened + ON_THE_WAY_S]
    before = len(requests) - len(after)
    marks = [opened] + [request.at for request in after]
    gaps = [later - earlier for earlier, later in zip(marks, marks[1:])]
    progress.note(f"ops is down: {before} requests until the endpoint was down, then after {[round(gap, 1) for gap in gaps]} s")
    waits = PROBE_WAITS_S + [PROBE_WAITS_S[-1]] * len(gaps)
    too_soon = sum(gap < wait - TOLERANCE_S for gap, wait in zip(gaps, waits))
    allowed, at = 0, 0
    for wait in waits:
        at += wait
        allowed += at <= WATCHED_S
    return [
        Figure(NAME, "requests until the endpoint was down", before, "", MOST_UNTIL_OPEN),
        Figure(NAME, f"probes in the {WATCHED_S} s after", len(after), "", allowed),
        Figure(NAME, "probes sooner than their interval", too_soon, "", 0),
    ]


def drain_figures(messages, records, oldest_first, progress):
    """How fast the backlog was drained, in which order, and how many at a time."""
    rank = {webhook_id: place for place, webhook_id in enumerate(oldest_first)}
    delivered = sorted(message["delivered_at"] for message in messages if message["state"] == "delivered")
    if len(delivered) != len(oldest_first):
        raise Failed(f"{len(oldest_first) - len(delivered)} messages are not delivered")
    arrived = sorted((record["event_id"], record["webhook_id"]) for record in records if "webhook_id" in record)
    places = [rank[webhook_id] for _, webhook_id in arrived if webhook_id in rank]
    out = max(abs(place - wanted) for wanted, place in enumerate(places))
    all_s = (delivered[-1] - delivered[0]) / 1000
    progress.note(f"ops is back: {len(delivered):,} delivered in {all_s:.1f} s, {len(delivered) / all_s:.0f} a second")
    return [
        Figure(NAME, f"{DELIVERED:,} delivered in", (delivered[DELIVERED - 1] - delivered[0]) / 1000, "s", MOST_S),
        Figure(NAME, f"all {len(delivered):,} delivered in", all_s, "s"),
        Figure(NAME, "furthest out of order", out, "places", MOST_OUT_OF_ORDER),
        Figure(NAME, "delivered more than once", len(places) - len(set(places)), "", 0),
        Figure(NAME, "beginnings above the steps 4, 8, 16, 32", above_steps(messages), "", 0),
    ]


def above_steps(messages):
    """How many deliveries began while as many were under way as their step allows, as far as milliseconds tell."""
    spans = []
    for message in messages:
        last = json.loads(message["attempts"])[-1]
        begun = unix_ms(last["at"])
        spans.append((begun, begun + last["ms"]))
    spans.sort()
    above = 0
    for place, (begun, _) in enumerate(spans[: 2 * SLOTS]):
        passed = sum(end <= begun + 1 for _, end in spans[:place])
        width = next(width for least, width in reversed(STEPS) if passed >= least)
        above += place - passed + 1 > width
    return above
