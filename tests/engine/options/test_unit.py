"""Options that name a unit, where in its map it is asked, and whether a class is meant instead."""

from __future__ import annotations

import pytest

from fovea.engine.errors import OptionsError
from fovea.engine.options import check_class_or_unit, position_of


def test_positions_are_words_or_a_row_and_a_column() -> None:
    assert [position_of(word) for word in ("max", "centre", "sum")] == ["max", "centre", "sum"]
    assert position_of("3,5") == (3, 5)
    assert position_of(" 3 , 5 ") == (3, 5)


@pytest.mark.parametrize("text", ["", "up", "3", "3;4", "3,4,5", "-1,2", "3,²", "a,b"])
def test_what_is_no_position_is_told_in_one_line(text: str) -> None:
    with pytest.raises(OptionsError, match="row,column such as 3,5, not") as caught:
        position_of(text)
    assert "\n" not in str(caught.value)


def test_a_class_and_a_unit_are_not_asked_at_once() -> None:
    check_class_or_unit("cat", "", None)
    check_class_or_unit("", "conv1", 3)
    check_class_or_unit("", "conv1", None)
    with pytest.raises(OptionsError, match="not both"):
        check_class_or_unit("cat", "conv1", None)
    with pytest.raises(OptionsError, match="of which layer"):
        check_class_or_unit("", "", 3)
