"""SIGTERM with every place taken: none waits for a lease."""

import json
import time

from benchmarks import endpoint
from benchmarks.dynamodb import Engine
from benchmarks.endpoint import Endpoint
from benchmarks.load import Portal
from benchmarks.report import Figure
from benchmarks.system import Emit, Failed, wait_for

NAME = "stop"
ABOUT = "SIGTERM with every place taken"
# A process that has seen no answer yet has so many places,
SLOTS = 4
PROCESSES = 2
# and so many more wait for one.
WAITING = 32
LEASE_S = 15
# An attempt ends after 5 s at most; then it is recorded.
MOST_STOP_S = 7
# From the next process's exec: a failed attempt's wait of 1 s, a probe's, and the drain.
MOST_NEXT_S = 5
NOTE = (
    "{processes} emit-retry on one outbox with {slots} messages in flight each and {waiting} more pending, at an ops that "
    "answers nothing. Both get SIGTERM; a second later ops answers 200 to half of what is in flight, and the others run into "
    "their time limit of 5 s. Then ops answers 200 at once, and one emit-retry is started. A lease would hold for {lease} s."
)


def run(site, options, progress):
    """The figures, and how they were taken."""
    engine = site.engine("portal")
    outbox = Engine(engine)
    in_flight = PROCESSES * SLOTS
    is_up = []
    with Endpoint(lambda _: endpoint.OK if is_up else endpoint.STALL) as ops:
        emits = [Emit(site, engine, ops.url()) for _ in range(PROCESSES)]
        for emit in emits:
            emit.ready_after()
        # The first fills its own places and then the other's.
        with Portal(emits[0].address, 16) as portal:
            portal.post(in_flight + WAITING)
        wait_for(f"{in_flight} are in flight", 4, lambda: len(ops.requests) >= in_flight)
        progress.note(f"{len(ops.requests)} in flight, {WAITING} more are pending: SIGTERM")
        sent = time.monotonic()
        for emit in emits:
            emit.terminate()
        time.sleep(1)
        ops.release(endpoint.OK, share=0.5)
        stopped = max(emit.ended() for emit in emits)
        attempted = {request.webhook_id for request in ops.requests}
        stopped_figures = after_stop(outbox.messages(), attempted, stopped - sent, progress)
        is_up.append(True)
        following = Emit(site, engine, ops.url())
        wait_for("everything is delivered", 60, lambda: not outbox.is_anything_pending())
        last_s = time.monotonic() - following.started
    messages = outbox.messages()
    if {message["state"] for message in messages} != {"delivered"} or len(messages) != in_flight + WAITING:
        raise Failed("not everything is delivered")
    progress.note(f"the next process: everything is delivered after {last_s:.2f} s")
    figures = [*stopped_figures, Figure(NAME, "next process until all are delivered", last_s, "s", MOST_NEXT_S)]
    note = NOTE.format(processes=PROCESSES, slots=SLOTS, waiting=WAITING, lease=LEASE_S)
    return figures, note


def after_stop(messages, attempted, took, progress):
    """What the processes left."""
    tried = [message for message in messages if message["pk"] in attempted]
    delivered = sum(message["state"] == "delivered" for message in tried)
    recorded = sum(len(json.loads(message["attempts"])) == 1 for message in tried)
    leased = sum("lease_until" in message for message in messages)
    progress.note(f"stopped after {took:.2f} s: {delivered} delivered, {recorded} of {len(tried)} recorded, {leased} leased")
    return [
        Figure(NAME, "in flight at SIGTERM", len(tried), "", PROCESSES * SLOTS, least=True),
        Figure(NAME, "of them delivered by the end", delivered, ""),
        Figure(NAME, "of them without their outcome", len(tried) - recorded, "", 0),
        Figure(NAME, "leases left behind", leased, "", 0),
        Figure(NAME, "SIGTERM until both have ended", took, "s", MOST_STOP_S),
    ]
