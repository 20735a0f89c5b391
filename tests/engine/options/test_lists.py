"""Comma lists: a tuple in the code, the same text in a record."""

from __future__ import annotations

from typing import Any

import pytest

from fovea.engine.errors import OptionsError
from fovea.engine.options import CommaList, Options, option


class Listed(Options):
    rows: CommaList = option("", "The rows.")


@pytest.mark.parametrize(
    ("value", "parts"), [("", ()), ("3", ("3",)), (3, ("3",)), ("3, 17,3", ("3", "17")), ([3, "4"], ("3", "4"))]
)
def test_a_comma_list_is_a_tuple_and_its_record_a_text(value: Any, parts: tuple[str, ...]) -> None:
    options = Listed.parse({"rows": value})
    assert options.rows == parts
    assert options.model_dump() == {"rows": ",".join(parts)}


def test_what_is_no_list_is_told_in_one_line() -> None:
    with pytest.raises(OptionsError, match="rows: expected values with commas between them, not None"):
        Listed.parse({"rows": None})
