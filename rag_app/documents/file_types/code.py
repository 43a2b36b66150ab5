"""Reader of source code: as it is, its definitions told (tree-sitter, extra ``code``)."""

from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from rag_app.documents.file_types.base import FileReader, text_of
from rag_app.documents.file_types.limits import Budget

_GRAMMARS = {
    **dict.fromkeys((".py", ".pyi"), ("tree_sitter_python", "language")),
    **dict.fromkeys((".js", ".jsx", ".mjs", ".cjs"), ("tree_sitter_javascript", "language")),
    ".ts": ("tree_sitter_typescript", "language_typescript"),
    ".tsx": ("tree_sitter_typescript", "language_tsx"),
    ".java": ("tree_sitter_java", "language"),
    ".go": ("tree_sitter_go", "language"),
    ".rs": ("tree_sitter_rust", "language"),
    **dict.fromkeys((".c", ".h"), ("tree_sitter_c", "language")),
    **dict.fromkeys((".cc", ".cpp", ".hpp"), ("tree_sitter_cpp", "language")),
    ".cs": ("tree_sitter_c_sharp", "language"),
    ".rb": ("tree_sitter_ruby", "language"),
}
_DEFINITIONS = (
    *("function", "method", "class", "interface", "struct", "enum", "trait", "impl", "module"),
    *("namespace", "constructor", "record", "type"),
)
_NODES = {
    *(f"{kind}_{what}" for kind in _DEFINITIONS for what in ("definition", "declaration", "item")),
    *("class_specifier", "struct_specifier", "enum_specifier", "namespace_definition"),
    *("class", "module", "method", "singleton_method", "mod_item", "impl_item"),
    *("generator_function_declaration", "abstract_class_declaration", "type_alias_declaration"),
}
"""What a definition is called in the grammars."""

_MAX_DEFINITIONS = 100_000
_MAX_DEPTH = 200


class CodeReader(FileReader):
    """Source code as it is; nodes are cut between definitions, and know their names and lines.

    Without the extra, and in other languages, it is text.
    """

    def extract(self, file: Path, budget: Budget) -> tuple[str, str | None]:
        """Return the file's text; its definitions are places."""
        text = text_of(file)
        budget.check_text(len(text))
        if parser := _parser(file.suffix.lower()):
            budget.places += _places(parser.parse(text.encode("utf-8", "replace")), text, budget)
        return text, None


@lru_cache(maxsize=len(_GRAMMARS))
def _parser(suffix: str) -> Any:
    """Return a parser for the language of a suffix, None without one."""
    if suffix not in _GRAMMARS:
        return None
    module, name = _GRAMMARS[suffix]
    try:
        from tree_sitter import Language, Parser

        return Parser(Language(getattr(import_module(module), name)()))
    except ImportError:
        return None


def _places(tree: Any, text: str, budget: Budget) -> list[tuple[int, str, str, int]]:
    """Return where definitions begin, and where what is behind them goes on with what is around."""
    is_ascii = text.isascii()
    data = b"" if is_ascii else text.encode("utf-8", "replace")
    found: list[tuple[int, str, str, int]] = []
    if tree.root_node.end_byte:
        found.append((0, "", "line", 1))
    at = behind = 0
    for start, line, names in _boundaries(tree.root_node, budget):
        if not is_ascii:
            # Characters up to here, counted on from the last place.
            at += len(data[behind:start].decode("utf-8", "replace"))
            behind = start
            start = at
        if found and found[-1][0] == start:
            found.pop()
        found.append((start, " › ".join(names), "line", line))
        if len(found) > _MAX_DEFINITIONS:
            break
    return found


def _boundaries(root: Any, budget: Budget) -> Iterator[tuple[int, int, list[str]]]:
    """Yield byte, line and enclosing names of each definition, and of each end of one."""
    waiting: list[tuple[Any, list[str], int]] = [(root, [], 0)]
    ends: list[tuple[int, int, list[str]]] = []
    while waiting:
        budget.tick()
        node, names, depth = waiting.pop()
        if node.type in _NODES and node.is_named and (name := _name(node)):
            begin = _begin(node)
            while ends and ends[-1][0] <= begin.start_byte:
                yield ends.pop()
            yield begin.start_byte, begin.start_point[0] + 1, [*names, name]
            ends.append((node.end_byte, node.end_point[0] + 1, names))
            names = [*names, name]
        if depth < _MAX_DEPTH:
            waiting += [(child, names, depth + 1) for child in reversed(node.children)]
    while ends:
        yield ends.pop()


def _begin(node: Any) -> Any:
    """Return the node with its decorators and the comments right above it."""
    parent = node.parent
    if parent is not None and parent.type in {"decorated_definition", "export_statement"}:
        node = parent
    while (before := node.prev_sibling) is not None and "comment" in before.type:
        if before.end_point[0] + 1 < node.start_point[0]:
            break
        node = before
    return node


def _name(node: Any) -> str:
    named = node.child_by_field_name("name")
    declarator = node.child_by_field_name("declarator")
    while named is None and declarator is not None:  # C: the name is inside of what is declared
        inner = declarator.child_by_field_name("declarator")
        if inner is None:
            named = declarator
        declarator = inner
    named = named or node.child_by_field_name("type")  # of Rust's implementations
    text = named.text.decode("utf-8", "replace") if named is not None else ""
    return " ".join(text.split())[:100]
