"""The table of operations is sound: names, paths, problems and types fit together."""

import re

import msgspec
import pytest

from heliograph.wire.operations import OPERATIONS, Operation
from heliograph.wire.problems import PROBLEMS, Problem, ProblemBody

each_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())


def test_no_two_operations_share_a_method_and_a_path() -> None:
    shapes = [(one.method, re.sub(r"{\w+}", "{}", one.path)) for one in OPERATIONS.values()]
    assert len(set(shapes)) == len(shapes)


@each_operation
def test_every_field_of_a_path_is_a_field_of_the_request(operation: Operation) -> None:
    names = {field.encode_name for field in msgspec.structs.fields(operation.request)}
    assert set(re.findall(r"{(\w+)}", operation.path)) <= names


@each_operation
def test_an_operation_names_only_problems_that_exist(operation: Operation) -> None:
    assert set(operation.problems) <= PROBLEMS.keys()


@each_operation
def test_a_request_refuses_unknown_fields(operation: Operation) -> None:
    assert operation.request.__struct_config__.forbid_unknown_fields


def test_a_problem_keeps_what_a_client_acts_on() -> None:
    body = Problem("channel-restricted", decision="dc1", reason="terror", decided_at_ms=5).body
    assert (body.status, body.decision, body.reason, body.decided_at_ms) == (451, "dc1", "terror", 5)


def test_a_problem_of_an_unknown_type_is_still_a_problem() -> None:
    body = ProblemBody(type="brand-new", title="New", status=400, detail="why")
    assert Problem.received(body).body is body
