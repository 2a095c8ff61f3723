"""Rooms of `research/` import only rooms above them, and no module is in a circle of imports."""

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "research"
# A room imports from rooms before it, and from modules of `research/` that import no room.
ROOMS = (
    "config",
    "data",
    "models",
    "optimizers",
    "tasks",
    "training",
    "diagnostics",
    "tuning",
    "reporting",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(tree: ast.AST, name: str, is_package: bool, modules) -> set[str]:
    """Return the modules of the package that a source imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                parents = name.split(".")
                parents = parents[: len(parents) + is_package - node.level]
                origin = ".".join([*parents, origin]).rstrip(".")
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                found.add(inner if inner in modules else origin)
    return (found & set(modules)) - {name}


def graph_of(sources: dict[Path, str]) -> dict[str, set[str]]:
    modules = {module_name(path): path for path in sources}
    return {
        name: imports_of(ast.parse(sources[path]), name, path.name == "__init__.py", modules)
        for name, path in modules.items()
    }


@pytest.fixture(scope="module")
def sources() -> dict[Path, str]:
    return {path: path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


@pytest.fixture(scope="module")
def graph(sources) -> dict[str, set[str]]:
    return graph_of(sources)


def room_of(module: str) -> str | None:
    """Return the room of a module; None for the modules of `research/` itself."""
    _, *parts = module.split(".")
    return parts[0] if parts and parts[0] in ROOMS else None


def reachable(graph: dict[str, set[str]], module: str) -> set[str]:
    """Return all modules that a module imports, directly or through others."""
    seen, todo = set(), [module]
    while todo:
        new = graph[todo.pop()] - seen
        seen |= new
        todo += new
    return seen


def out_of_order(graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Return the imports of rooms that go to later rooms, or to modules that import rooms."""
    found = set()
    for module, imported in graph.items():
        room = room_of(module)
        for other in imported if room else ():
            if room_of(other):
                wrong = ROOMS.index(room_of(other)) > ROOMS.index(room)
            else:
                wrong = any(map(room_of, reachable(graph, other)))
            if wrong:
                found.add((module, other))
    return found


def in_circles(graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Return the imports that are part of a circle."""
    return {
        (module, other)
        for module, imported in graph.items()
        for other in imported
        if module in reachable(graph, other)
    }


def test_every_folder_of_modules_is_a_room():
    folders = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    assert folders <= set(ROOMS)


def test_a_room_imports_only_rooms_above_it(graph):
    assert out_of_order(graph) == set()


def test_modules_import_each_other_in_no_circle(graph):
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names a circle
    assert in_circles(graph) == set()


def test_no_room_imports_an_entry_point(graph, sources):
    entry_points = {
        module_name(path) for path, text in sources.items() if '__name__ == "__main__"' in text
    }
    assert "research.search" in entry_points
    found = {
        (module, other)
        for module, imported in graph.items()
        if room_of(module)
        for other in imported & entry_points
    }
    assert found == set()


def test_violations_are_found():
    """The rules themselves, on sources that break each of them."""
    texts = {
        "errors.py": "",
        "names.py": "from research.errors import UserError",
        "main.py": "from research.training import loop\nif __name__ == '__main__': pass",
        "data/feed.py": "def f():\n    from research.training import loop",
        "data/labels.py": "import research.data.sources",
        "data/sources.py": "from . import labels\nfrom ..errors import UserError",
        "training/__init__.py": "from .loop import fit",
        "training/loop.py": "from research import main, names\nfrom research.data.feed import x",
    }
    graph = graph_of({PACKAGE / path: text for path, text in texts.items()})
    assert graph["research.data.sources"] == {"research.data.labels", "research.errors"}
    assert graph["research.training"] == {"research.training.loop"}
    assert out_of_order(graph) == {
        ("research.data.feed", "research.training.loop"),
        ("research.training.loop", "research.main"),
    }
    circles = in_circles(graph)
    assert ("research.data.labels", "research.data.sources") in circles
    assert ("research.training.loop", "research.data.feed") in circles
    assert ("research.training.loop", "research.names") not in circles
