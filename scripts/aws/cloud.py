"""A cloud of one's own on 127.0.0.1: ministack, which plays AWS with no container, and what deploys a template to it."""

import base64
import io
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from aws.template import REGION, Failed, code_folders, with_code

# No proxy: all traffic stays on this machine.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
BUCKET = "opshook-code"


def wait_for(what, seconds, done, pause=0.2):
    """What `done` answers, once it is something; fails after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        found = done()
        if found:
            return found
        if time.monotonic() > end:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(pause)


def ask(method, url, body=None, headers=()):
    """Status and JSON of an answer; none for a body that is not JSON."""
    request = urllib.request.Request(url, method=method, data=body, headers=dict(headers))
    try:
        with OPENER.open(request, timeout=30) as answer:
            return answer.status, parsed(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, parsed(error.read())
    except OSError as error:
        raise Failed(f"{method} {url}: {error}") from error


def parsed(text):
    try:
        return json.loads(text)
    except ValueError:
        return None


class Cloud:
    """ministack on a free port, with a folder of its own. All that it starts ends with the `with`."""

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="opshook-aws-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = self.folder / "ministack.log"
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "MINISTACK_HOST": "127.0.0.1",
            "MINISTACK_REGION": REGION,
            # Where the functions find it.
            "AWS_ENDPOINT_URL": self.url,
            # Every call of a function is allowed by its role, or refused.
            "AUTH": "true",
            # AWS waits a minute before it tries an asynchronous invocation again.
            "LAMBDA_ASYNC_RETRY_BASE_SECONDS": "0.2",
        }
        with open(self.log, "wb") as log:
            # In a session of its own, so that it ends with all that it started.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ministack"], env=environment, cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )
        try:
            wait_for("ministack answers", 60, self.is_up)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind, error, trace):
        for ending in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, ending)
            except ProcessLookupError:
                break
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                continue
        shutil.rmtree(self.folder, ignore_errors=True)

    def is_up(self):
        if self.process.poll() is not None:
            raise Failed(f"ministack ended: {self.last_words()}")
        try:
            return ask("GET", f"{self.url}/_ministack/health")[0] == 200
        except Failed:
            return False

    def last_words(self):
        return self.log.read_text(errors="replace")[-2000:]

    def client(self, service):
        config = Config(retries={"total_max_attempts": 1}, proxies={}, read_timeout=70)
        return boto3.client(
            service, endpoint_url=self.url, region_name=REGION, config=config,
            aws_access_key_id="test", aws_secret_access_key="test",
        )


class Stack:
    """A stack, deployed as `sam deploy` does it: code into a bucket, the template with it to CloudFormation."""

    def __init__(self, cloud, name, template, folders):
        self.cloud, self.name = cloud, name
        self.client = cloud.client("cloudformation")
        self.body = json.dumps(with_code(template, BUCKET, self.upload(template, folders)))

    def upload(self, template, folders):
        s3 = self.cloud.client("s3")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        uploaded = {}
        for folder in sorted(set(folders.values())):
            s3.put_object(Bucket=BUCKET, Key=f"{folder.name}.zip", Body=zipped(folder))
            uploaded[folder] = f"{folder.name}.zip"
        return {name: uploaded[folders[name]] for name in code_folders(template)}

    def send(self, operation, parameters):
        """Creates or updates it, and waits for the end; fails with CloudFormation's reasons."""
        send = self.client.create_stack if operation == "create" else self.client.update_stack
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
        capabilities = ["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"]
        send(StackName=self.name, TemplateBody=self.body, Parameters=given, Capabilities=capabilities)
        waiter = self.client.get_waiter(f"stack_{operation}_complete")
        try:
            waiter.wait(StackName=self.name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
        except WaiterError as error:
            raise Failed(f"the stack was not {operation}d: {'; '.join(self.reasons()) or error}") from error

    def reasons(self):
        events = self.client.describe_stack_events(StackName=self.name)["StackEvents"]
        failed = [event for event in events if event["ResourceStatus"].endswith("FAILED")]
        return [f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason')}" for event in reversed(failed)]

    def ids(self):
        """The physical ids of its resources."""
        resources = self.client.describe_stack_resources(StackName=self.name)["StackResources"]
        return {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in resources}

    def delete(self):
        self.client.delete_stack(StackName=self.name)
        self.client.get_waiter("stack_delete_complete").wait(StackName=self.name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


def zipped(folder):
    """A function's code as it is uploaded: its `bootstrap`, executable."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16
        archive.writestr(entry, (folder / "bootstrap").read_bytes())
    return packed.getvalue()


def new_secret():
    """As `opshook secret new` makes them."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


__all__ = ["BotoCoreError", "ClientError", "Cloud", "Stack", "ask", "new_secret", "wait_for"]
