"""The arithmetic of the array tree."""

from collections.abc import Callable

import pytest

from heliograph.mls import tree_math
from heliograph.mls.tree_math import LeafIndex, NodeIndex
from tests import vectors


def or_none(function: Callable[..., NodeIndex], *arguments: int) -> NodeIndex | None:
    try:
        return function(*arguments)
    except ValueError:
        return None


@pytest.mark.rule("RFC 9420 Appendix C")
def test_official_trees_have_the_same_relations():
    for case in vectors.cases("mls/tree-math.json"):
        leaves, nodes = case["n_leaves"], range(case["n_nodes"])
        assert tree_math.node_count(leaves) == case["n_nodes"]
        assert tree_math.root(leaves) == case["root"]
        assert [or_none(tree_math.left, node) for node in nodes] == case["left"]
        assert [or_none(tree_math.right, node) for node in nodes] == case["right"]
        assert [or_none(tree_math.parent, node, leaves) for node in nodes] == case["parent"]
        assert [or_none(tree_math.sibling, node, leaves) for node in nodes] == case["sibling"]


def test_the_direct_path_goes_up_to_the_root_and_the_copath_beside_it():
    assert tree_math.direct_path(NodeIndex(10), 8) == (9, 11, 7)
    assert tree_math.copath(NodeIndex(10), 8) == (8, 13, 3)
    assert tree_math.direct_path(NodeIndex(0), 1) == tree_math.copath(NodeIndex(0), 1) == ()


@pytest.mark.parametrize("leaf_count", [1, 2, 8, 32])
def test_ancestors_and_common_ancestors_agree_with_the_direct_paths(leaf_count: int):
    nodes = [NodeIndex(i) for i in range(tree_math.node_count(leaf_count))]
    above = {node: {node, *tree_math.direct_path(node, leaf_count)} for node in nodes}
    for one in nodes:
        for other in nodes:
            assert tree_math.is_ancestor(other, one) == (other in above[one])
            lowest = min(above[one] & above[other], key=tree_math.level)
            assert tree_math.common_ancestor(one, other) == lowest


def test_leaves_and_nodes_convert_both_ways():
    assert tree_math.leaf_to_node(LeafIndex(5)) == 10
    assert tree_math.node_to_leaf(NodeIndex(10)) == 5
    with pytest.raises(ValueError, match="not a leaf"):
        tree_math.node_to_leaf(NodeIndex(9))


@pytest.mark.parametrize(("node", "leaf_count"), [(2, 1), (16, 8), (-2, 8)])
def test_a_node_outside_the_tree_has_no_direct_path(node: int, leaf_count: int):
    with pytest.raises(ValueError, match="outside the tree"):
        tree_math.direct_path(NodeIndex(node), leaf_count)
