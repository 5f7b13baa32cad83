"""Projection: a tick reduced to some of its members, whose values stay byte for byte as they were published.

A decoder that knows the paths walks the tick once. It skips members that are not selected and takes selected ones as
slices of the tick (``Raw``), without parsing them: no digit of a number, no escape and no space inside a value can
change. Python code only drops values that a path cannot go through. Names and punctuation on the way to a value are
written anew: names without needless escapes, no spaces between tokens, in the tick's own order. Of duplicate members
the last one counts, as for nearly every reader, at the place of the first.

Pure: bytes in, bytes out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, TypedDict

from msgspec import Raw
from msgspec.json import Decoder, Encoder

from .tick import escape_line_ends

Tree = dict[str, "Tree | None"]  # what to keep of an object; None: the whole member

_MOST_TYPES: Final = 16  # object types on a view's paths; making one takes 0.1 ms
_OBJECTS_ALONE: Final = {dict}
_SCALAR: Final[Any] = None | bool | int | float | str  # what a path cannot go through: decoded only to be dropped
_new_type: Final[Any] = TypedDict
_encode: Final = Encoder().encode


def _place(members: Any) -> Decoder[Any]:
    """A decoder for one place of the tick: an object with these members, or arrays of them up to two deep; deeper
    arrays stay slices."""
    array: Any = list
    one = members | _SCALAR
    return Decoder(one | array[one | array[one | array[Raw]]])


_ANY_MEMBERS: Final = _place(dict[str, Raw])


def project(data: bytes, fields: tuple[str, ...]) -> bytes:
    """Reduce a tick to these members; paths go through objects and each element of arrays, and ``t`` always stays.

    Args:
        data: a tick accepted by ``tick.parse``.
        fields: dotted paths.
    """
    return escape_line_ends(_encode(_root(fields).cut(data)))  # names are written anew, without their escapes


class _Node:
    """A place in the tick that paths lead to or through.

    Attributes:
        names: the members to keep of an object at this place.
        below: those of them that paths go through.
        typed: decoded objects have no other members, down to the ends of the paths. Otherwise all members are slices,
            decoded when they are reached.
    """

    def __init__(self, tree: Tree, typed: bool) -> None:
        self.names = frozenset(tree)
        self.below = {name: _Node(inner, typed) for name, inner in tree.items() if inner is not None}
        self.typed = typed
        self.decoder = _ANY_MEMBERS
        if typed:
            members = {name: self.below[name].decoder.type if name in self.below else Raw for name in tree}
            self.decoder = _place(_new_type("Members", members, total=False))

    def cut(self, data: bytes) -> object:
        """The part of a tick to keep: dicts and lists with slices in them."""
        root: Any = self.decoder.decode(data)
        todo: list[tuple[Any, _Node]] = [(root, self)]  # not recursive: ticks may be deep
        while todo:
            held, node = todo.pop()
            if type(held) is dict:
                node._cut_object(held, todo)
            elif not node.typed or node.below or set(map(type, held)) != _OBJECTS_ALONE:
                node._cut_array(held, todo)
        return root

    def _cut_object(self, held: dict[str, Any], todo: list[tuple[Any, _Node]]) -> None:
        if not self.typed:
            for name in held.keys() - self.names:
                del held[name]
        for name, node in self.below.items():
            if name in held:
                member = node._decoded(held[name])
                if type(member) is dict or type(member) is list:
                    held[name] = member
                    todo.append((member, node))
                else:
                    del held[name]

    def _cut_array(self, held: list[Any], todo: list[tuple[Any, _Node]]) -> None:
        kept = [element for element in map(self._decoded, held) if type(element) is dict or type(element) is list]
        held[:] = kept
        todo += [(element, self) for element in kept]

    def _decoded(self, value: Any) -> Any:
        return self.decoder.decode(value) if type(value) is Raw else value


@lru_cache(maxsize=256)
def _root(fields: tuple[str, ...]) -> _Node:
    tree = _tree(fields)
    # Members whose names are not ASCII are never found in a typed object (msgspec 0.22).
    return _Node(tree, _count(tree) <= _MOST_TYPES and all(path.isascii() for path in fields))


def _tree(fields: tuple[str, ...]) -> Tree:
    """The members to keep, as a tree that always includes ``t``."""
    root: Tree = {"t": None}
    for path in fields:
        _add(root, path.split("."))
    return root


def _add(tree: Tree, names: list[str]) -> None:
    """Add a path, unless a shorter path already keeps a whole member on its way."""
    *outer, last = names
    for name in outer:
        inner = tree.setdefault(name, {})
        if inner is None:
            return
        tree = inner
    tree[last] = None


def _count(tree: Tree) -> int:
    return 1 + sum(_count(inner) for inner in tree.values() if inner is not None)
