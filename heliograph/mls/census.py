"""What the nodes of a ratchet tree must not share, and what its members can do (RFC 9420 §7.3).

A `Census` counts encryption keys, signature keys, and capabilities with the type of credential beside them. It is made
from all nodes once, and after a change from the nodes that changed.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from heliograph.mls.errors import ValidationError
from heliograph.mls.extension import Extension, RequiredCapabilities
from heliograph.mls.leaf_node import Capabilities, LeafNode, Needs
from heliograph.mls.parent_node import ParentNode
from heliograph.mls.tally import Tally

Node: TypeAlias = LeafNode | ParentNode
Ability: TypeAlias = tuple[Capabilities, int]


@dataclass(frozen=True, slots=True)
class Census:
    """How often each key and each ability stands in a tree."""

    encryption_keys: Tally[bytes]
    signature_keys: Tally[bytes]
    # A member's capabilities, and the type of its credential.
    abilities: Tally[Ability]

    @classmethod
    def of(cls, nodes: Collection[Node]) -> "Census":
        """Return the census of the nodes that are in use."""
        leaves = [node for node in nodes if isinstance(node, LeafNode)]
        return cls(
            Tally[bytes].of(node.encryption_key for node in nodes),
            Tally[bytes].of(leaf.signature_key for leaf in leaves),
            Tally[Ability].of(map(_ability, leaves)),
        )

    def changed(self, removed: Collection[Node], added: Collection[Node]) -> "Census":
        """Return the census after some nodes have gone and others have come."""
        gone = [node for node in removed if isinstance(node, LeafNode)]
        come = [node for node in added if isinstance(node, LeafNode)]
        return Census(
            self.encryption_keys.changed(
                [node.encryption_key for node in removed], [node.encryption_key for node in added]
            ),
            self.signature_keys.changed([leaf.signature_key for leaf in gone], [leaf.signature_key for leaf in come]),
            self.abilities.changed(map(_ability, gone), map(_ability, come)),
        )

    def check_unique_keys(self) -> None:
        """Raise ValidationError when two nodes share an encryption key or two leaves a signature key.

        Source: RFC 9420 §7.3, §12.4.3.1.
        """
        if self.encryption_keys.repeated:
            raise ValidationError("two nodes of the tree have the same encryption_key")
        if self.signature_keys.repeated:
            raise ValidationError("two leaves of the tree have the same signature_key")

    def check_capabilities(self, extensions: Sequence[Extension]) -> None:
        """Raise ValidationError unless all members support what these group-context extensions ask for.

        That is the extensions themselves, the required capabilities, and each other's types of credential.

        Source: RFC 9420 §7.3, §11.1, §13.3, §13.4.
        """
        required = RequiredCapabilities.of(extensions)
        needs = None if required is None else Needs.of(required)
        in_use = {extension.extension_type for extension in extensions}
        abilities = list(self.abilities)
        credential_types = {credential_type for _, credential_type in abilities}
        for supported in {capabilities for capabilities, _ in abilities}:
            if not supported.supports_extensions(in_use):
                raise ValidationError("a member does not support an extension of the group context")
            if not credential_types.issubset(supported.credentials):
                raise ValidationError("a member does not support a credential type in use")
            if needs is not None:
                supported.check_required(needs)


def _ability(leaf: LeafNode) -> Ability:
    return leaf.capabilities, leaf.credential.credential_type
