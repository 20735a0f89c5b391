"""networks.toml is the user's own file: what an edit does not concern stays byte for byte."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from fovea.models import registry
from fovea.models.errors import NetworkError, UnknownNameError

FILE = """# Networks of the hospital.

[networks.second]  # listed first on purpose
architecture = "torchvision:resnet18"   # the small one
title = 'Second'

[networks.second.input]
size = 224 # as in training

# What another tool keeps here:
[other]
key = [1,
       2]

# The one in use since May.
[networks.first]
architecture = "timm:vgg11"
output = "features"
# weights = "/data/first.pt"

[last]
key = '''
[networks.no]
'''
"""


@pytest.fixture
def path(own_home: Path) -> Path:
    own_home.mkdir(parents=True)
    path = own_home / "networks.toml"
    path.write_bytes(FILE.encode())
    return path


def test_a_new_entry_is_added_below_all_that_was_there(path: Path) -> None:
    registry.register("third.v2", architecture="timm:vit", input={"size": (32, 48), "resize": None}, arguments={"a": 1})
    text = path.read_bytes().decode()
    assert text.startswith(FILE)
    assert text[len(FILE) :] == (
        '\n[networks."third.v2"]\narchitecture = "timm:vit"\n\n[networks."third.v2".input]\nsize = [32, 48]\n\n'
        '[networks."third.v2".arguments]\na = 1\n'
    )
    registry.unregister("third.v2")
    assert path.read_bytes().decode().rstrip("\n") == FILE.rstrip("\n")


def test_registering_again_changes_what_is_new_where_it_stands(path: Path) -> None:
    registry.register(
        "second", architecture="torchvision:resnet18", title="Second", input={"size": 256}, arguments={"num_classes": 2}
    )
    text = path.read_bytes().decode()
    begins, ends = FILE.split("size = 224 # as in training")
    assert text.startswith(f"{begins}size = 256 # as in training")
    assert text.endswith(ends[ends.index("[other]") :])
    assert "# What another tool keeps here:" in text
    assert registry.registered()["second"]["arguments"] == {"num_classes": 2}


def test_what_was_written_stays_as_it_is_where_nothing_is_new(path: Path) -> None:
    registry.register("first", architecture="timm:vgg11", output="features")
    assert path.read_bytes().decode() == FILE


def test_what_is_unregistered_goes_alone(path: Path) -> None:
    registry.unregister("second")
    gone = FILE[FILE.index("[networks.second]") : FILE.index("\n# What another tool")]
    assert path.read_bytes().decode() == FILE.replace(gone, "")
    registry.unregister("first")
    text = path.read_bytes().decode()
    for line in ("# Networks of the hospital.", "# What another tool keeps here:", "[other]", "       2]", "[last]"):
        assert f"{line}\n" in text
    assert "# The one in use since May.\n" in text
    assert "timm:vgg11" not in text
    with pytest.raises(UnknownNameError):
        registry.unregister("first")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing yet",
        'networks.a.architecture = "timm:a"\nnetworks.a.output = "features"\nother = 1\n',
        '[networks]\na.architecture = "timm:a"\na.input.size = 3\nb.architecture = "timm:b"\n',
        '[networks]\na = {architecture = "timm:a", input = {size = 3}} # all in a line\n',
        '[networks.a]\narchitecture = "timm:a"\n[other]\nkey = 1\n[networks.a.input]\nsize = 3\n[networks.b]\n'
        'architecture = "timm:b"\n',
        '# c\r\n[networks.a]\r\narchitecture = "timm:a"\r\n# d\r\n\r\n[other]\r\nkey = 1\r\n',
        '[["other"]]\nx = 1\n["networks"."a"]\narchitecture = "timm:a"\n[["other"]]\nx = 2\n',
    ],
    ids=["empty", "comment", "dotted", "dotted in a table", "inline", "scattered", "Windows", "quoted"],
)
@pytest.mark.parametrize("name", ["a", "new"])
def test_however_the_file_is_written_the_edit_is_right(text: str, name: str, own_home: Path) -> None:
    own_home.mkdir(parents=True)
    path = own_home / "networks.toml"
    path.write_bytes(text.encode())
    before = tomllib.loads(text)
    entry = {"architecture": "torchvision:resnet18", "title": 'München\\ "\x7f', "input": {"size": [3, 4]}}
    registry.register(name, **entry)
    after = tomllib.loads(path.read_bytes().decode())
    assert after == before | {"networks": before.get("networks", {}) | {name: entry}}
    assert all(line in path.read_bytes().decode() for line in text.splitlines() if line.startswith("#"))
    registry.unregister(name)
    rest = {key: value for key, value in before.get("networks", {}).items() if key != name}
    after = tomllib.loads(path.read_bytes().decode())
    assert after.pop("networks", {}) == rest
    assert after == {key: value for key, value in before.items() if key != "networks"}


def test_a_file_that_cannot_be_edited_stays_as_it_is(own_home: Path) -> None:
    own_home.mkdir(parents=True)
    path = own_home / "networks.toml"
    path.write_text('networks = {a = {architecture = "timm:a"}}\n')
    with pytest.raises(NetworkError, match=r"edit \[networks\.new\] by hand"):
        registry.register("new", architecture="timm:b")
    assert path.read_text() == 'networks = {a = {architecture = "timm:a"}}\n'
