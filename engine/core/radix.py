"""A tree of token sequences: what is known of a prompt is found in the time of reading it once.

A radix tree (Morrison 1968): sequences that begin alike share a path, and an edge carries as
many tokens as have no branch between them. Thousands of prompts with one system prompt are one
edge and its children.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

Key = tuple[int, ...]


@dataclass(slots=True, eq=False)
class Node:
    """What begins with the same tokens; `edge` are those since its parent."""

    edge: Key = ()
    key: Key | None = None  # the sequence that ends here, if one does
    children: dict[int, "Node"] = field(default_factory=dict)

    def keys(self) -> Iterator[Key]:
        """Every sequence from here on."""
        left = [self]
        while left:
            node = left.pop()
            if node.key is not None:
                yield node.key
            left.extend(node.children.values())


@dataclass(frozen=True, slots=True)
class Match:
    """How far a prompt is known.

    Attributes:
        length: tokens that it has in common with some sequence, at most.
        below: every sequence from here on has them in common with it.
        beginnings: sequences that are a beginning of the prompt, the shortest first.
    """

    length: int
    below: Node
    beginnings: list[Key]


class RadixTree:
    """A set of sequences, none of them empty."""

    def __init__(self) -> None:
        self._root = Node()

    def match(self, prompt: Key) -> Match:
        """How far a prompt is known, and by which sequences."""
        node, at, beginnings = self._root, 0, list[Key]()
        while at < len(prompt) and (child := node.children.get(prompt[at])):
            shared = common(child.edge, prompt[at : at + len(child.edge)])
            at, node = at + shared, child
            if shared < len(child.edge):
                break
            if child.key is not None:
                beginnings.append(child.key)
        return Match(at, node, beginnings)

    def add(self, key: Key) -> None:
        """Take a sequence in; once is enough."""
        node, at = self._root, 0
        while at < len(key):
            child = node.children.get(key[at])
            if child is None:
                node.children[key[at]] = Node(key[at:], key)
                return
            shared = common(child.edge, key[at : at + len(child.edge)])
            if shared < len(child.edge):
                child = self._split(node, child, shared)
            node, at = child, at + shared
        node.key = key

    def remove(self, key: Key) -> None:
        """Give a sequence up.

        Raises:
            KeyError: it is not in.
        """
        path, at = [self._root], 0
        while at < len(key):
            child = path[-1].children[key[at]]
            path.append(child)
            at += len(child.edge)
        if path[-1].key != key:
            raise KeyError(key)
        path[-1].key = None
        _tidy(path[-1], path[-2])
        if len(path) > 2:  # noqa: PLR2004 - the root stays as it is
            _tidy(path[-2], path[-3])

    @staticmethod
    def _split(parent: Node, child: Node, at: int) -> Node:
        """A node in the middle of an edge."""
        middle = Node(child.edge[:at])
        child.edge = child.edge[at:]
        middle.children[child.edge[0]] = child
        parent.children[middle.edge[0]] = middle
        return middle


def _tidy(node: Node, parent: Node) -> None:
    """Drop a node that nothing needs, or let its only child take its place."""
    if node.key is not None or len(node.children) > 1:
        return
    del parent.children[node.edge[0]]
    for child in node.children.values():
        child.edge = node.edge + child.edge
        parent.children[child.edge[0]] = child


def common(left: Sequence[int], right: Sequence[int]) -> int:
    """The length of the common beginning, by halving: slices compare at C speed."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
