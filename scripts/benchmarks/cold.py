"""A Lambda's cold start: from the exec of receive's binary to its first answer."""

import base64
import hmac
import json
import queue
import statistics
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from benchmarks.report import Figure
from benchmarks.system import ONBOARD, Failed, Process

NAME = "cold"
ABOUT = "receive as a Lambda, from exec to its first answer, 30 times"
STARTS = 30
MOST_MS = 15
# The development secret is refused on Lambda.
KEY = b"bench-bench-bench-bench-bench-32"
BODY = '{"session_id":"onb-cold"}'
PREFIX = "/2018-06-01/runtime/invocation/"
NOTE = (
    "each of {starts} starts is a new process with an empty environment but for what Lambda sets and its settings, as for "
    "Amazon DynamoDB: its CA roots are loaded. A fake of the Runtime API hands it one event of an HTTP API, a webhook whose "
    "signature holds and whose body is no event: all of receive but the write. The time is from before the fork until its "
    "answer, a 422, is there. On Lambda, loading the code and starting the sandbox come before that."
)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A process that is killed leaves its connection broken."""


class Runtime:
    """A fake of the Lambda Runtime API that has one event to hand out. Used in a `with`."""

    def __enter__(self):
        runtime = self
        self.answers = queue.Queue()
        self.handed_out = False

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def do_GET(self):
                # There is no second event: as on Lambda, whoever asks waits.
                if runtime.handed_out:
                    runtime.over.wait()
                runtime.handed_out = True
                self.reply(200, event(), [
                    ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd"),
                    ("lambda-runtime-deadline-ms", str(int(time.time() * 1000) + 10_000)),
                    ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:123456789012:function:receive"),
                ])

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                runtime.answers.put((time.monotonic(), self.path, body))
                self.reply(202, b"{}", [])

            def reply(self, status, body, headers):
                self.send_response(status)
                for name, value in [("content-type", "application/json"), ("content-length", str(len(body))), *headers]:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.over = threading.Event()
        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind, error, trace):
        self.over.set()
        self.server.shutdown()
        self.server.socket.close()


def run(site, options, progress):
    """The figures, and how they were taken."""
    times = []
    for number in range(STARTS):
        times.append(start_once(site))
        progress.step(f"start {number + 1} of {STARTS}: {times[-1]:.1f} ms")
    progress.note(f"{STARTS} starts: {min(times):.1f} to {max(times):.1f} ms")
    figures = [
        Figure(NAME, "exec to the first answer, median", statistics.median(times), "ms", MOST_MS),
        Figure(NAME, "the slowest of them", max(times), "ms"),
    ]
    return figures, NOTE.format(starts=STARTS)


def start_once(site):
    """Milliseconds from the exec of receive to its first answer."""
    with Runtime() as runtime:
        settings = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{runtime.server.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": "receive",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "WEBHOOK_SECRET": f"whsec_{base64.b64encode(KEY).decode()}",
        }
        receive = Process(site, "receive", [], settings)
        try:
            at, path, body = runtime.answers.get(timeout=10)
        except queue.Empty as error:
            raise Failed(f"receive did not answer: {receive.log.read_text(errors='replace')[-2000:]}") from error
        finally:
            receive.kill()
    answer = json.loads(body)
    if not path.startswith(PREFIX) or answer.get("statusCode") != 422:
        raise Failed(f"receive answered {path}: {body[:500]}")
    return (at - receive.started) * 1000


def event():
    """A webhook as an HTTP API hands it on: its signature holds, and it lacks `event`."""
    stamp = str(int(time.time()))
    signature = base64.b64encode(hmac.digest(KEY, f"msg_cold.{stamp}.{BODY}".encode(), "sha256")).decode()
    return json.dumps({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": ONBOARD,
        "rawQueryString": "",
        "headers": {
            "host": "id.execute-api.eu-central-1.amazonaws.com",
            "content-type": "application/json",
            "webhook-id": "msg_cold",
            "webhook-timestamp": stamp,
            "webhook-signature": f"v1,{signature}",
        },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "id",
            "domainName": "id.execute-api.eu-central-1.amazonaws.com",
            "requestId": "JKJaXmPLvHcESHA=",
            "stage": "$default",
            "http": {"method": "POST", "path": ONBOARD, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "bench"},
        },
        "body": BODY,
        "isBase64Encoded": False,
    }).encode()
