"""Asking the application whether credentials are true (RFC 9420 §5.3.1).

The library cannot know whose key a key is; what knows, such as a directory or a store of trusted certificates, is the
Authentication Service of RFC 9750. A caller hands in a `CredentialCheck`, and it is asked about each credential at the
moment when the RFC wants it judged: all of them when one joins, and those that a proposal or a commit brings in. It
returns, or raises an MLSError to refuse; a refusal leaves the state as it was. It sees one credential at a time:
whether a leaf that replaces another is still the same person's, the caller judges from `removed`, `updated`, `added`.

    def check(credential: Credential, signature_key: bytes) -> None:
        verify_chain(credential.certificates, trusted)      # the library has compared the first one's key already
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from heliograph.mls.credential import Credential
from heliograph.mls.extension import Extension, ExternalSenders
from heliograph.mls.group_context import GroupContext
from heliograph.mls.leaf_node import LeafNode
from heliograph.mls.processing import ReceivedApplication, ReceivedCommit
from heliograph.mls.proposal import Add, GroupContextExtensions, Proposal, Update
from heliograph.mls.proposal_rules import ReceivedProposal

# The credential, and the signature_key for which it vouches. ValidationError says that its owner is at fault.
CredentialCheck: TypeAlias = Callable[[Credential, bytes], None]

_Vouched: TypeAlias = tuple[Credential, bytes]


def check_group(check: CredentialCheck | None, leaves: Iterable[LeafNode], extensions: Sequence[Extension]) -> None:
    """Ask about everyone whom a joiner finds: the members, and the external senders in the group's context."""
    _ask(check, (*_of_leaves(leaves), *_of_extensions(extensions)))


def check_received(
    check: CredentialCheck | None,
    before: GroupContext,
    after: GroupContext,
    received: ReceivedApplication | ReceivedProposal | ReceivedCommit,
) -> None:
    """Ask about each credential that a message brings in; before, after: the contexts around it."""
    if isinstance(received, ReceivedProposal):
        _ask(check, _of_proposal(received.proposal))
    elif isinstance(received, ReceivedCommit):
        _ask(check, _of_leaves(member.leaf_node for member in (*received.added, *received.updated)))
        if after.extensions != before.extensions:
            _ask(check, _of_extensions(after.extensions))


def _ask(check: CredentialCheck | None, vouched: Iterable[_Vouched]) -> None:
    if check is not None:
        for credential, signature_key in vouched:
            check(credential, signature_key)


def _of_leaves(leaves: Iterable[LeafNode]) -> Iterator[_Vouched]:
    return ((leaf.credential, leaf.signature_key) for leaf in leaves)


def _of_proposal(proposal: Proposal) -> Iterator[_Vouched]:
    if isinstance(proposal, Add):
        return _of_leaves([proposal.key_package.leaf_node])
    if isinstance(proposal, Update):
        return _of_leaves([proposal.leaf_node])
    return _of_extensions(proposal.extensions if isinstance(proposal, GroupContextExtensions) else ())


def _of_extensions(extensions: Sequence[Extension]) -> Iterator[_Vouched]:
    external = ExternalSenders.of(extensions)
    return ((sender.credential, sender.signature_key) for sender in (external.senders if external else ()))
