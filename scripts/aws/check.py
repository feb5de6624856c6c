"""`scripts/check-template`: what can be known of the template without a cloud."""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import boto3

from aws.template import REGION, ROOT, TEMPLATE, Failed, code_folders, of_type, read, transformed, with_code

ABOUT = """\
Checks template.yaml without a cloud: cfn-lint's rules on it and on what the transform of AWS::Serverless makes of it; that
its tables are those that `opshook tables create` makes, key by key, index by index, read back from the embedded engine;
and that a parameter that has no default is one that can't be guessed. It builds the command first, and then takes some
seconds; nothing is left behind.
"""
TEACHES = """\
examples:
  scripts/check-template                       the template of this folder
  scripts/check-template --template other.yaml another one

exit status: 0 all is well, 1 something is not: a line for each on standard error, 2 usage
"""
# What nobody but the operator knows. All else has a default that works.
REQUIRED = {"WebhookSecretName", "OpsApiTokenSecretName", "EmitApiTokenSecretName"}
PREFIX = "opshook_"


def main(arguments):
    """Checks what the arguments ask for. Answers the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/check-template", description=ABOUT, epilog=TEACHES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--template", type=Path, default=TEMPLATE, metavar="FILE", help="check this file")
    options = parser.parse_args(arguments)
    try:
        template = read(options.template)
        faults = lint(options.template)
        faults += parameters(template) + code(template)
        uploaded = with_code(template, "uploaded", {name: f"{name}.zip" for name in code_folders(template)})
        expanded = transformed(uploaded)
        faults += lint_expanded(expanded) + tables(expanded)
    except Failed as failed:
        faults = [str(failed)]
    for fault in faults:
        print(f"scripts/check-template: {fault}", file=sys.stderr)
    if not faults:
        of = {kind: len(of_type(expanded, kind)) for kind in ("AWS::Lambda::Function", "AWS::DynamoDB::Table", "AWS::CloudWatch::Alarm")}
        print(f"template.yaml: {', '.join(f'{count} {kind}' for kind, count in of.items())}: all is well")
    return 1 if faults else 0


def lint(path):
    """cfn-lint's findings, one a line."""
    program = Path(sys.executable).parent / "cfn-lint"
    command = [program, "--format", "parseable", "--regions", REGION, "--", path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]


def lint_expanded(expanded):
    with tempfile.TemporaryDirectory(prefix="opshook-template-") as folder:
        path = Path(folder) / "expanded.json"
        path.write_text(json.dumps(expanded, indent=1))
        return lint(path)


def parameters(template):
    """Each has a description; what is without a default is what the operator has to say."""
    found = template["Parameters"]
    faults = [f"the parameter {name} has no description" for name in found if not found[name].get("Description")]
    required = {name for name, parameter in found.items() if "Default" not in parameter}
    if required != REQUIRED:
        faults.append(f"without a default are {sorted(required)}, and should be {sorted(REQUIRED)}")
    for name, parameter in found.items():
        bounds = parameter.keys() & {"AllowedPattern", "AllowedValues", "MinValue"}
        if not bounds:
            faults.append(f"the parameter {name} takes anything")
        pattern = parameter.get("AllowedPattern")
        if pattern and "Default" in parameter and not re.fullmatch(pattern, str(parameter["Default"])):
            faults.append(f"the default of the parameter {name} is not one that it takes")
    return faults


def code(template):
    """Each function's code is where cargo-lambda puts a binary of this workspace."""
    binaries = {path.parent.parent.name for path in ROOT.glob("functions/*/src/main.rs")}
    expected = {ROOT / "target" / "lambda" / name for name in binaries}
    folders = code_folders(template)
    strange = [f"{name}: {folder} is no function of this workspace" for name, folder in folders.items() if folder not in expected]
    absent = [f"no function runs {folder.name}" for folder in sorted(expected - set(folders.values()))]
    return strange + absent


def tables(expanded):
    """The template's tables are those that the command makes, and are kept."""
    wanted = made_by_command()
    found, faults = {}, []
    for name, resource in expanded["Resources"].items():
        if resource["Type"] != "AWS::DynamoDB::Table":
            continue
        table = resource["Properties"]
        found[table["TableName"]["Fn::Sub"].replace("${TablePrefix}", PREFIX)] = shape(table, table.get("TimeToLiveSpecification", {}))
        faults += [f"{name}: {fault}" for fault in unguarded(resource)]
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found or name not in wanted:
            faults.append(f"the table {name} is {'not in the template' if name in wanted else 'not one that the command makes'}")
            continue
        for part in wanted[name]:
            if wanted[name][part] != found[name].get(part):
                faults.append(
                    f"the table {name}: its {part} is {json.dumps(found[name].get(part))} in the template, and "
                    f"{json.dumps(wanted[name][part])} as `opshook tables create` makes it"
                )
        faults += [f"the table {name}: its {part} is in the template alone" for part in found[name].keys() - wanted[name].keys()]
    return faults


def unguarded(resource):
    """What would let a table go by mistake."""
    table = resource["Properties"]
    guards = {
        "DeletionPolicy is not Retain": resource.get("DeletionPolicy") == "Retain",
        "UpdateReplacePolicy is not Retain": resource.get("UpdateReplacePolicy") == "Retain",
        "deletion protection is off": table.get("DeletionProtectionEnabled") is True,
        "point-in-time recovery is off": table.get("PointInTimeRecoverySpecification", {}).get("PointInTimeRecoveryEnabled") is True,
    }
    return [fault for fault, holds in guards.items() if not holds]


def shape(table, time_to_live):
    """What a table is, of a template's properties or of a description, part by part, with no order where none matters."""
    billing = table.get("BillingMode") or table.get("BillingModeSummary", {}).get("BillingMode")
    attributes = {attribute["AttributeName"]: attribute["AttributeType"] for attribute in table["AttributeDefinitions"]}
    parts = {
        "key": keys(table["KeySchema"]),
        "attributes": dict(sorted(attributes.items())),
        "billing": billing,
        "time to live": time_to_live.get("AttributeName"),
    }
    for index in table["GlobalSecondaryIndexes"]:
        projection = index["Projection"]
        parts[f"index {index['IndexName']}"] = {
            "key": keys(index["KeySchema"]),
            "projects": [projection["ProjectionType"], *sorted(projection.get("NonKeyAttributes", []))],
        }
    return parts


def keys(schema):
    return {key["KeyType"]: key["AttributeName"] for key in sorted(schema, key=lambda key: key["KeyType"])}


def made_by_command():
    """The tables that `opshook tables create` makes on the embedded engine: what they are, by their names."""
    built = subprocess.run(["cargo", "build", "--package", "opshook", "--locked", "--quiet"], cwd=ROOT, stdout=2)
    if built.returncode != 0:
        raise Failed("opshook could not be built")
    opshook = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "opshook"
    with tempfile.TemporaryDirectory(prefix="opshook-template-") as folder:
        arguments = ["engine", "--json", "--listen", "127.0.0.1:0", "--data-dir", folder]
        engine = subprocess.Popen([opshook, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            url = json.loads(engine.stdout.readline())["dynamodb"]
            return read_back(opshook, url)
        except (ValueError, KeyError) as error:
            raise Failed("the embedded engine did not start") from error
        finally:
            engine.terminate()
            engine.wait()


def read_back(opshook, url):
    access = {"AWS_REGION": REGION, "AWS_ACCESS_KEY_ID": "check", "AWS_SECRET_ACCESS_KEY": "check"}
    made = subprocess.run(
        [opshook, "tables", "create"],
        env={**access, "AWS_ENDPOINT_URL_DYNAMODB": url, "TABLE_PREFIX": PREFIX},
        capture_output=True,
        text=True,
    )
    if made.returncode != 0:
        raise Failed(f"opshook tables create: {made.stderr.strip()}")
    client = boto3.client(
        "dynamodb", endpoint_url=url, region_name=REGION, aws_access_key_id="check", aws_secret_access_key="check"
    )
    tables = {}
    for name in client.list_tables()["TableNames"]:
        time_to_live = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        tables[name] = shape(client.describe_table(TableName=name)["Table"], time_to_live)
    return tables


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
