"""`POST /api/v1/events` takes as long as ever while ops is down, stalled or gone."""

import math
import statistics
from contextlib import contextmanager

from benchmarks import endpoint, load
from benchmarks.dynamodb import Engine
from benchmarks.endpoint import Blackhole, Endpoint
from benchmarks.load import Portal
from benchmarks.report import Figure
from benchmarks.system import ONBOARD, Emit, free_port, wait_for

NAME = "accept"
ABOUT = "posting events while ops is down, stalled or gone, against ops up"
CONNECTIONS = 16
# In each round; half of them at once when ops is away, the others when emit-retry knows.
REQUESTS = 1_000
MOST_RATIO = 2.0
STATES = ["down", "stalled", "gone", "unreachable"]
NOTE = (
    "{rounds} rounds of {requests:,} events for each state of ops over {connections} connections, each between two rounds "
    "with ops up: half of them right when ops goes away, half when emit-retry knows. Ops up is the real receive on an engine "
    "of its own, down refuses connections, stalled takes requests and never answers, gone answers 404, unreachable drops "
    "connections. A ratio is the p99 of a round over the mean of its two neighbours'; the median of the ratios counts."
)


def run(site, options, progress):
    """The figures, and how they were taken."""
    port = free_port()
    portal_engine, ops_engine = site.engine("portal"), site.engine("ops")
    outbox = Engine(portal_engine)
    emit = Emit(site, portal_engine, f"http://127.0.0.1:{port}{ONBOARD}")
    emit.ready_after()
    ratios = {state: [] for state in STATES}
    up, away = [], {state: [] for state in STATES}
    with Portal(emit.address, CONNECTIONS) as portal:
        # The first one opens connections and warms caches.
        up_round(site, ops_engine, port, portal, outbox)
        before = up_round(site, ops_engine, port, portal, outbox)
        for turn in range(options.rounds):
            for state in STATES:
                progress.step(f"round {turn + 1} of {options.rounds}: ops {state}")
                during = away_round(state, port, emit, portal)
                progress.step(f"round {turn + 1} of {options.rounds}: ops up again")
                after = up_round(site, ops_engine, port, portal, outbox)
                ratios[state].append(during / statistics.mean([before, after]))
                up.append(after)
                away[state].append(during)
                before = after
            told = ", ".join(f"{state} {ratios[state][-1]:.2f}" for state in STATES)
            progress.note(f"round {turn + 1} of {options.rounds}: p99 over that of ops up: {told}")
    figures = [Figure(NAME, "p99, ops up", statistics.median(up) * 1000, "ms")]
    for state in STATES:
        figures.append(Figure(NAME, f"p99, ops {state}", statistics.median(away[state]) * 1000, "ms"))
    for state in STATES:
        figures.append(Figure(NAME, f"ratio, ops {state}", statistics.median(ratios[state]), "×", MOST_RATIO))
    return figures, NOTE.format(rounds=options.rounds, requests=REQUESTS, connections=CONNECTIONS)


def up_round(site, engine, port, portal, outbox):
    """The p99 with ops up, once nothing is left of what came before."""
    receive = site.receive(engine, port)
    wait_for("the backlog is delivered", 120, lambda: not outbox.is_anything_pending(), pause=0.1)
    took = portal.post(REQUESTS)
    receive.kill()
    return load.percentile(took, 0.99)


def away_round(state, port, emit, portal):
    """The p99 while ops is away."""
    with away(state, port):
        took = portal.post(REQUESTS // 2)
        wait_for("emit-retry knows that ops is away", 20, lambda: emit.metric("opshook_endpoint_down") == 1)
        took += portal.post(math.ceil(REQUESTS / 2))
    return load.percentile(took, 0.99)


@contextmanager
def away(state, port):
    """Ops in a state in which it takes nothing."""
    if state == "down":
        yield
        return
    if state == "unreachable":
        other = Blackhole(port)
    else:
        other = Endpoint({"stalled": lambda _: endpoint.STALL, "gone": lambda _: endpoint.NOT_FOUND}[state], port)
    with other:
        yield
