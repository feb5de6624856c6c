"""Signs and verifies with the official Standard Webhooks library for Python.

Reads a JSON array of tasks from stdin and writes one of results to stdout, in the same order:
{"do": "sign", "secrets": [...], "id", "timestamp" (Unix seconds), "body"} -> {"signature"}
{"do": "verify", "secret", "headers": {...}, "body"} -> {"ok": bool, "error": the library's words or null}
"""

import json
import sys
from datetime import datetime, timezone

from standardwebhooks import Webhook, WebhookVerificationError


def sign(task):
    at = datetime.fromtimestamp(task["timestamp"], tz=timezone.utc)
    parts = [Webhook(secret).sign(task["id"], at, task["body"]) for secret in task["secrets"]]
    return {"signature": " ".join(parts)}


def verify(task):
    try:
        Webhook(task["secret"]).verify(task["body"], task["headers"])
    except WebhookVerificationError as error:
        return {"ok": False, "error": str(error)}
    return {"ok": True, "error": None}


tasks = json.loads(sys.stdin.buffer.read())
results = [{"sign": sign, "verify": verify}[task["do"]](task) for task in tasks]
json.dump(results, sys.stdout)
