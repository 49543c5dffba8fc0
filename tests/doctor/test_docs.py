"""docs/doctor.md has the codes of the doctor, and the fields of its data."""

import re
from typing import Final

from backstay.doctor.findings import CODES, Finding
from backstay.doctor.weight import Weight
from tests.conftest import REPOSITORY

PAGE: Final = (REPOSITORY / "docs" / "doctor.md").read_text()


def test_the_table_has_every_code_as_it_is() -> None:
    """Severity, meaning and repair stand there as the code says them; no other codes do."""
    rows = {
        row[0]: row[1:]
        for row in re.findall(r"^\| `([^`]+)` \| (\w+) \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
    }
    assert rows == {
        code: (kind.severity, kind.means, kind.repaired or "—") for code, kind in CODES.items()
    }


def test_every_field_of_the_data_is_named() -> None:
    """Those of findings and of the bytes by class."""
    for name in (*Finding.__struct_fields__, *Weight.__struct_fields__):
        assert f"`{name}`" in PAGE
