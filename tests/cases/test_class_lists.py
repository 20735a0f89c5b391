"""Lists of class names as other tools write them: never a name with a mark or an index in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from fovea.engine.data.dataset import Dataset
from fovea.engine.look.checking.accuracy import match_labels
from fovea.models.card import Card, Preprocessing
from fovea.models.class_list import class_notes, read_classes
from fovea.models.errors import NetworkError, UnknownNameError
from fovea.models.network import Network

ANIMALS = ("cat", "dog", "bee", "owl")
TABLE = {0: "cat", 1: "dog", 2: "bee", 3: "owl"}
SHUFFLED = [(2, "bee"), (0, "cat"), (3, "owl"), (1, "dog")]


def lines(pattern: str, rows: list[tuple[int, str]] = SHUFFLED, head: str = "", end: str = "\n", start: int = 0) -> str:
    return head + end.join(pattern.format(i=index + start, name=name) for index, name in rows) + end


PLAIN = "cat\ndog\nbee\nowl\n"
LISTS: dict[str, tuple[str, bytes | str]] = {
    "plain": ("c.txt", PLAIN),
    "no end": ("c.txt", PLAIN.strip()),
    "blank lines": ("c.txt", "\ncat\n\ndog\n  bee  \nowl\n\n"),
    "mark": ("c.txt", b"\xef\xbb\xbf" + PLAIN.encode()),
    "Windows": ("c.txt", PLAIN.replace("\n", "\r\n")),
    "old Mac": ("c.txt", PLAIN.replace("\n", "\r").encode()),
    "UTF-16": ("c.txt", PLAIN.encode("utf-16")),
    "UTF-16 big end": ("c.txt", b"\xfe\xff" + PLAIN.encode("utf-16-be")),
    "UTF-16 without a mark": ("c.txt", PLAIN.encode("utf-16-le")),
    "UTF-32": ("c.txt", PLAIN.encode("utf-32")),
    "marks in it": ("c.txt", "\ufeffcat\n\u200bdog\nbee\nowl"),
    "quoted": ("c.csv", '"cat"\n"dog"\n"bee"\n"owl"'),
    "commas behind": ("c.txt", "cat,\ndog,\nbee,\nowl"),
    "0,cat": ("c.csv", lines("{i},{name}")),
    "0, cat": ("c.csv", lines("{i}, {name}")),
    "0;cat": ("c.csv", lines("{i};{name}")),
    "0 cat": ("c.txt", lines("{i} {name}")),
    "0\tcat": ("c.tsv", lines("{i}\t{name}")),
    "0: cat": ("c.txt", lines("{i}: {name}")),
    "0|cat": ("c.txt", lines("{i}|{name}")),
    "cat,0": ("c.csv", lines("{name},{i}")),
    "cat 0": ("c.txt", lines("{name} {i}")),
    "cat: 0": ("c.txt", lines("{name}: {i}")),
    "from 1": ("c.txt", lines("{i} {name}", start=1)),
    "with zeros": ("c.txt", lines("{i:03d} {name}")),
    "quoted beside": ("c.csv", lines('{i},"{name}"')),
    "header": ("c.csv", lines("{i},{name}", head="index,name\n")),
    "header, turned": ("c.csv", lines("{name},{i}", head="class_name,class_id\n")),
    "header of one": ("c.csv", "class_name\n" + PLAIN),
    "header of one in text": ("c.txt", "class_name\n" + PLAIN),
    "header and mark": ("c.csv", ("\ufeff" + lines("{i},{name}", head="id,class\n", end="\r\n")).encode()),
    "header in UTF-16": ("c.csv", lines("{i}\t{name}", head="id\tlabel\n").encode("utf-16")),
    "more columns": ("c.csv", lines("{i},{name},animal,7", head="class_id,class_name,kind,seen\n")),
    "no index column": ("c.csv", "name,kind\n" + "".join(f"{name},animal\n" for name in ANIMALS)),
    "synsets in a table": ("c.csv", lines("{i},n0000000{i},{name}")),
    "JSON list": ("c.json", json.dumps(ANIMALS)),
    "JSON list in text": ("c.txt", json.dumps(ANIMALS, indent=1)),
    "JSON with a mark": ("c.json", b"\xef\xbb\xbf" + json.dumps(ANIMALS).encode()),
    "index to name": ("c.json", json.dumps({str(index): name for index, name in SHUFFLED})),
    "name to index": ("c.json", json.dumps({name: index for index, name in SHUFFLED})),
    "names to texts of indices": ("c.json", json.dumps({name: str(index) for index, name in SHUFFLED})),
    "Keras": ("c.json", json.dumps({str(index): [f"n0000000{index}", name] for index, name in SHUFFLED})),
    "objects": ("c.json", json.dumps([{"id": index, "name": name} for index, name in SHUFFLED])),
    "objects of COCO": ("c.json", json.dumps({"categories": [{"id": 7 * i + 3, "name": n} for i, n in TABLE.items()]})),
    "id2label": ("c.json", json.dumps({"model_type": "vit", "id2label": TABLE, "label2id": {"cat": 0}})),
    "label2id": ("c.json", json.dumps({"label2id": {name: index for index, name in SHUFFLED}})),
    "class_to_idx": ("c.json", json.dumps({"class_to_idx": {name: index for index, name in SHUFFLED}})),
    "names": ("c.json", json.dumps({"nc": 4, "names": ANIMALS})),
    "a dictionary of Python": ("c.txt", "{0: 'cat',\n 1: 'dog',\n 2: 'bee',\n 3: 'owl'}"),
    "a list of Python": ("c.txt", "['cat', 'dog', 'bee', 'owl']"),
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_of_other_tools(kind: str, tmp_path: Path) -> None:
    name, content = LISTS[kind]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    assert read_classes(path) == ANIMALS


@pytest.mark.parametrize(
    "names",
    [
        ("0", "1", "10", "11", "2"),
        ("1", "0"),
        ("tench, Tinca tinca", "goldfish, Carassius auratus"),
        ("n01440764 tench, Tinca tinca", "n01443537 goldfish, Carassius auratus"),
        ("class 0", "class 1", "class 2"),
        ("1 euro", "2 euro"),
        ("7 up", "4 wheel"),
        ("Boeing 737", "Airbus 320"),
        ("2 CV", "4 CV", "DS"),
        ("name", "label", "class"),
        ("yes", "no"),
        ("n/a", "O'Brien", 'the "x"'),
        ("Schäfer", "日本", "🐈"),
        ("a;b", "c;d"),
        ("3.5mm jack", "usb"),
        ("0-10", "10-20"),
        ("cat",),
    ],
    ids=lambda names: names[0],
)
def test_names_stay_as_they_are(names: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("\n".join(names), encoding="utf-8")
    assert read_classes(tmp_path / "c.txt") == names
    (tmp_path / "c.json").write_text(json.dumps(names), encoding="utf-8")
    assert read_classes(tmp_path / "c.json") == names
    (tmp_path / "i.csv").write_text("".join(f'{i},"{n}"\n' for i, n in enumerate(names) if '"' not in n), "utf-8")
    if all('"' not in name for name in names):
        assert read_classes(tmp_path / "i.csv") == names


def test_places_and_western_encodings(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("/a/airfield 0\n/a/alley 1\n/b/bar 2\n")
    assert read_classes(tmp_path / "c.txt") == ("/a/airfield", "/a/alley", "/b/bar")
    (tmp_path / "c.txt").write_bytes("Schäfer\nMöwe\n".encode("cp1252"))
    assert read_classes(tmp_path / "c.txt") == ("Schäfer", "Möwe")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "holds no class names"),
        ("\ufeff\n", "holds no class names"),
        ("{}", "holds no class names"),
        ("[]", "holds no class names"),
        ('{"a": {"b": 1}}', "expected a list of names, or a table"),
        ('{"0": "cat", "2": "dog"}', "no name for index 1 ('dog' has 2)"),
        ('{"cat": 0, "dog": 0}', "two names for index 0"),
        ("id,name\n0,cat\n2,dog\n", "no name for index 1"),
    ],
)
def test_what_cannot_be_read_is_told(content: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text(content, encoding="utf-8")
    with pytest.raises(NetworkError) as caught:
        read_classes(tmp_path / "c.txt")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def card(*classes: str) -> Card:
    return Card(
        name="net", title="net", architecture="tests", preprocessing=Preprocessing(), classes=classes, layers=(),
        parameters=1, sha256="0", weights="random",
    )  # fmt: skip


def test_a_name_comes_before_an_index() -> None:
    numbers = card("0", "1", "10", "11", "2")
    assert [numbers.class_index(name) for name in numbers.classes] == [0, 1, 2, 3, 4]
    assert numbers.class_index("3") == 3
    assert numbers.class_index("#2") == 2
    assert numbers.class_index(2) == 2
    assert [numbers.class_index(numbers.class_number(index)) for index in range(5)] == [0, 1, 2, 3, 4]
    for wrong in ("7", "#5", "-1"):
        with pytest.raises(UnknownNameError, match="it has classes 0 to 4"):
            numbers.class_index(wrong)
    assert card("Cat", "cat").class_index("cat") == 1
    assert card("cat", "#1").class_index("#1") == 1
    assert card("a", "b").class_index("1") == 1


def test_what_is_ambiguous_is_told(net_py: Path, bring: Callable[..., Network], tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("0\n1\n10\n11\n2\n")
    notes = " ".join(bring(architecture=f"{net_py}:Small", classes=str(tmp_path / "c.txt")).card.notes)
    assert "called by numbers that are indices of other classes, such as '2'" in notes
    assert "#2 means the class with that index" in notes
    assert class_notes(("a", "crane", "b", "crane")) == [
        "Some classes bear the same name: 'crane' (classes 1, 3). The name alone means the first of them."
    ]
    assert class_notes(("0", "1", "2")) == []
    assert class_notes(("2019", "2020")) == []


@pytest.mark.parametrize(
    ("classes", "labels", "how", "meaning"),
    [
        (("0", "1", "10", "11", "2"), ("0", "1", "10", "2"), "names", {"2": (4,), "10": (2,)}),
        (("0", "1", "10", "11", "2"), ("0", "1", "2", "3", "4"), "indices", {"2": (2,), "3": (3,)}),
        (("cat", "dog"), ("0", "1"), "indices", {"1": (1,)}),
        (("cat", "dog", "3"), ("cat", "3", "5"), "names", {"3": (2,)}),
    ],
)
def test_labels_that_are_numbers(
    classes: tuple[str, ...], labels: tuple[str, ...], how: str, meaning: dict[str, tuple[int, ...]], tmp_path: Path
) -> None:
    from fovea.engine.data.catalogue import open_dataset

    for label in labels:
        (tmp_path / "set" / label).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "set" / label / "a.png")
    dataset: Dataset = open_dataset(tmp_path / "set")
    matched = match_labels(dataset, card(*classes))
    assert matched.how == how
    assert {label: matched.classes[label] for label in meaning} == meaning
