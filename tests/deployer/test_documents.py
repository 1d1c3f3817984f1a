"""What `--json` answers: every document is made by the function of its name, and written down."""

import inspect
import re
from pathlib import Path

import pytest

from deployer import documents

DOCS = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text(encoding="utf-8")
SOURCE = inspect.getsource(documents)
SCHEMAS = sorted(set(re.findall(r'"(flipslot\.\w+/\d+)"', SOURCE)))
FIELDS = sorted(set(re.findall(r'^ +"(\w+)": ', SOURCE, re.MULTILINE)))


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_document_is_made_by_the_function_of_its_name(schema: str) -> None:
    name = schema.removeprefix("flipslot.").partition("/")[0]
    assert f'"schema": "{schema}"' in inspect.getsource(getattr(documents, name)) or name == "error"


def test_every_document_is_written_down_and_no_other() -> None:
    assert sorted(set(re.findall(r"flipslot\.\w+/\d+", DOCS))) == SCHEMAS


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_of_a_document_is_written_down(field: str) -> None:
    assert re.search(rf"\b{field}\b", DOCS.partition("\n## JSON\n")[2])
