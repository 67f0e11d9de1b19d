"""The package's own source, parsed but not imported, comes in; the direction of its imports is judged.
A module may import only from those above it in `ORDER`, and some outside packages only from some places."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "nemo_tabular"

# The pipeline, top to bottom. Names on one line may know each other.
ORDER = [
    ["errors"],
    ["unpickling"],
    ["config"],
    ["schema", "profile"],
    ["readers"],
    ["codecs"],
    ["tokenizer"],
    ["nemo_import"],
    ["store"],
    ["uniforms"],
    ["orders"],
    ["batches"],
    ["engine"],
    ["features", "testing"],
    ["models"],
    ["train"],
    ["plan"],
    ["generate"],
    ["evaluate"],
    ["slurm"],
    ["synthesizer"],
    ["cli"],
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
PICKLES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}

FILES = sorted(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py"))


def stage(file: str) -> str:
    """`nemo_tabular/codecs/digits.py` -> `codecs`; `nemo_tabular/__init__.py` -> ``."""
    parts = Path(file).with_suffix("").parts[1:]
    return "" if parts == ("__init__",) else parts[0]


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def run_time_nodes(node: ast.AST, in_functions: bool) -> Iterator[ast.AST]:
    """Every node but those under `if TYPE_CHECKING`: a name in an annotation is not a dependency."""
    yield node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not in_functions:
        return
    children = node.orelse if is_type_checking(node) else ast.iter_child_nodes(node)
    for child in children:
        yield from run_time_nodes(child, in_functions)


@cache
def imports(file: str, in_functions: bool = True) -> list[tuple[int, str]]:
    """(line, absolute dotted name) of every import in a file, by default those inside functions too."""
    found: list[tuple[int, str]] = []
    package = Path(file).parent.parts
    for node in run_time_nodes(ast.parse((ROOT / file).read_text(encoding="utf-8")), in_functions):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*start, *([node.module] if node.module else [])])
            found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
    return found


def test_every_stage_has_its_place_in_the_order():
    unknown = {stage(file) for file in FILES} - set(RANK) - {""}
    assert not unknown, f"say in ORDER of {Path(__file__).name} where in the pipeline these stand: {unknown}"


@pytest.mark.parametrize("file", FILES)
def test_imports_point_one_way(file):
    own = RANK.get(stage(file), len(ORDER))
    for line, name in imports(file):
        top, _, rest = name.partition(".")
        if top != "nemo_tabular" or rest in ("", "__version__"):
            continue
        target = rest.split(".")[0]
        allowed = RANK.get(target, len(ORDER)) <= own
        assert allowed, f"{file}:{line} imports {name}, which stands below it in ORDER"


@pytest.mark.parametrize("file", FILES)
def test_outside_packages_stay_where_they_belong(file):
    for line, name in imports(file):
        top = name.split(".")[0]
        where = f"{file}:{line} imports {name}"
        if top == "megatron":
            assert stage(file) == "engine", f"{where}: only nemo_tabular/engine may"
        if top == "torch":
            assert RANK.get(stage(file), -1) >= RANK["batches"], f"{where}: torch begins in batches"
        if top in PICKLES:
            assert stage(file) == "unpickling", f"{where}: no pickle is written, none is trusted"


def test_files_do_not_import_each_other_in_circles():
    """Between the files of one stage either. A function may import late what is built on its own file."""
    modules = {file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): file for file in FILES}

    def targets(file: str) -> set[str]:
        names = {
            name for _, full in imports(file, in_functions=False) for name in (full, full.rpartition(".")[0])
        }
        return {modules[name] for name in names if name in modules and modules[name] != file}

    done: set[str] = set()

    def visit(file: str, path: tuple[str, ...]) -> None:
        assert file not in path, f"circle: {' -> '.join((*path[path.index(file) :], file))}"
        if file not in done:
            for target in sorted(targets(file)):
                # The package's own __init__ stands last in the order but every import runs it first.
                if target != "nemo_tabular/__init__.py":
                    visit(target, (*path, file))
            done.add(file)

    for file in FILES:
        visit(file, ())


def test_every_outside_package_is_declared():
    """What the package imports, pyproject.toml names: a fresh machine has nothing else."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    declared = {canonical(re.split(r"[\[<>=!~; ]", text)[0]) for text in wanted}
    owners = packages_distributions()
    for file in FILES:
        for line, name in imports(file):
            top = name.split(".")[0]
            if top in sys.stdlib_module_names or top == "nemo_tabular":
                continue
            names = {canonical(owner) for owner in owners.get(top, [top])}
            assert names & declared, f"{file}:{line} imports {top}, which pyproject.toml does not declare"


def canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
