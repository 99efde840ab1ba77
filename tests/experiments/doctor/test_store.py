"""An output folder in an object store: well, and each way in which it cannot be used."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import boto3
import pytest
import s3fs

from experiments.doctor import folders
from tests.experiments.doctor.network import closed_port
from tests.experiments.s3 import environment, serving

#: What lets a user see a bucket and its objects, and no more.
READ = ["s3:ListBucket", "s3:HeadBucket", "s3:GetBucketLocation", "s3:GetObject"]


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with serving() as port:
        yield port


@pytest.fixture
def store(server: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a store with an empty bucket called bucket, on which all may do all."""
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)
    address = f"http://127.0.0.1:{server}"
    post(address, "reset-auth", "inf")
    post(address, "reset")
    s3fs.S3FileSystem.clear_instance_cache()
    boto3.client("s3").create_bucket(Bucket="bucket")
    return address


def post(address: str, command: str, text: str = "") -> None:
    """One of moto's own commands: `reset`, or `reset-auth` with the calls that need no rights."""
    request = urllib.request.Request(
        f"{address}/moto-api/{command}", data=text.encode(), headers={"Content-Type": "text/plain"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()


def test_a_store_that_is_well(store: str) -> None:
    finding = folders.output("s3://bucket/out")
    assert finding.ok, finding
    assert "created there and removed" in finding.detail
    assert boto3.client("s3").list_objects_v2(Bucket="bucket")["KeyCount"] == 0


def test_a_bucket_that_is_not_there(store: str) -> None:
    finding = folders.output("s3://nobody-made-it/out")
    assert finding.ok is False
    assert "no bucket 'nobody-made-it'" in finding.detail
    assert finding.remedy.startswith("make it, or correct --out")


def test_no_credentials(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    s3fs.S3FileSystem.clear_instance_cache()
    finding = folders.output("s3://bucket/out")
    assert finding.ok is False
    assert "Unable to locate credentials" in finding.detail
    assert "set AWS_ACCESS_KEY_ID" in finding.remedy


def test_wrong_credentials_and_too_few_rights(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    iam = boto3.client("iam")
    iam.create_user(UserName="reader")
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    read = {"Effect": "Allow", "Action": READ, "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [read]})
    iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=policy)
    post(store, "reset-auth", "0")
    unknown = folders.output("s3://bucket/out")
    assert unknown.ok is False and unknown.remedy.startswith("correct AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    s3fs.S3FileSystem.clear_instance_cache()
    unwritable = folders.output("s3://bucket/out")
    assert unwritable.ok is False and "Denied" in unwritable.detail
    assert "read, write and delete objects of bucket" in unwritable.remedy


def test_a_store_that_is_down(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port()}")
    s3fs.S3FileSystem.clear_instance_cache()
    finding = folders.output("s3://bucket/out")
    assert finding.ok is False
    assert "correct AWS_ENDPOINT_URL" in finding.remedy


def test_a_package_that_is_missing() -> None:
    code = """
import sys
import urllib.request
sys.modules["s3fs"] = None
from experiments.doctor import folders
finding = folders.output("s3://bucket/out")
print(finding.ok, finding.detail, finding.remedy, sep="|")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ok, detail, remedy = done.stdout.strip().split("|")
    assert ok == "False" and "another package" in detail
    assert remedy == "pip install 'tcclip-sweeps[s3]', in the environment of every node"


def test_a_place_that_is_none() -> None:
    unknown = folders.output("nowhere://bucket/out")
    assert unknown.ok is False and "s3://BUCKET/FOLDER" in unknown.remedy
