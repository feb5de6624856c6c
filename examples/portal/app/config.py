"""What the portal is made of, by its environment: PORTAL_DATA_DIR (default .portal), and what ops_webhook.py reads."""

import os
from pathlib import Path

from .activity_log import ActivityLog
from .ops_webhook import OpsWebhook, Settings

activity_log = ActivityLog(Path(os.environ.get("PORTAL_DATA_DIR") or ".portal") / "activity.jsonl")
ops_webhook = OpsWebhook(Settings.from_environment(), activity_log.add)
