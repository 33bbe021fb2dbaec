"""The house rules that a machine can judge: names, sizes, docstrings, decisions, what the tree must not hold.

Who may import whom is checked by import-linter (`pyproject.toml`), layout and likely bugs by ruff. Here stands
what neither can see.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE_LINES = 600
MIN_WORDS_IN_A_TEST_NAME = 3
BAD_INPUTS_IN_THE_CATALOGUE = range(1, 146)
MIN_BAD_INPUTS_COVERED = 30

_IGNORED_FOLDERS = {".git", ".dev", "node_modules", "__pycache__", "dist", ".hypothesis", ".ruff_cache"}
_TEXT_SUFFIXES = {"", ".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".json", ".sql", ".html", ".css", ".ts"}
_SQL_METHODS = {"all", "one", "run"}

# Written in pieces, so that this file does not hold what it looks for.
_REGISTRY_HOSTS = ["pypi" + ".org", "python" + "hosted.org", "registry.npm" + "js", "crates" + ".io"]
_MACHINE_PATH = re.compile("(?<![\\w.])/(?:ro" + "ot|wo" + "rk|Use" + "rs|ho" + "me)/\\w")
_UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|NotImplemented" + r"Error)\b")


def _files(*suffixes: str) -> list[Path]:
    found = (path for path in ROOT.rglob("*") if path.is_file() and path.suffix in suffixes)
    return sorted(path for path in found if not _IGNORED_FOLDERS & set(path.relative_to(ROOT).parts))


def _sources() -> list[Path]:
    return _files(".py")


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _test_functions() -> Iterator[tuple[str, str]]:
    for path in _sources():
        if path.name.startswith("test_"):
            for node in ast.walk(_parse(path)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                    yield _name(path), node.name


def test_every_module_opens_with_a_docstring_unless_its_tests_are_its_sentences() -> None:
    modules = (path for path in _sources() if not path.name.startswith("test_"))

    bare = [_name(path) for path in modules if not ast.get_docstring(_parse(path))]

    assert bare == []


def test_init_files_hold_a_docstring_and_nothing_else() -> None:
    packages = [path for path in _sources() if path.name == "__init__.py"]
    allowed = {"heliograph/__init__.py": 2}  # the version, where hatchling looks for it

    fuller = [_name(path) for path in packages if len(_parse(path).body) > allowed.get(_name(path), 1)]

    assert fuller == []


def test_no_source_file_outgrows_one_idea() -> None:
    lengths = {_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in _sources()}

    assert {name: length for name, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_the_names_of_tests_are_sentences() -> None:
    short = [
        f"{file}: {name}"
        for file, name in _test_functions()
        if len(name.removeprefix("test_").split("_")) < MIN_WORDS_IN_A_TEST_NAME
    ]

    assert short == []


def test_every_decision_is_linked_from_the_list_of_decisions() -> None:
    folder = ROOT / "docs" / "adr"
    listed = (folder / "README.md").read_text(encoding="utf-8")

    unlisted = [path.name for path in sorted(folder.glob("[0-9]*.md")) if f"({path.name})" not in listed]

    assert unlisted == []


def test_every_relative_link_in_the_documents_leads_somewhere() -> None:
    broken = [
        f"{_name(path)}: {target}"
        for path in _files(".md")
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
        if "://" not in target and not (path.parent / target).exists()
    ]

    assert broken == []


def test_the_tree_names_no_machine_and_no_package_registry() -> None:
    places = [
        f"{_name(path)}: {line.strip()[:100]}"
        for path in _files(*_TEXT_SUFFIXES)
        for line in path.read_text(encoding="utf-8").splitlines()
        if _MACHINE_PATH.search(line) or any(host in line for host in _REGISTRY_HOSTS)
    ]

    assert places == []


def test_nothing_is_marked_as_unfinished() -> None:
    marks = [
        f"{_name(path)}: {line.strip()[:100]}"
        for path in _files(".py", ".sql", ".html", ".toml")
        for line in path.read_text(encoding="utf-8").splitlines()
        if _UNFINISHED.search(line)
    ]

    assert marks == []


def test_pure_modules_never_read_the_clock_through_datetime() -> None:
    pure = [ROOT / "heliograph" / name for name in ("mls", "tlog", "content", "wire")]
    readings = [
        f"{_name(path)}:{node.lineno}"
        for path in _sources()
        if any(path.is_relative_to(folder) for folder in pure)
        for node in ast.walk(_parse(path))
        if isinstance(node, ast.Attribute) and node.attr in {"now", "utcnow", "today"}
    ]

    assert readings == []


def test_sql_is_never_formatted_from_values() -> None:
    formatted = [
        f"{_name(path)}:{node.lineno}"
        for path in _sources()
        if path.is_relative_to(ROOT / "heliograph")
        for node in ast.walk(_parse(path))
        if isinstance(node, ast.Call) and _is_sql_call(node) and _is_computed_text(node.args[0])
    ]

    assert formatted == []


def _is_sql_call(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr in _SQL_METHODS and bool(call.args)


def _is_computed_text(node: ast.expr) -> bool:
    """Tell whether text is put together from anything but literals and the module's constants."""
    if isinstance(node, ast.JoinedStr):
        return not all(_is_constant(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return not _is_constant(node)
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format"


def _is_constant(node: ast.expr) -> bool:
    if isinstance(node, ast.FormattedValue):
        return _is_constant(node.value)
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Add) and _is_constant(node.left) and _is_constant(node.right)
    if isinstance(node, ast.JoinedStr):
        return all(_is_constant(part) for part in node.values)
    return isinstance(node, ast.Constant) or (isinstance(node, ast.Name) and node.id.isupper())


def test_bad_inputs_bear_their_number_in_the_catalogue_and_enough_are_covered() -> None:
    numbers = {
        argument.value
        for path in _sources()
        for node in ast.walk(_parse(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "bad_input"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }

    assert numbers <= set(BAD_INPUTS_IN_THE_CATALOGUE)
    assert len(numbers) >= MIN_BAD_INPUTS_COVERED


@pytest.mark.parametrize(
    "planted", ["f'SELECT {x}'", "'SELECT ' + x", "'SELECT %s' % X", "'{}'.format(x)", "f'{_ROWS} LIMIT {n}'"]
)
def test_the_search_for_formatted_sql_finds_a_planted_one(planted: str) -> None:
    call = ast.parse(f"reader.all({planted})", mode="eval").body

    assert isinstance(call, ast.Call)
    assert _is_sql_call(call)
    assert _is_computed_text(call.args[0])
