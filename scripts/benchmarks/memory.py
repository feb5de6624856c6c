"""emit-retry's memory does not grow with the backlog, and neither does its start."""

import statistics
import time

from benchmarks import endpoint
from benchmarks.dynamodb import Engine
from benchmarks.endpoint import Endpoint
from benchmarks.load import Portal
from benchmarks.report import Figure
from benchmarks.system import Emit, wait_for

NAME = "memory"
ABOUT = "emit-retry's memory and start with 1,000 and 100,000 messages pending"
FEW, MANY = 1_000, 100_000
STARTS = 5
SETTLE_S, SAMPLED_S = 15, 15
# The portal goes on while ops is down.
POSTED = 2_000
CONNECTIONS = 16
MOST_GROWTH, MOST_MB, MOST_START_S = 10.0, 60.0, 2.0
NOTE = (
    "Messages written straight into the outbox (BatchWriteItem), ops answers 503. {starts} starts each, the two outboxes in "
    "turn; each time {posted:,} events are posted over {connections} connections, and the resident size is the median of "
    "{sampled} s after {settle} s more of sweeping and probing. The peak is the most that was ever resident in any of them. A "
    "start is from exec until /ready answers 200; the longest counts."
)


def run(site, options, progress):
    """The figures, and how they were taken."""
    engines = {}
    for count in (FEW, MANY):
        engines[count] = site.engine(f"portal-{count}")
        Engine(engines[count]).fill(count, progress.step)
        progress.note(f"{count:,} messages are pending")
    sizes = {count: [] for count in engines}
    starts = {count: [] for count in engines}
    peaks = []
    with Endpoint(lambda _: endpoint.UNAVAILABLE) as ops:
        for turn in range(STARTS):
            for count, engine in engines.items():
                emit = Emit(site, engine, ops.url())
                starts[count].append(emit.ready_after())
                sizes[count].append(settled_mb(emit, count, turn, progress))
                peaks.append(emit.peak_mb())
                emit.stop()
            told = ", ".join(f"{sizes[count][-1]:.1f} MB with {count:,}" for count in engines)
            progress.note(f"start {turn + 1} of {STARTS}: {told}")
    few, many = (statistics.median(sizes[count]) for count in (FEW, MANY))
    figures = [
        Figure(NAME, f"resident with {FEW:,} pending", few, "MB"),
        Figure(NAME, f"resident with {MANY:,} pending", many, "MB", MOST_MB),
        Figure(NAME, "more than with fewer", (many / few - 1) * 100, "%", MOST_GROWTH),
        Figure(NAME, "peak", max(peaks), "MB", MOST_MB),
        Figure(NAME, f"start with {FEW:,} pending", max(starts[FEW]), "s"),
        Figure(NAME, f"start with {MANY:,} pending", max(starts[MANY]), "s", MOST_START_S),
    ]
    note = NOTE.format(
        starts=STARTS, posted=POSTED, connections=CONNECTIONS, sampled=SAMPLED_S, settle=SETTLE_S
    )
    return figures, note


def settled_mb(emit, count, turn, progress):
    """Its resident size after it has worked for a while."""
    wait_for("the endpoint is down", 30, lambda: emit.metric("opshook_endpoint_down") == 1)
    with Portal(emit.address, CONNECTIONS) as portal:
        portal.post(POSTED)
    samples, begun = [], time.monotonic()
    while time.monotonic() < begun + SETTLE_S + SAMPLED_S:
        time.sleep(0.5)
        size = emit.resident_mb()
        progress.step(f"start {turn + 1} of {STARTS} with {count:,} pending: {size:.1f} MB resident")
        if time.monotonic() > begun + SETTLE_S:
            samples.append(size)
    return statistics.median(samples)
