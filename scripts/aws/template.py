"""Reads `template.yaml`, and makes of it what a deployment sends to CloudFormation."""

import copy
import os
from pathlib import Path
from types import SimpleNamespace

import yaml
from samtranslator.model.exceptions import InvalidDocumentException
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "template.yaml"
REGION = "eu-central-1"


class Failed(Exception):
    """It could not be done, or is not as it should be; the text says what and where."""


def read(path):
    """The template, with CloudFormation's short forms as functions."""
    try:
        template = yaml_parse(path.read_text())
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise Failed(f"{path}: this is no template: {error}") from error
    if not isinstance(template, dict) or "Resources" not in template:
        raise Failed(f"{path}: this is no template: it has no Resources")
    return template


def of_type(template, kind):
    """The resources of a type: their properties by their names."""
    found = template["Resources"].items()
    return {name: resource.get("Properties", {}) for name, resource in found if resource["Type"] == kind}


def code_folders(template):
    """Where each function's binary is expected, as `sam deploy` would read it: the folders by the functions' names."""
    functions = of_type(template, "AWS::Serverless::Function")
    return {name: ROOT / function["CodeUri"] for name, function in functions.items()}


def with_code(template, bucket, keys):
    """The template as it is after its code was uploaded: `keys` are those of each function's zip."""
    packaged = copy.deepcopy(template)
    for name, function in of_type(packaged, "AWS::Serverless::Function").items():
        function["CodeUri"] = {"Bucket": bucket, "Key": keys[name]}
    return packaged


def transformed(template):
    """What CloudFormation makes of a template whose code was uploaded."""
    # The transform asks for a region, and takes it from there alone.
    os.environ.setdefault("AWS_DEFAULT_REGION", REGION)
    try:
        return transform(copy.deepcopy(template), {}, SimpleNamespace(load=dict))
    except InvalidDocumentException as error:
        causes = "; ".join(cause.message for cause in error.causes)
        raise Failed(f"the transform of AWS::Serverless refuses it: {causes}") from error
