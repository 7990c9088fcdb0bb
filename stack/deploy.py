"""The project's template, deployed to the emulator as CloudFormation deploys it to AWS."""

import json

from botocore.exceptions import ClientError, WaiterError

from stack import STACK_NAME, packages, paths, template
from stack.emulator import REGION, client
from stack.errors import StackError

_BUCKET = "huntaze-deployment"
_SECRET = "huntaze/stack"
_WAIT = {"Delay": 1, "MaxAttempts": 120}


def create_secret(aws_url: str, variables: dict[str, str]) -> str:
    """Puts the variables into the one secret and returns its ARN."""
    secrets = client("secretsmanager", aws_url)
    return secrets.create_secret(Name=_SECRET, SecretString=json.dumps(variables))["ARN"]


def verify_sender(aws_url: str, address: str) -> None:
    """Has SES take e-mails from the address, which on AWS its owner confirms."""
    client("sesv2", aws_url).create_email_identity(EmailIdentity=address)


def create_users(aws_url: str, table: str, addresses: dict[str, str]) -> None:
    """The platform's table of users, which the template expects to be there, with the address of each."""
    dynamodb = client("dynamodb", aws_url)
    dynamodb.create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    for user, address in addresses.items():
        dynamodb.put_item(TableName=table, Item={"id": {"S": user}, "email": {"S": address}})


def deploy(aws_url: str, parameters: dict[str, str]) -> dict[str, str]:
    """Creates the stack, migrates, then lets the schedules run; returns the stack's outputs."""
    source = template.load(paths.TEMPLATE)
    code = {logical_id: _upload(aws_url, binary) for logical_id, binary in template.functions(source).items()}
    source = template.with_code(source, code)
    cloudformation = client("cloudformation", aws_url)
    # What a first deployment to AWS does, too: a schedule must not find a database without its schema.
    cloudformation.create_stack(**_request(aws_url, source, {**parameters, "ScheduleState": "DISABLED"}))
    _wait(cloudformation, "stack_create_complete")
    outputs = _outputs(cloudformation)
    _invoke(aws_url, outputs["MigrateFunction"], {})
    cloudformation.update_stack(**_request(aws_url, source, {**parameters, "ScheduleState": "ENABLED"}))
    _wait(cloudformation, "stack_update_complete")
    return outputs


def _invoke(aws_url: str, function: str, event: dict) -> None:
    """Invokes a function and waits for its answer, which must not be an error."""
    answer = client("lambda", aws_url).invoke(FunctionName=function, Payload=json.dumps(event))
    if answer.get("FunctionError"):
        raise StackError(f"{function} failed: {answer['Payload'].read().decode()}")


def _upload(aws_url: str, binary: str) -> str:
    package = packages.package(binary)
    return _put(aws_url, f"{binary}-{packages.digest(package)}.zip", package.read_bytes())


def _request(aws_url: str, source: template.Template, parameters: dict[str, str]) -> dict:
    translated = template.expand_http_apis(template.translate(source, parameters, REGION))
    translated = template.widen_email(translated)
    _put(aws_url, "template.json", json.dumps(translated).encode())
    return {
        "StackName": STACK_NAME,
        "TemplateURL": f"{aws_url}/{_BUCKET}/template.json",
        "Capabilities": ["CAPABILITY_IAM"],
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
    }


def _put(aws_url: str, key: str, body: bytes) -> str:
    s3 = client("s3", aws_url)
    s3.create_bucket(Bucket=_BUCKET)
    s3.put_object(Bucket=_BUCKET, Key=key, Body=body)
    return f"s3://{_BUCKET}/{key}"


def _wait(cloudformation, state: str) -> None:
    try:
        cloudformation.get_waiter(state).wait(StackName=STACK_NAME, WaiterConfig=_WAIT)
    except WaiterError as error:
        raise StackError(f"the stack was not deployed:\n{_failures(cloudformation)}") from error


def _failures(cloudformation) -> str:
    try:
        events = cloudformation.describe_stack_events(StackName=STACK_NAME)["StackEvents"]
    except ClientError as error:
        return str(error)
    failed = [event for event in events if event["ResourceStatus"].endswith("FAILED")]
    return "\n".join(f"  {event['LogicalResourceId']}: {event.get('ResourceStatusReason')}" for event in failed)


def _outputs(cloudformation) -> dict[str, str]:
    stack = cloudformation.describe_stacks(StackName=STACK_NAME)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
