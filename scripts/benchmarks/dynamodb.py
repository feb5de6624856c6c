"""Speaks DynamoDB's protocol to an embedded engine: fills an outbox, and reads what became of it."""

import hashlib
import http.client
import json
import secrets
import time
from datetime import datetime, timezone
from urllib.parse import urlsplit

from benchmarks.system import Failed

OUTBOX = "opshook_outbox"
EVENTS = "opshook_webhook_events"
SHARDS = range(4)
MOST_IN_A_BATCH = 25


class Engine:
    """One connection to an engine."""

    def __init__(self, url):
        self.connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)

    def call(self, operation, request):
        headers = {"x-amz-target": f"DynamoDB_20120810.{operation}", "content-type": "application/x-amz-json-1.0"}
        self.connection.request("POST", "/", json.dumps(request), headers)
        answer = self.connection.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise Failed(f"{operation} answered {answer.status}: {text}")
        return json.loads(text)

    def rows(self, table):
        """Every row of a table, as plain values."""
        start, rows = {}, []
        while True:
            page = self.call("Scan", {"TableName": table, **start})
            rows.extend({name: plain(value) for name, value in row.items()} for row in page["Items"])
            if "LastEvaluatedKey" not in page:
                return rows
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def messages(self):
        """Every message of the outbox."""
        return [row for row in self.rows(OUTBOX) if row["pk"].startswith("msg_")]

    def is_anything_pending(self):
        """Whether the index of what is due holds anything that waits or is leased."""
        return any(self.has_due(f"{name}#{shard}") for name in ("first", "retry", "leased") for shard in SHARDS)

    def has_due(self, key):
        query = {
            "TableName": OUTBOX,
            "IndexName": "due_key",
            "KeyConditionExpression": "due_key = :key",
            "ExpressionAttributeValues": {":key": {"S": key}},
            "Limit": 1,
        }
        return bool(self.call("Query", query)["Items"])

    def fill(self, count, progress):
        """Puts `count` messages into the outbox that were accepted 10 ms after each other until now and never tried, as
        `store::outbox::accept` writes them; straight by BatchWriteItem, for posting them would take minutes. Their ids,
        oldest first."""
        begin = time.time_ns() // 1_000_000 - 10 * count
        rows = [message(begin + 10 * number, number) for number in range(count)]
        for first in range(0, count, MOST_IN_A_BATCH):
            batch = rows[first : first + MOST_IN_A_BATCH]
            puts = [{"PutRequest": {"Item": row}} for row in batch]
            left = self.call("BatchWriteItem", {"RequestItems": {OUTBOX: puts}}).get("UnprocessedItems")
            if left:
                raise Failed("the engine did not take all rows of a batch")
            progress(f"filling the outbox: {first + len(batch):,} of {count:,} messages")
        return [row["pk"]["S"] for row in rows]


def plain(value):
    (kind, inner), *_ = value.items()
    return int(inner) if kind == "N" else inner


def message(accepted_ms, number):
    """A row of the outbox: see shared/store/src/outbox/row.rs."""
    bits = (accepted_ms << 80) | (0x7 << 76) | (secrets.randbits(12) << 64) | (0b10 << 62) | secrets.randbits(62)
    digits = f"{bits:032x}"
    parts = [digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]]
    webhook_id = "msg_" + "-".join(parts)
    shard = ord(webhook_id[-1]) % len(SHARDS)
    body = event(number, iso(accepted_ms))
    session = f"onb-{number}"
    texts = {
        "pk": webhook_id,
        "state": "pending",
        "event": "account.created",
        "session_id": session,
        "domain": "example.com",
        "body": body,
        "request_sha256": hashlib.sha256(body.encode()).hexdigest(),
        "attempts": "[]",
        "due_key": f"first#{shard}",
        "state_key": f"pending#{shard}",
        "session_key": f"={session}",
        "accepted_key": f"{iso(accepted_ms)}#{webhook_id}",
    }
    numbers = {
        "version": 1,
        "accepted_at": accepted_ms,
        "next_attempt_at": accepted_ms,
        "attempts_total": 0,
        "step": 0,
        "replay": 0,
        "due_at": accepted_ms,
    }
    return {name: {"S": text} for name, text in texts.items()} | {name: {"N": str(n)} for name, n in numbers.items()}


def event(number, timestamp):
    """An event as the portal sends it."""
    return json.dumps(
        {
            "event": "account.created",
            "session_id": f"onb-{number}",
            "domain": "example.com",
            "timestamp": timestamp,
            "data": {
                "email": f"ana.{number}@example.com",
                "account_verified": True,
                "needs_review": False,
                "dns_mode": "cloudflare",
                "mail_aliases": ["postmaster", "abuse"],
            },
        },
        separators=(",", ":"),
    )


def iso(ms):
    """A time as the contract writes it."""
    return datetime.fromtimestamp(ms // 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03}Z"


def unix_ms(text):
    """The time that `iso` wrote."""
    seconds = datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    return int(seconds.timestamp()) * 1000 + int(text[20:23])
