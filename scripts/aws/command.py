"""The command line of `scripts/try-aws`."""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from aws.cloud import BotoCoreError, ClientError, Cloud, Stack
from aws.drive import Drive
from aws.template import ROOT, TEMPLATE, Failed, code_folders, read

ABOUT = """\
Deploys the built functions by template.yaml to ministack, a cloud of one's own on 127.0.0.1 that plays AWS with no
container, and drives them there: signed events, a duplicate, the ticket, delivery by the outbox's stream and by the
schedule, direct invocations, a replay, metrics. Each call of a function is allowed by its role, or refused. A line for
each step says what was answered. Takes some two minutes, for a sweep comes once a minute; nothing is left behind.
"""
TEACHES = """\
examples:
  scripts/lambda build && scripts/try-aws    the release binaries, as they would be deployed
  scripts/try-aws --binaries target/debug    what `cargo build --workspace` made

What ministack does otherwise than AWS: it serves an HTTP API under another address, so OpsWebhookUrl is given by an
update of the stack; its CloudFormation leaves reserved concurrency and the routes of an HTTP API's OpenAPI out, so
those are made by the API, from the template; it does not tell a stream's batch that failed in part from one that succeeded, so that is shown by a
test with a fake of the Runtime API instead (tests/system/lambda); and its alarms are made and are not fed by logs.
exit status: 0 every step was as it should be, 1 one was not: it says what was seen, 2 usage, or nothing is built
"""
# What provided.al2023 has.
GLIBC = (2, 34)


def main(arguments):
    """Tries what the arguments ask for. Answers the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/try-aws", description=ABOUT, epilog=TEACHES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--binaries", type=Path, metavar="FOLDER", help="take receive, query-events and emit-retry from there, and not from target/lambda"
    )
    parser.add_argument("--template", type=Path, default=TEMPLATE, metavar="FILE", help="deploy this file")
    options = parser.parse_args(arguments)
    # As Ctrl-C: what was started is ended.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    staged = Path(tempfile.mkdtemp(prefix="opshook-code-"))
    try:
        template = read(options.template)
        folders = gathered(template, options.binaries, staged)
    except Failed as failed:
        print(f"scripts/try-aws: {failed}", file=sys.stderr)
        shutil.rmtree(staged, ignore_errors=True)
        return 2
    try:
        return tried(template, folders)
    except (Failed, BotoCoreError, ClientError) as failed:
        print(f"scripts/try-aws: {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("scripts/try-aws: interrupted", file=sys.stderr)
        return 130
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def gathered(template, binaries, staged):
    """The folders with each function's `bootstrap`; fails where one is missing, before anything is changed."""
    folders = code_folders(template)
    if binaries is None:
        missing = sorted({str(folder / "bootstrap") for folder in folders.values() if not (folder / "bootstrap").is_file()})
        if missing:
            raise Failed(f"not built: {', '.join(missing)}; build them with scripts/lambda build")
        for folder in set(folders.values()):
            runs_on_lambda(folder / "bootstrap")
        return folders
    for name in {folder.name for folder in folders.values()}:
        if not (binaries / name).is_file():
            raise Failed(f"not built: {binaries / name}; build it with cargo build --workspace")
        (staged / name).mkdir()
        os.symlink((binaries / name).resolve(), staged / name / "bootstrap")
    return {function: staged / folder.name for function, folder in folders.items()}


def runs_on_lambda(binary):
    """Fails where a binary wants a newer C library than Lambda has."""
    versions = {tuple(map(int, found.split(b"."))) for found in re.findall(rb"GLIBC_(\d+\.\d+)", binary.read_bytes())}
    newest = max(versions, default=(0, 0))
    if newest > GLIBC:
        raise Failed(f"{binary} wants glibc {newest[0]}.{newest[1]}, and provided.al2023 has {GLIBC[0]}.{GLIBC[1]}")


def tried(template, folders):
    began = time.monotonic()
    with Cloud() as cloud:
        stack = Stack(cloud, "opshook", template, folders)
        steps = Drive(cloud, stack, template).steps()
        width = max(len(name) for name, _ in steps)
        for name, step in steps:
            try:
                seen = step()
            # An answer of another shape than expected is one of the last two.
            except (Failed, BotoCoreError, ClientError, LookupError, TypeError) as failed:
                print(f"{name:{width}}  FAILED: {type(failed).__name__}: {failed}", flush=True)
                print(cloud.last_words(), file=sys.stderr)
                print(f"scripts/try-aws: {name} is not as it should be", file=sys.stderr)
                return 1
            print(f"{name:{width}}  {seen}", flush=True)
    print(f"{len(steps)} steps, all as they should be, in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
