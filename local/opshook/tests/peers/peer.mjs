// Signs and verifies with the official Standard Webhooks library for JavaScript: `node peer.mjs FOLDER`, where FOLDER
// has the library in its node_modules. The tasks and results are those of peer.py.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.argv[2], "package.json"));
const { Webhook, WebhookVerificationError } = require("standardwebhooks");

function sign(task) {
  const at = new Date(task.timestamp * 1000);
  const parts = task.secrets.map((secret) => new Webhook(secret).sign(task.id, at, task.body));
  return { signature: parts.join(" ") };
}

function verify(task) {
  try {
    new Webhook(task.secret).verify(task.body, task.headers);
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error;
    return { ok: false, error: error.message };
  }
  return { ok: true, error: null };
}

const tasks = JSON.parse(readFileSync(0, "utf8"));
const results = tasks.map((task) => ({ sign, verify })[task.do](task));
process.stdout.write(JSON.stringify(results));
