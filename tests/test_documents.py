"""What `--json` answers: every document is made by the function of its name, and written down."""

import inspect
import re
from pathlib import Path

import pytest

import builder.documents
import deployer.documents
import slots.failure

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {builder.documents: "image.md", deployer.documents: "deploy.md"}
COMMON = inspect.getsource(slots.failure)  # how both commands say why they failed


def told(page: str) -> str:
    """Return what a page says of JSON."""
    return (DOCS / page).read_text(encoding="utf-8").partition("\n## JSON")[2]


SOURCES = {inspect.getsource(module) + COMMON: told(page) for module, page in PAGES.items()}


@pytest.mark.parametrize("module", PAGES)
def test_a_document_is_made_by_the_function_of_its_name(module: object) -> None:
    makers = {
        name: inspect.getsource(function)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == getattr(module, "__name__", "")
    }
    public = {name for name in makers if not name.startswith("_")}
    schemas = {
        name.removeprefix("_"): schema
        for name, source in makers.items()
        for schema in re.findall(r'"schema": "flipslot\.(\w+)/\d+"', source)
    }
    assert schemas == {name: name for name in public}


@pytest.mark.parametrize("source", SOURCES, ids=PAGES.values())
def test_every_document_is_written_down(source: str) -> None:
    schema = re.compile(r"flipslot\.\w+/\d+")
    written = set(schema.findall(SOURCES[source])) - {"flipslot.release/1"}  # a file, no answer
    assert written == set(re.findall(r'"schema": "(flipslot\.\w+/\d+)"', source))


@pytest.mark.parametrize("source", SOURCES, ids=PAGES.values())
def test_every_field_of_a_document_is_written_down(source: str) -> None:
    fields = set(re.findall(r'"(\w+)": ', source))
    assert [field for field in fields if not re.search(rf"\b{field}\b", SOURCES[source])] == []
