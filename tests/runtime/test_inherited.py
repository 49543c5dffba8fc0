"""What commands inherit: the steps of `shell_environment_policy`, in their order."""

from typing import Any

import pytest

from backstay.runtime.inherited import inherited
from backstay.runtime.keys import ShellTable

ENVIRON = {"PATH": "/bin", "HOME": "/h", "Api_Key": "k", "AWS_REGION": "r", "MY_TOKEN": "t"}


@pytest.mark.parametrize(
    "policy, left",
    [
        ({}, "PATH HOME Api_Key AWS_REGION MY_TOKEN"),
        ({"inherit": "core"}, "PATH HOME"),
        ({"inherit": "none"}, ""),
        ({"ignore_default_excludes": False}, "PATH HOME AWS_REGION"),
        ({"exclude": ["aws_*", "MY_TOKE?"]}, "PATH HOME Api_Key"),
        ({"include_only": ["PATH", "*KEY"]}, "PATH Api_Key"),
        ({"inherit": "none", "set": {"A": "1"}}, "A"),
        ({"exclude": ["A"], "set": {"A": "1"}, "include_only": ["A", "HOME"]}, "HOME A"),
        ({"set": {"A": "1"}, "include_only": ["HOME"]}, "HOME"),
    ],
)
def test_each_step_of_the_policy(policy: dict[str, Any], left: str) -> None:
    """`inherit`, default excludes, `exclude`, `set`, `include_only`; patterns know no case."""
    found = inherited(ShellTable(**policy), ENVIRON)
    assert list(found) == left.split()
    assert all(found[name] == ENVIRON.get(name, "1") for name in found)
