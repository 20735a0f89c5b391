"""Code as users have it: several files, names that are also ours, imports of every kind, networks with own weights."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fovea.models import registry, zoo
from fovea.models.errors import NetworkError
from fovea.models.network import Network
from tests.cases.conftest import INPUT, agrees, answer, images
from tests.cases.nets import small

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

Write = Callable[[str, str], Path]
Bring = Callable[..., Network]

BLOCKS = """
    from torch import nn

    def block(inputs, outputs):
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU())
"""
NET = """
    from torch import nn

    {imports}

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = {block}(3, 8)
            self.fc = nn.Linear(8, 5)

        def forward(self, x):
            return self.fc(self.stem(x).mean((2, 3)))
"""


def net(imports: str, block: str = "block") -> str:
    return NET.format(imports=imports, block=block)


LAYOUTS = {
    "beside": ({"net.py": net("from blocks import block"), "blocks.py": BLOCKS}, "net.py"),
    "beside, by module": ({"net.py": net("import blocks", "blocks.block"), "blocks.py": BLOCKS}, "net.py"),
    "beside, renamed": ({"net.py": net("import blocks as b", "b.block"), "blocks.py": BLOCKS}, "net.py"),
    "in the package": (
        {"p/__init__.py": "", "p/net.py": net("from .blocks import block"), "p/blocks.py": BLOCKS},
        "p/net.py",
    ),
    "in the parent package": (
        {
            "p/__init__.py": "",
            "p/nets/__init__.py": "",
            "p/nets/net.py": net("from ..blocks import block"),
            "p/blocks.py": BLOCKS,
        },
        "p/nets/net.py",
    ),
    "the package by its name": (
        {"models/__init__.py": "", "models/net.py": net("from models.blocks import block"), "models/blocks.py": BLOCKS},
        "models/net.py",
    ),
    "folders without an init": (
        {"models/net.py": net("from models.blocks import block"), "models/blocks.py": BLOCKS},
        "models/net.py",
    ),
    "relative without an init": ({"a/net.py": net("from .blocks import block"), "a/blocks.py": BLOCKS}, "a/net.py"),
    "two dots without an init": (
        {"a/b/net.py": net("from ..blocks import block"), "a/blocks.py": BLOCKS},
        "a/b/net.py",
    ),
    "a neighbour of the package": (
        {"models/__init__.py": "", "models/net.py": net("from utils.blocks import block"), "utils/blocks.py": BLOCKS},
        "models/net.py",
    ),
    "a neighbour of the folder": (
        {"nets/net.py": net("from utils.blocks import block"), "utils/blocks.py": BLOCKS},
        "nets/net.py",
    ),
    "beside in a package, absolute": (
        {"p/__init__.py": "", "p/net.py": net("from blocks import block"), "p/blocks.py": BLOCKS},
        "p/net.py",
    ),
    "through the init": (
        {"p/__init__.py": "from .blocks import block", "p/net.py": net("from . import block"), "p/blocks.py": BLOCKS},
        "p/net.py",
    ),
    "an init that fails": (
        {"p/__init__.py": "import nobody_has_this", "p/net.py": net("from blocks import block"), "p/blocks.py": BLOCKS},
        "p/net.py",
    ),
    "a module of the package": (
        {"p/__init__.py": "", "p/net.py": net("from p import blocks", "blocks.block"), "p/blocks.py": BLOCKS},
        "p/net.py",
    ),
    "import_module": (
        {
            "net.py": net("import importlib\n    blocks = importlib.import_module('blocks')", "blocks.block"),
            "blocks.py": BLOCKS,
        },
        "net.py",
    ),
    "import_module, relative": (
        {
            "p/__init__.py": "",
            "p/net.py": net(
                "from importlib import import_module\n    blocks = import_module('.blocks', __package__)",
                "blocks.block",
            ),
            "p/blocks.py": BLOCKS,
        },
        "p/net.py",
    ),
    "sys.path": (
        {
            "nets/net.py": net(
                "import os, sys\n    sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', 'lib'))\n"
                "    from blocks import block"
            ),
            "lib/blocks.py": BLOCKS,
        },
        "nets/net.py",
    ),
    "late": (
        {
            "net.py": net("").replace("self.stem = ", "from blocks import block\n            self.stem = "),
            "blocks.py": BLOCKS,
        },
        "net.py",
    ),
    "the package itself": ({"p/__init__.py": net("from .blocks import block"), "p/blocks.py": BLOCKS}, "p/__init__.py"),
    "the package by its folder": ({"p/__init__.py": net("from .blocks import block"), "p/blocks.py": BLOCKS}, "p"),
    "a name that is no identifier": (
        {"my-net.v2.py": net("from blocks import block"), "blocks.py": BLOCKS},
        "my-net.v2.py",
    ),
    "a name of the standard library": ({"net.py": net("from sched import block"), "sched.py": BLOCKS}, "net.py"),
    **{
        f"called {name}": ({"net.py": net(f"from {name} import block"), f"{name}.py": BLOCKS}, "net.py")
        for name in ("models", "engine", "utils", "pages", "app", "fovea_net", "tests", "benchmarks")
    },
    **{
        f"a package called {name}": (
            {"net.py": net(f"from {name}.blocks import block"), f"{name}/__init__.py": "", f"{name}/blocks.py": BLOCKS},
            "net.py",
        )
        for name in ("models", "engine", "utils", "pages", "timm")
    },
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_code_in_several_files(layout: str, write: Write, bring: Bring, tmp_path: Path) -> None:
    files, named = LAYOUTS[layout]
    for name, code in files.items():
        write(name, code)
    torch.manual_seed(3)
    stem = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU())
    fc = torch.nn.Linear(8, 5)
    state = {
        **{f"stem.{k}": v for k, v in stem.state_dict().items()},
        **{f"fc.{k}": v for k, v in fc.state_dict().items()},
    }
    torch.save(state, tmp_path / "w.pth")
    before, paths = set(sys.modules), list(sys.path)
    network = bring(architecture=f"{tmp_path / 'user' / named}:Net", weights=str(tmp_path / "w.pth"))
    with torch.no_grad():
        truth = fc(stem(images()).mean((2, 3)))
    assert agrees(network, truth)
    assert sys.path == paths
    own = {name for name in set(sys.modules) - before if not name.startswith("_fovea_user_")}
    assert not {name for name in own if name.split(".")[0] in {*files, "blocks", "models", "engine", "utils", "pages"}}
    assert sys.modules["fovea.models.zoo"] is zoo


@pytest.mark.parametrize("missing", ["models.blocks", "engine.nobody", "pages", "app", "tests.nobody"])
def test_ours_are_never_taken_for_theirs(
    missing: str, write: Write, bring: Bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(zoo.__file__).resolve().parents[1]))
    path = write("net.py", net(f"import {missing}"))
    before = set(sys.modules)
    with pytest.raises(NetworkError) as caught:
        bring(architecture=f"{path}:Net")
    assert f"No module named '{missing.split('.')[0]}" in str(caught.value)
    assert "_fovea_user_" not in str(caught.value)
    ours = {"models", "engine", "pages", "app"}
    assert not ours & {name.split(".")[0] for name in set(sys.modules) - before}


def test_two_users_files_do_not_share_a_sibling(write: Write, own_home: Path) -> None:
    answers = []
    for user, bias in (("a", 1.0), ("b", 2.0)):
        write(f"{user}/blocks.py", f"BIAS = {bias}")
        code = """
            import torch
            from torch import nn
            import blocks

            class Net(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.fc = nn.Linear(3, 2)

                def forward(self, x):
                    import blocks as late
                    return self.fc(x.mean((2, 3))) * 0 + blocks.BIAS + 10 * late.BIAS
        """
        registry.register(user, architecture=f"{write(f'{user}/net.py', code)}:Net", input=INPUT)
    first, second = zoo.load("a").module(), zoo.load("b").module()
    answers = [float(module(images())[0, 0]) for module in (first, second, first)]
    assert answers == [11.0, 22.0, 11.0]


def test_imports_inside_of_forward_work_in_any_thread(write: Write, bring: Bring) -> None:
    write("utils/__init__.py", "")
    write("utils/late.py", "from . import later\nSCALE = later.SCALE")
    write("utils/later.py", "SCALE = 3.0")
    code = """
        from torch import nn

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(3, 2)

            def forward(self, x):
                if x.shape[0] == 7:  # not while it is registered
                    from utils.late import SCALE
                    return self.fc(x.mean((2, 3))) * 0 + SCALE
                return self.fc(x.mean((2, 3)))
    """
    module = bring(architecture=f"{write('net.py', code)}:Net").module()
    found: list[float] = []

    def run() -> None:
        found.append(float(module(torch.zeros(7, 3, 16, 16))[0, 0]))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [3.0] * 8
    assert "utils" not in sys.modules


def test_an_edited_sibling_is_noticed(write: Write, bring: Bring) -> None:
    for value in (1.0, 2.0, 3.0):
        write("lib/__init__.py", "")
        write("lib/inner.py", f"SHIFT = {value}")
        write("blocks.py", "def shift():\n    from lib.inner import SHIFT\n    return SHIFT")
        code = """
            from torch import nn
            import blocks

            class Net(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.fc = nn.Linear(3, 2)

                def forward(self, x):
                    return self.fc(x.mean((2, 3))) * 0 + blocks.shift()
        """
        path = write("net.py", code) if value == 1.0 else path  # noqa: F821
        if value > 1.0:
            assert zoo.cached_card("mine") is None
        network = bring(architecture=f"{path}:Net")
        assert float(network.module()(images())[0, 0]) == value
        assert zoo.cached_card("mine") is not None


@pytest.mark.parametrize(
    "line",
    [
        "from torchvision.models.resnet import BasicBlock",
        "from torchvision.ops import StochasticDepth, nms, SqueezeExcitation",
        "from torchvision import transforms, io, datasets",
        "from torchvision.transforms import v2",
        "import torchvision.models.detection",
        "from torchvision.models import resnet18, ResNet18_Weights",
    ],
)
def test_any_part_of_torchvision(line: str, write: Write, bring: Bring) -> None:
    write("blocks.py", BLOCKS + f"\n    {line}\n")
    assert bring(architecture=f"{write('net.py', net('from blocks import block'))}:Net").card.layers


# --- what the name stands for, and whose weights are used ----------------------------------------------------

OWN = """
    from pathlib import Path

    import torch
    from torch import nn
    from nets import Small, small

    WEIGHTS = Path(__file__).with_name("w.pth")


    class Loads(Small):
        def __init__(self):
            super().__init__()
            self.load_state_dict(torch.load(WEIGHTS))


    def build():
        net = Small()
        net.load_state_dict(torch.load(WEIGHTS))
        return net.eval()


    def from_argument(path, num_classes=5):
        net = Small(num_classes)
        net.load_state_dict(torch.load(path))
        return net


    def fresh():
        return Small()


    def parallel():
        return nn.DataParallel(build())


    def compiled():
        return torch.compile(build())


    def half_loaded():
        net = build()
        net.fc = nn.Linear(16, 4)
        return net


    def traced():
        return torch.jit.trace(build(), torch.zeros(1, 3, 16, 16))


    def relative():
        return torch.load("nowhere.pth")


    class Factory:
        @staticmethod
        def make():
            return build()

        def __call__(self):
            return build()


    model = build()
    untrained = Small()
    factory = Factory()
    script = torch.jit.script(build())
    number = 3
"""


@pytest.fixture
def own(write: Write, net_py: Path) -> Path:
    net_py.rename(net_py.with_name("nets.py"))
    torch.save(small().state_dict(), net_py.with_name("w.pth"))
    return write("own.py", OWN)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["build", "Loads", "model", "parallel", "compiled", "factory", "traced", "script"])
def test_what_the_code_loaded_is_used_as_it_is(name: str, own: Path, bring: Bring, truth: Tensor) -> None:
    network = bring(architecture=f"{own}:{name}")
    assert agrees(network, truth)
    assert not network.card.random
    assert network.card.weights == "as built"
    assert f"The weights are used as {name} made them." in network.card.notes
    sha = network.card.sha256
    zoo.forget()
    assert zoo.load("mine").card.sha256 == sha


def test_weights_from_an_argument(own: Path, bring: Bring, truth: Tensor) -> None:
    network = bring(architecture=f"{own}:from_argument", arguments={"path": str(own.with_name("w.pth"))})
    assert agrees(network, truth)
    torch.save(small(7).state_dict(), own.with_name("w.pth"))
    assert zoo.cached_card("mine") is None
    assert agrees(zoo.load("mine"), answer(small(7)))


@pytest.mark.parametrize("name", ["fresh", "untrained"])
def test_where_nothing_was_loaded_the_weights_are_random_and_told(name: str, own: Path, bring: Bring) -> None:
    network = bring(architecture=f"{own}:{name}")
    assert network.card.random
    assert network.card.weights == "random"
    sha = network.card.sha256
    zoo.forget()
    assert zoo.load("mine").card.sha256 == sha


def test_random_where_it_is_asked_for(own: Path, bring: Bring, truth: Tensor) -> None:
    network = bring(architecture=f"{own}:build", random=True)
    assert network.card.random
    assert not agrees(network, truth)
    with pytest.raises(NetworkError, match="random is true, but weights names a file"):
        bring(architecture=f"{own}:build", random=True, weights=str(own.with_name("w.pth")))


def test_what_was_loaded_in_part_is_told(own: Path, bring: Bring) -> None:
    network = bring(architecture=f"{own}:half_loaded")
    assert network.module().state_dict()["conv1.weight"].equal(small().state_dict()["conv1.weight"])
    assert not network.card.random
    assert any("2 of its 13 tensors were loaded from nowhere" in note for note in network.card.notes)
    sha = network.card.sha256
    zoo.forget()
    assert zoo.load("mine").card.sha256 == sha


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["Loads", "build", "model", "untrained"])
def test_a_file_of_weights_comes_before_the_codes_own(name: str, own: Path, bring: Bring, tmp_path: Path) -> None:
    torch.save({"net": small(7).state_dict()}, tmp_path / "other.pth")
    network = bring(architecture=f"{own}:{name}", weights=str(tmp_path / "other.pth"))
    assert agrees(network, answer(small(7)))


def test_a_module_in_the_file_stays_as_it_was(own: Path, bring: Bring) -> None:
    bring(architecture=f"{own}:model")
    user = next(m for name, m in sys.modules.items() if name.endswith(".own") and m.__file__ == str(own))
    assert all(p.requires_grad for p in user.model.parameters())
    assert not user.model.conv1._forward_hooks


@pytest.mark.parametrize(
    ("name", "arguments", "line"),
    [
        ("number", {}, "is an object of type int: it must be a class, a function or a torch.nn.Module"),
        ("model", {"width": 3}, "is a module already: it takes no arguments (width)"),
        ("relative", {}, "let the code name it by Path(__file__).with_name"),
        ("modell", {}, "did you mean model"),
    ],
)
def test_mistakes(name: str, arguments: dict[str, int], line: str, own: Path, bring: Bring) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        bring(architecture=f"{own}:{name}", arguments=arguments)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_script_that_ends_the_program(write: Write, bring: Bring) -> None:
    path = write("train.py", "import sys\nsys.exit(3)")
    with pytest.raises(NetworkError, match=r"ends the program when it is \(3\): keep what a script does below"):
        bring(architecture=f"{path}:Net")


def test_the_generators_of_random_numbers_stay_where_they_were(own: Path, bring: Bring) -> None:
    torch.manual_seed(11)
    wanted = torch.rand(1)
    torch.manual_seed(11)
    bring(architecture=f"{own}:fresh")
    assert torch.rand(1).equal(wanted)


def test_nothing_is_left_in_the_users_folders(own: Path, bring: Bring) -> None:
    bring(architecture=f"{own}:build")
    assert not list(own.parent.rglob("__pycache__"))


@pytest.mark.parametrize("name", ["traced", "script"])
def test_torchscript_works_where_no_layer_is_needed_and_says_so_elsewhere(
    name: str, own: Path, bring: Bring, truth: Tensor, tmp_path: Path
) -> None:
    from PIL import Image

    from fovea.engine.errors import FoveaError
    from fovea.engine.run.execute import execute
    from fovea.engine.run.record import Request
    from fovea.engine.store import Store

    network = bring(architecture=f"{own}:{name}")
    assert network.card.layers == ()
    graph = network.graph()
    assert graph.taps
    Image.new("RGB", (16, 16), (200, 80, 30)).save(tmp_path / "photo.png")
    options = {"occlusion": {"window": 4, "stride": 4}, "adversarial": {"steps": 2}}
    for method in ("classify", "occlusion", "saliency", "adversarial"):
        request = Request(
            method=method, network="mine", image=str(tmp_path / "photo.png"), options=options.get(method, {})
        )
        assert execute(request, Store()).status == "done", method
    for method in ("activations", "gradcam", "patches", "filters"):
        options["patches"] = {"dataset": "sample"}
        with pytest.raises(FoveaError, match="has no "):
            execute(
                Request(
                    method=method, network="mine", image=str(tmp_path / "photo.png"), options=options.get(method, {})
                ),
                Store(),
            )
