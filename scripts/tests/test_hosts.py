"""The two hosts' scripts on real processes: deploy-vm --root, rotate-secret, the verify scripts, dynamodb-local, the units."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent.parent.parent
SCRIPTS = HERE / "scripts"
BINARIES = Path(os.environ.get("OPSHOOK_BINARIES", HERE / "target/debug"))
TOKEN = "8f1c2b7d4e6a9053bd71c2e4f6a8901b"


def run(*command, **options) -> subprocess.CompletedProcess:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=180, **options)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Host:
    """A folder that stands for a host, with settings that are right."""

    def __init__(self, root: Path, role: str, secret: str, receive: int = 0):
        self.root, self.role = root, role
        self.ports = {name: free_port() for name in ("receive", "query-events", "emit-retry", "dynamodb")}
        receive = receive or self.ports["receive"]
        self.ports["receive"] = receive
        common = (HERE / "local/env/common.env.example").read_text().replace(":8000", f":{self.ports['dynamodb']}")
        self.write("common", common)
        self.write("dynamodb", f"ENGINE=embedded\nPORT={self.ports['dynamodb']}\n")
        if role == "ops":
            self.write("receive", f"LISTEN_ADDR=127.0.0.1:{receive}\nWEBHOOK_SECRET={secret}\n")
            self.write("query-events", f"LISTEN_ADDR=127.0.0.1:{self.ports['query-events']}\nOPS_API_TOKEN={TOKEN}\n")
        else:
            url = f"http://127.0.0.1:{receive}/api/v1/webhooks/onboard"
            address = f"127.0.0.1:{self.ports['emit-retry']}"
            self.write("emit-retry", f"LISTEN_ADDR={address}\nOPS_WEBHOOK_URL={url}\nOPS_WEBHOOK_SECRET={secret}\n")

    def env(self, name: str) -> Path:
        return self.root / f"etc/opshook/{name}.env"

    def write(self, name: str, text: str) -> None:
        self.env(name).parent.mkdir(parents=True, exist_ok=True)
        self.env(name).write_text(text)
        self.env(name).chmod(0o600)

    def deploy(self, binaries: Path = BINARIES, **options) -> subprocess.CompletedProcess:
        return run(SCRIPTS / "deploy-vm", self.role, "--root", self.root, "--binaries", binaries, **options)

    def units(self, *arguments) -> subprocess.CompletedProcess:
        return run(sys.executable, self.root / "opt/opshook/current/units.py", "--root", self.root, *arguments)

    def current(self) -> str:
        return os.readlink(self.root / "opt/opshook/current")

    def releases(self) -> list[str]:
        return sorted(path.name for path in (self.root / "opt/opshook/releases").glob("*"))

    def health(self, name: str) -> dict:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}/health", timeout=5) as answer:
            return json.load(answer)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"


@pytest.fixture
def secret() -> str:
    return run(BINARIES / "opshook", "secret", "new").stdout.strip()


@pytest.fixture
def host(tmp_path, secret):
    """Makes hosts; they end with the test."""
    made = []

    def make(role: str, **more) -> Host:
        made.append(Host(tmp_path / role, role, secret, **more))
        return made[-1]

    yield make
    for host in made:
        if (host.root / "run/units.sock").exists():
            host.units("end")


def refused(done: subprocess.CompletedProcess, host: Host, *parts: str) -> None:
    """Status 2, what is wrong is told, and nothing was changed."""
    assert done.returncode == 2, done.stderr
    for part in parts:
        assert part in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not (host.root / "opt/opshook/current").exists()
    assert not (host.root / "etc/systemd").exists()
    assert not (host.root / "opt/opshook/releases").exists() or host.releases() == []


def test_a_host_is_installed_verified_upgraded_and_keeps_serving(host):
    ops = host("ops")
    done = ops.deploy()
    assert done.returncode == 0, done.stderr
    assert ops.health("receive")["function"] == "receive"
    portal = host("portal", receive=ops.ports["receive"])
    assert portal.deploy().returncode == 0

    verify = [SCRIPTS / "verify-webhook.sh", "--receive", ops.url("receive"), "--query", ops.url("query-events"), "--emit", portal.url("emit-retry")]
    verify += ["--env", ops.env("receive"), "--env", ops.env("query-events"), "--json"]
    told = run(*verify)
    checks = json.loads(told.stdout)["checks"]
    assert told.returncode == 0, told.stdout
    assert {"T001", "T009", "T017", "T020", "T027", "refusals"} <= {check["task"] for check in checks if check["result"] == "ok"}
    logs = [part for log in (ops.root / "var/log").glob("opshook@*.log") for part in ("--logs", log)]
    secure = [SCRIPTS / "verify-security.sh", "--receive", ops.url("receive"), "--query", ops.url("query-events"), "--etc", ops.root / "etc/opshook"]
    told = run(*secure, *logs)
    assert told.returncode == 0, told.stdout
    assert TOKEN not in told.stdout + told.stderr

    before = ops.current()
    time.sleep(1.1)  # a release is named by its second
    assert ops.deploy().returncode == 0
    assert ops.current() != before
    assert ops.health("receive")["function"] == "receive"


def test_a_release_that_does_not_get_ready_is_taken_back(host, tmp_path):
    ops = host("ops")
    assert ops.deploy().returncode == 0
    before = ops.current()
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("opshook", "receive"):
        shutil.copy(BINARIES / name, broken / name)
    # It reads its settings, and never listens.
    (broken / "query-events").write_text("#!/bin/sh\nexec sleep 600\n")
    (broken / "query-events").chmod(0o755)
    time.sleep(1.1)
    done = ops.deploy(broken, env={**os.environ, "OPSHOOK_READY_SECONDS": "3"})
    assert done.returncode == 1, done.stderr
    assert "query-events is not ready" in done.stderr and "runs again" in done.stderr
    assert ops.current() == before
    assert ops.health("query-events")["function"] == "query-events"


def test_missing_settings_are_all_told_before_anything_is_changed(host):
    ops = host("ops")
    ops.env("receive").unlink()
    ops.env("common").unlink()
    refused(ops.deploy(), ops, "receive.env is missing: copy local/env/receive.env.example", "common.env is missing")


def test_settings_that_others_can_read_are_refused(host):
    ops = host("ops")
    ops.env("receive").chmod(0o644)
    refused(ops.deploy(), ops, "can be read by others: chmod 600")


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("receive", "WEBHOOK_SECRET=", "WEBHOOK_SECRET=x", "WEBHOOK_SECRET"),
        ("query-events", TOKEN, "short", "OPS_API_TOKEN"),
        ("receive", "LISTEN_ADDR=", "LISTEN=", "LISTEN_ADDR must be IP:PORT"),
        ("common", "AWS_REGION=local", "AWS_REGION=", "AWS_REGION"),
        ("dynamodb", "ENGINE=embedded", "ENGINE=sqlite", "ENGINE must be dynamodb-local or embedded"),
        ("receive", "LISTEN_ADDR", "no setting\nLISTEN_ADDR", "expected NAME=VALUE"),
    ],
)
def test_a_wrong_setting_is_told_by_the_function_that_has_it(host, name, old, new, told):
    ops = host("ops")
    ops.write(name, ops.env(name).read_text().replace(old, new, 1))
    done = ops.deploy()
    refused(done, ops, told)
    assert "Traceback" not in done.stderr and TOKEN not in done.stderr


def test_a_taken_port_is_refused(host):
    ops = host("ops")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ops.ports["receive"]))
        taken.listen()
        refused(ops.deploy(), ops, f":{ops.ports['receive']} of receive is taken")


def test_without_java_dynamodb_local_is_refused(host, tmp_path):
    ops = host("ops")
    ops.write("dynamodb", "ENGINE=dynamodb-local\n")
    empty = tmp_path / "bin"
    empty.mkdir()
    for name in ("sh", "env", "python3", "bash", "sed", "head", "grep", "dirname"):
        (empty / name).symlink_to(shutil.which(name))
    without_java = {**os.environ, "PATH": str(empty)}
    done = run(sys.executable, SCRIPTS / "deploy-vm", "ops", "--root", ops.root, "--binaries", BINARIES, env=without_java)
    refused(done, ops, "needs Java 17", "set ENGINE=embedded")
    done = run(SCRIPTS / "dynamodb-local", "start", env=without_java)
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs Java 17" in done.stderr and "opshook engine" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root reads everything, and there is no setpriv")
def test_an_unreadable_data_directory_is_refused(host):
    ops = host("ops")
    data = ops.root / "var/lib/opshook-dynamodb"
    data.mkdir(parents=True)
    data.chmod(0)
    command = [sys.executable, SCRIPTS / "deploy-vm", "ops", "--root", ops.root, "--binaries", BINARIES]
    if os.geteuid() == 0:
        # Without its capabilities root is held to modes like anyone else.
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    done = run(*command)
    data.chmod(0o700)
    refused(done, ops, "can't be read and written")


def test_missing_binaries_are_told_with_how_to_build_them(host, tmp_path):
    ops = host("ops")
    (tmp_path / "none").mkdir()
    done = ops.deploy(tmp_path / "none")
    refused(done, ops, "there is no binary of receive", "scripts/lambda build")


def post(url: str, number: int) -> int:
    body = json.dumps({"event": "account.created", "session_id": f"rotate-{number}", "domain": f"r{number}.example"}).encode()
    request = urllib.request.Request(url + "/api/v1/events", data=body, headers={"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.status


def test_a_secret_is_rotated_under_load_and_the_old_one_is_refused(host, secret):
    ops = host("ops")
    portal = host("portal", receive=ops.ports["receive"])
    assert ops.deploy().returncode == 0
    assert portal.deploy().returncode == 0
    rotate = [SCRIPTS / "rotate-secret", "--ops-root", ops.root, "--portal-root", portal.root, "--receive", ops.url("receive")]
    rotation = subprocess.Popen([str(part) for part in rotate], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    number = 0
    while rotation.poll() is None:
        assert post(portal.url("emit-retry"), number) == 202
        number += 1
        time.sleep(0.02)
    out, err = rotation.communicate()
    assert rotation.returncode == 0, err
    assert "the new secret is accepted, and the old one is refused" in out
    assert "whsec_" not in out + err and secret not in ops.env("receive").read_text()
    assert (ops.env("receive").stat().st_mode & 0o777) == 0o600
    end = time.monotonic() + 30
    while True:
        with urllib.request.urlopen(portal.url("emit-retry") + "/api/v1/outbox?limit=500", timeout=10) as answer:
            items = json.load(answer)["items"]
        if all(item["state"] == "delivered" for item in items):
            break
        assert time.monotonic() < end, items
        time.sleep(0.2)
    assert len(items) == min(number, 500)
    assert {item["last_attempt"]["status"] for item in items} <= {200, 201}
    with urllib.request.urlopen(portal.url("emit-retry") + "/api/v1/activity?level=warn", timeout=10) as answer:
        assert json.load(answer)["items"] == [], "no delivery was refused"


def test_a_rotation_that_was_broken_off_goes_on(host, secret):
    ops = host("ops")
    portal = host("portal", receive=ops.ports["receive"])
    assert ops.deploy().returncode == 0
    assert portal.deploy().returncode == 0
    new = run(BINARIES / "opshook", "secret", "new").stdout.strip()
    # As it is after the first step.
    settings = ops.root / "opt/opshook/current/settings.py"
    done = run(sys.executable, settings, "--root", ops.root, "set", "receive", "WEBHOOK_SECRET", input=f"{new} {secret}")
    assert done.returncode == 0, done.stderr
    rotate = [SCRIPTS / "rotate-secret", "--ops-root", ops.root, "--portal-root", portal.root, "--receive", ops.url("receive")]
    done = run(*rotate)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("goes on")
    assert ops.env("receive").read_text().count(new) == portal.env("emit-retry").read_text().count(new) == 1
    assert secret not in ops.env("receive").read_text() + portal.env("emit-retry").read_text()


def test_a_setting_that_the_function_refuses_is_put_back(host):
    ops = host("ops")
    assert ops.deploy().returncode == 0
    before = ops.env("receive").read_text()
    settings = ops.root / "opt/opshook/current/settings.py"
    changed = {**os.environ, "OPSHOOK_READY_SECONDS": "3"}
    done = run(sys.executable, settings, "--root", ops.root, "set", "receive", "WEBHOOK_SECRET", input="whsec_wrong", env=changed)
    assert done.returncode == 1 and "the old value is in force again" in done.stderr, done.stderr
    assert ops.env("receive").read_text() == before
    assert ops.health("receive")["function"] == "receive"


def test_what_is_insecure_is_found(host):
    ops = host("ops")
    development = "whsec_b3BzaG9vay1kZXZlbG9wbWVudC1zZWNyZXQtb25seSE="
    ops.write("receive", f"LISTEN_ADDR=127.0.0.1:{ops.ports['receive']}\nWEBHOOK_SECRET={development}\n")
    ops.write("query-events", f"LISTEN_ADDR=127.0.0.1:{ops.ports['query-events']}\nOPS_API_TOKEN=changeme-changeme-changeme\n")
    assert ops.deploy().returncode == 0
    ops.env("receive").chmod(0o644)
    log = ops.root / "leak.log"
    log.write_text(f"secret is {development} of ana@example.com\n")
    told = run(SCRIPTS / "verify-security.sh", "--receive", ops.url("receive"), "--query", ops.url("query-events"), "--etc", ops.root / "etc/opshook", "--logs", log)
    failed = [line for line in told.stdout.splitlines() if line.startswith("FAIL")]
    assert told.returncode == 1
    for part in ("receive.env is readable", "not the development secret", "is long and not a default", "the development secret is refused", "no secret or token is in the logs", "no email address"):
        assert any(part in line for line in failed), (part, told.stdout)


def test_verify_finds_what_does_not_answer():
    told = run(SCRIPTS / "verify-webhook.sh", "--receive", f"http://127.0.0.1:{free_port()}", "--query", "none", env={**os.environ, "WEBHOOK_SECRET": "whsec_b3BzaG9vay1kZXZlbG9wbWVudC1zZWNyZXQtb25seSE="})
    assert told.returncode == 1 and "FAIL  T001" in told.stdout


@pytest.mark.parametrize("script", ["deploy-vm", "rotate-secret", "verify-webhook.sh", "verify-security.sh", "dynamodb-local", "two-hosts"])
def test_every_script_teaches_and_refuses_what_it_does_not_know(script):
    told = run(SCRIPTS / script, "--help")
    assert told.returncode == 0 and "usage:" in told.stdout and "Exit status" in told.stdout, told
    wrong = run(SCRIPTS / script, "--nonsense")
    assert wrong.returncode == 2 and wrong.stdout == "" and "--help" in wrong.stderr and "Traceback" not in wrong.stderr, wrong


def test_dynamodb_local_starts_answers_and_stops(tmp_path):
    port, data = free_port(), tmp_path / "data"
    options = ["--port", port, "--data-dir", data]
    assert run(SCRIPTS / "dynamodb-local", "status", "--port", port).returncode == 1
    started = run(SCRIPTS / "dynamodb-local", "start", *options)
    assert started.returncode == 0, started.stderr
    try:
        assert run(SCRIPTS / "dynamodb-local", "status", *options).returncode == 0
        assert "runs already" in run(SCRIPTS / "dynamodb-local", "start", *options).stdout
        other = run(SCRIPTS / "dynamodb-local", "start", "--port", port, "--data-dir", tmp_path / "other")
        assert other.returncode == 1 and "is taken" in other.stderr
        # A web page is not answered as one of its own.
        origin = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"origin": "http://evil.example"})
        try:
            allowed = urllib.request.urlopen(origin, timeout=5).headers.get("access-control-allow-origin")
        except urllib.error.HTTPError as error:
            allowed = error.headers.get("access-control-allow-origin")
        assert allowed not in ("*", "http://evil.example")
    finally:
        assert run(SCRIPTS / "dynamodb-local", "stop", *options).returncode == 0
    assert run(SCRIPTS / "dynamodb-local", "status", *options).returncode == 1


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze here")
def test_the_units_are_well_formed_and_hardened(tmp_path):
    root = tmp_path / "root"
    folder = root / "etc/systemd/system"
    folder.mkdir(parents=True)
    names = ["opshook-dynamodb.service"]
    for path in (HERE / "local/systemd").glob("opshook*.s*"):
        shutil.copy(path, folder)
    for name in ("receive", "query-events", "emit-retry"):
        shutil.copy(HERE / "local/systemd/opshook@.service", folder / f"opshook@{name}.service")
        names.append(f"opshook@{name}.service")
    for name in names:
        told = run("systemd-analyze", "security", "--offline=true", folder / name)
        exposure = float(told.stdout.strip().splitlines()[-1].split(":")[1].split()[0])
        assert exposure <= 2.0, (name, exposure)
    verified = run("systemd-analyze", "verify", "--man=no", *[folder / name for name in names], *folder.glob("*.socket"))
    # The programs are not installed here; nothing else may be said of our units.
    said = [line for line in verified.stderr.splitlines() if "opshook" in line and "is not executable" not in line]
    assert said == [], said
