"""What is tried of a deployed stack: each step fails, or answers a line of what was seen."""

import base64
import hmac
import json
import re
import time
import uuid

from botocore.exceptions import ClientError

from aws.cloud import ask, new_secret, wait_for
from aws.template import Failed, of_type, transformed

ONBOARD = "/api/v1/webhooks/onboard"
# A stream's message goes within seconds; the schedule comes once a minute.
STREAM_S = 20
SCHEDULE_S = 80


class Drive:
    """A stack in a cloud, and how it is spoken to."""

    def __init__(self, cloud, stack, template):
        self.cloud, self.stack, self.template = cloud, stack, template
        self.secret, self.ops_token, self.emit_token = new_secret(), uuid.uuid4().hex, uuid.uuid4().hex
        self.parameters = {
            "WebhookSecretName": "opshook/webhook",
            "OpsApiTokenSecretName": "opshook/ops-token",
            "EmitApiTokenSecretName": "opshook/emit-token",
        }
        self.lambdas = cloud.client("lambda")
        self.expanded = transformed(json.loads(stack.body))

    def steps(self):
        """The steps, in order."""
        return [
            ("a parameter left out", self.left_out),
            ("deploy", self.deploy),
            ("deliver to the stack's own receive", self.deliver_here),
            ("routes of the HTTP APIs", self.routes),
            ("concurrency", self.concurrency),
            ("/ready of each function", self.ready),
            ("signed event to receive", self.signed),
            ("the same event again", self.duplicate),
            ("query-events: the ticket", self.ticket),
            ("emit-retry by HTTP, by the stream", self.by_stream),
            ("direct invocation, bare event", self.direct),
            ("direct invocation, asynchronous", self.direct_later),
            ("asynchronous, an event that is none", self.not_accepted),
            ("emit-retry by HTTP, by the schedule", self.by_schedule),
            ("emit-retry: lists and a replay", self.replay),
            ("the sweep's metrics and the alarms", self.metrics),
            ("delete the stack", self.delete),
        ]

    def left_out(self):
        try:
            self.stack.send("create", {name: value for name, value in self.parameters.items() if name != "WebhookSecretName"})
        except ClientError as error:
            text = error.response["Error"]["Message"]
            if "WebhookSecretName" in text and not self.cloud.client("dynamodb").list_tables()["TableNames"]:
                return f"refused, and nothing was made: {text}"
            raise
        raise Failed("it was deployed without WebhookSecretName")

    def deploy(self):
        secrets = self.cloud.client("secretsmanager")
        values = (self.secret, self.ops_token, self.emit_token)
        for name, value in zip(self.parameters.values(), values):
            secrets.create_secret(Name=name, SecretString=value)
        self.stack.send("create", self.parameters)
        self.ids = self.stack.ids()
        url = f"{self.cloud.url}/_aws/execute-api"
        self.receive, self.query, self.emit = (f"{url}/{self.ids[name]}/$default" for name in ("ReceiveApi", "QueryApi", "EmitApi"))
        return f"{len(self.ids)} resources; secrets from Secrets Manager"

    def deliver_here(self):
        # ministack serves an API at an address of its own, and the template knows AWS's.
        self.parameters["OpsWebhookUrl"] = self.receive + ONBOARD
        self.stack.send("update", self.parameters)
        seen = self.lambdas.get_function_configuration(FunctionName=self.ids["DispatchFunction"])["Environment"]["Variables"]
        expect(seen["OPS_WEBHOOK_URL"], self.parameters["OpsWebhookUrl"], "OPS_WEBHOOK_URL after the update")
        return "OpsWebhookUrl by an update of the stack"

    def routes(self):
        gateway = self.cloud.client("apigatewayv2")
        for name, api in of_type(self.expanded, "AWS::ApiGatewayV2::Api").items():
            for path, methods in api["Body"]["paths"].items():
                integration = methods["x-amazon-apigateway-any-method"]["x-amazon-apigateway-integration"]
                function = re.search(r"\$\{(\w+)\.Arn\}", integration["uri"]["Fn::Sub"])[1]
                arn = self.lambdas.get_function_configuration(FunctionName=self.ids[function])["FunctionArn"]
                made = gateway.create_integration(
                    ApiId=self.ids[name], IntegrationType="AWS_PROXY", IntegrationUri=arn,
                    PayloadFormatVersion=integration["payloadFormatVersion"],
                )
                target = f"integrations/{made['IntegrationId']}"
                gateway.create_route(ApiId=self.ids[name], RouteKey=path.removeprefix("/"), Target=target)
        return "as the template's OpenAPI says: made by the API, for ministack's CloudFormation leaves them out"

    def concurrency(self):
        functions = of_type(self.expanded, "AWS::Lambda::Function")
        reserved = {}
        for name in ("ReceiveFunction", "QueryFunction", "AcceptFunction", "DispatchFunction"):
            parameter = functions[name]["ReservedConcurrentExecutions"]["Ref"]
            reserved[name] = self.template["Parameters"][parameter]["Default"]
            self.lambdas.put_function_concurrency(FunctionName=self.ids[name], ReservedConcurrentExecutions=reserved[name])
        told = ", ".join(f"{name.removesuffix('Function').lower()} {most}" for name, most in reserved.items())
        return f"{told}: set by the API, for ministack's CloudFormation leaves it out"

    def ready(self):
        for url in (self.receive, self.query, self.emit):
            status, body = ask("GET", f"{url}/ready")
            expect(status, 200, f"{url}/ready: {body}")
        return "200, 200, 200: each may look at its table"

    def signed(self):
        self.first = event("onb-signed", "ana@example.com")
        status, body = self.post_signed(self.first)
        expect((status, body.get("outcome")), (201, "ticket_created"), body)
        self.ticket_id = body["ticket_id"]
        return f"201 {body['outcome']} {body['ticket_id']}"

    def duplicate(self):
        status, body = self.post_signed(self.first)
        expect((status, body.get("outcome"), body.get("ticket_id")), (200, "duplicate", self.ticket_id), body)
        status, refused = self.post_signed(self.first, secret=new_secret())
        expect((status, refused.get("code")), (401, "signature_mismatch"), refused)
        return f"200 {body['outcome']} of the same ticket; with another secret 401"

    def ticket(self):
        status, body = ask("GET", f"{self.query}/api/v1/desk/tickets")
        expect(status, 401, body)
        items = self.ask_ops("GET", "/api/v1/desk/tickets?status=open")["items"]
        expect([item["ticket_id"] for item in items], [self.ticket_id], items)
        for filter_of in ("", "session_id=onb-signed", "domain=example.com"):
            found = self.ask_ops("GET", f"/api/v1/webhooks/events?{filter_of}")["items"]
            expect(len(found), 2, f"event records by {filter_of!r}: {found}")
        self.ask_ops("GET", f"/api/v1/webhooks/events/{items[0]['event_id']}")
        closed = self.ask_ops("PATCH", f"/api/v1/desk/tickets/{self.ticket_id}", {"status": "closed"})
        expect(closed["status"], "closed", closed)
        return f'1 ticket, "{items[0]["subject"]}", 2 event records; closed'

    def by_stream(self):
        # Without the schedule, so that it can only be the stream.
        self.switch_schedule(False)
        time.sleep(1)
        webhook_id = self.accept("onb-stream")
        took = self.delivered(webhook_id, STREAM_S)
        return f"202 {webhook_id}, delivered by the stream in {took:.1f} s"

    def direct(self):
        answer = self.invoke("RequestResponse", event("onb-direct", "ana@example.com"))
        body = json.load(answer["Payload"])
        if "FunctionError" in answer or body.get("state") != "pending":
            raise Failed(f"the invocation answered {body}")
        took = self.delivered(body["webhook_id"], STREAM_S)
        refused = self.invoke("RequestResponse", {"session_id": "onb-direct"})
        text = json.load(refused["Payload"])
        expect(refused.get("FunctionError") is not None and text["errorType"], "invalid_event", text)
        return f"{json.dumps(body)}, delivered in {took:.1f} s; one without `event` fails as {text['errorType']}"

    def direct_later(self):
        answer = self.invoke("Event", event("onb-later", "ana@example.com"))
        expect(answer["StatusCode"], 202, answer)

        def kept():
            return self.ask_emit("GET", "/api/v1/outbox?session_id=onb-later")["items"]

        [message] = wait_for("the event is in the outbox", STREAM_S, kept)
        self.delivered(message["webhook_id"], STREAM_S)
        return f"202, and then {message['webhook_id']}, delivered"

    def not_accepted(self):
        self.invoke("Event", {"session_id": "onb-none"})
        sqs = self.cloud.client("sqs")
        queue = self.ids["NotAccepted"]

        def kept():
            return sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages")

        message = json.loads(wait_for("what was not accepted is in the queue", 40, kept)[0]["Body"])
        expect(message["requestPayload"], {"session_id": "onb-none"}, message)
        tries = message["requestContext"]["approximateInvokeCount"]
        return f"in the queue NotAccepted after {tries} tries, with its payload"

    def by_schedule(self):
        # Without the stream, so that it can only be the schedule.
        self.switch_stream(False)
        time.sleep(2)
        webhook_id = self.accept("onb-schedule")
        self.switch_schedule(True)
        took = self.delivered(webhook_id, SCHEDULE_S)
        self.switch_stream(True)
        self.scheduled = webhook_id
        return f"202 {webhook_id}, delivered by a sweep in {took:.1f} s"

    def replay(self):
        by_state = self.ask_emit("GET", "/api/v1/outbox?state=delivered")["items"]
        expect(len(by_state), 4, by_state)
        replayed = self.ask_emit("POST", f"/api/v1/outbox/{self.scheduled}/replay", expected=202)
        expect(replayed["state"], "pending", replayed)
        told = self.ask_emit("GET", "/api/v1/activity")["items"]
        expect(told[0]["code"], "message_replayed", told)
        self.delivered(self.scheduled, SCHEDULE_S)
        records = self.ask_ops("GET", "/api/v1/webhooks/events?session_id=onb-schedule&order=asc")["items"]
        expect([record["outcome"] for record in records], ["ticket_created", "duplicate"], records)
        return "replayed, delivered again: a duplicate, and no second ticket"

    def metrics(self):
        logs = self.cloud.client("logs")
        group = self.ids["DispatchLogs"]

        def told():
            found = logs.filter_log_events(logGroupName=group)["events"]
            return [line for entry in found for line in entry["message"].splitlines() if "CloudWatchMetrics" in line]

        line = json.loads(wait_for("a sweep's line of metrics is in its log group", SCHEDULE_S, told)[-1])
        expect(line["FunctionName"], self.ids["DispatchFunction"], line)
        told_of = line["_aws"]["CloudWatchMetrics"][0]
        alarms = of_type(self.expanded, "AWS::CloudWatch::Alarm")
        ours = {alarm["MetricName"] for alarm in alarms.values() if alarm["Namespace"] == told_of["Namespace"]}
        names = {metric["Name"] for metric in told_of["Metrics"]}
        if not ours or not ours <= names:
            raise Failed(f"the alarms are about {sorted(ours)}, and told are {sorted(names)}")
        deployed = self.cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]
        expect(len(deployed), len(alarms), "alarms that are deployed")
        return f"{ {name: line[name] for name in sorted(names)} }; {len(deployed)} alarms"

    def delete(self):
        self.stack.delete()
        left = sorted(self.cloud.client("dynamodb").list_tables()["TableNames"])
        expect(left, ["opshook_outbox", "opshook_webhook_events"], "tables that are kept")
        return "gone; the tables are kept"

    # ---- How it is spoken to.

    def post_signed(self, body, secret=None):
        """Posts to receive as a sender of Standard Webhooks does."""
        text, stamp, message_id = json.dumps(body), str(int(time.time())), f"msg_{uuid.uuid4().hex}"
        key = base64.b64decode((secret or self.secret).removeprefix("whsec_"))
        signature = hmac.digest(key, f"{message_id}.{stamp}.{text}".encode(), "sha256")
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": stamp,
            "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
        }
        return ask("POST", self.receive + ONBOARD, text.encode(), headers)

    def accept(self, session):
        status, body = self.ask_as(self.emit, self.emit_token, "POST", "/api/v1/events", event(session, "ana@example.com"))
        expect((status, body.get("state")), (202, "pending"), body)
        return body["webhook_id"]

    def delivered(self, webhook_id, seconds):
        """How long it takes until it is."""
        began = time.monotonic()
        wait_for(
            f"{webhook_id} is delivered", seconds,
            lambda: self.ask_emit("GET", f"/api/v1/outbox/{webhook_id}")["state"] == "delivered",
        )
        return time.monotonic() - began

    def invoke(self, kind, payload):
        return self.lambdas.invoke(FunctionName=self.ids["AcceptFunction"], InvocationType=kind, Payload=json.dumps(payload))

    def ask_ops(self, method, path, body=None):
        status, answer = self.ask_as(self.query, self.ops_token, method, path, body)
        expect(status, 200, f"{method} {path}: {answer}")
        return answer

    def ask_emit(self, method, path, expected=200):
        status, answer = self.ask_as(self.emit, self.emit_token, method, path)
        expect(status, expected, f"{method} {path}: {answer}")
        return answer

    def ask_as(self, url, token, method, path, body=None):
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        return ask(method, url + path, None if body is None else json.dumps(body).encode(), headers)

    def switch_schedule(self, on):
        events = self.cloud.client("events")
        rule = self.ids["DispatchFunctionSweep"]
        (events.enable_rule if on else events.disable_rule)(Name=rule)
        wanted = "ENABLED" if on else "DISABLED"
        wait_for(f"the schedule is {wanted}", 10, lambda: events.describe_rule(Name=rule)["State"] == wanted)

    def switch_stream(self, on):
        mapping = self.ids["DispatchFunctionAccepted"]
        self.lambdas.update_event_source_mapping(UUID=mapping, Enabled=on)
        wanted = "Enabled" if on else "Disabled"
        wait_for(f"the stream is {wanted}", 10, lambda: self.lambdas.get_event_source_mapping(UUID=mapping)["State"] == wanted)


def event(session, email):
    return {"event": "account.created", "session_id": session, "domain": "example.com", "data": {"email": email}}


def expect(seen, wanted, about):
    if seen != wanted:
        raise Failed(f"{seen!r} instead of {wanted!r}: {about}")
