"""The gRPC edge of the interop client: requests come in, `Client` answers, refusals become statuses.

    what the client raises             status that the runner sees, with the error's text
    UnknownIdError                     NOT_FOUND
    StateError                         FAILED_PRECONDITION
    UnsupportedError                   UNIMPLEMENTED
    any other MLSError                 INVALID_ARGUMENT

One thread serves all calls, one after the other, so the client's states need no lock.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
from google.protobuf.message import Message

from heliograph.mls.errors import MLSError, StateError, UnsupportedError
from tests.interop.mls_client.client import Answer, Client
from tests.interop.mls_client.described import Described, read_extensions
from tests.interop.mls_client.protocol import MESSAGE_OPTIONS, SERVICE, Call, calls
from tests.interop.mls_client.shelf import UnknownIdError


def start(client: Client, host: str, port: int) -> tuple[grpc.Server, int]:
    """Start to serve a client, and return the server and its port; port 0 takes any that is free.

    Raises RuntimeError when the address cannot be bound.
    """
    # Two servers on one port would share its calls, and each would miss the other's states.
    options = [*MESSAGE_OPTIONS, ("grpc.so_reuseport", 0)]
    server = grpc.server(ThreadPoolExecutor(max_workers=1), options=options)
    answers = _answers(client)
    handlers = {name: _handler(call, answers[name]) for name, call in calls().items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    bound = server.add_insecure_port(f"{host}:{port}")
    server.start()
    return server, bound


def _answers(client: Client) -> Mapping[str, Callable[[Any], Answer]]:
    """Return how each call is answered; a request is a message of the class that the protocol names."""
    return {
        "Name": lambda r: client.name(),
        "SupportedCiphersuites": lambda r: client.supported_ciphersuites(),
        "CreateGroup": lambda r: client.create_group(r.group_id, r.cipher_suite, r.identity, r.encrypt_handshake),
        "CreateKeyPackage": lambda r: client.create_key_package(r.cipher_suite, r.identity),
        "JoinGroup": lambda r: client.join_group(r.transaction_id, r.welcome, r.ratchet_tree, r.encrypt_handshake),
        "ExternalJoin": lambda r: client.external_join(
            r.group_info,
            r.ratchet_tree,
            r.identity,
            r.encrypt_handshake,
            r.remove_prior,
            {one.psk_id: one.psk_secret for one in r.psks},
        ),
        "GroupInfo": lambda r: client.group_info(r.state_id, r.external_tree),
        "StateAuth": lambda r: client.state_auth(r.state_id),
        "Export": lambda r: client.export(r.state_id, r.label, r.context, r.key_length),
        "Protect": lambda r: client.protect(r.state_id, r.plaintext, r.authenticated_data),
        "Unprotect": lambda r: client.unprotect(r.state_id, r.ciphertext),
        "StorePSK": lambda r: client.store_psk(r.state_or_transaction_id, r.psk_id, r.psk_secret),
        "AddProposal": lambda r: client.propose(r.state_id, Described("add", key_package=r.key_package)),
        "UpdateProposal": lambda r: client.update_proposal(r.state_id),
        "RemoveProposal": lambda r: client.propose(r.state_id, Described("remove", removed_id=r.removed_id)),
        "ExternalPSKProposal": lambda r: client.propose(r.state_id, Described("externalPSK", psk_id=r.psk_id)),
        "ResumptionPSKProposal": lambda r: client.propose(r.state_id, Described("resumptionPSK", epoch_id=r.epoch_id)),
        "GroupContextExtensionsProposal": lambda r: client.propose(
            r.state_id, Described("groupContextExtensions", extensions=read_extensions(r.extensions))
        ),
        "Commit": lambda r: _commit(client, r),
        "HandleCommit": lambda r: client.handle_commit(r.state_id, r.proposal, r.commit),
        "HandlePendingCommit": lambda r: client.handle_pending_commit(r.state_id),
        "ReInitProposal": lambda r: client.propose(
            r.state_id,
            Described(
                "reinit",
                group_id=r.group_id,
                cipher_suite=r.cipher_suite,
                extensions=read_extensions(r.extensions),
            ),
        ),
        "ReInitCommit": lambda r: _commit(client, r),
        "HandlePendingReInitCommit": lambda r: client.handle_pending_reinit_commit(r.state_id),
        "HandleReInitCommit": lambda r: client.handle_reinit_commit(r.state_id, r.proposal, r.commit),
        "ReInitWelcome": lambda r: client.reinit_welcome(r.reinit_id, r.key_package, r.force_path, r.external_tree),
        "HandleReInitWelcome": lambda r: client.handle_reinit_welcome(r.reinit_id, r.welcome, r.ratchet_tree),
        "CreateBranch": lambda r: client.create_branch(
            r.state_id,
            r.group_id,
            read_extensions(r.extensions),
            r.key_packages,
            r.force_path,
            r.external_tree,
        ),
        "HandleBranch": lambda r: client.handle_branch(r.state_id, r.transaction_id, r.welcome, r.ratchet_tree),
        "NewMemberAddProposal": lambda r: client.new_member_add_proposal(r.group_info, r.identity),
        "CreateExternalSigner": lambda r: client.create_external_signer(r.cipher_suite, r.identity),
        "AddExternalSigner": lambda r: client.add_external_signer(r.state_id, r.external_sender),
        "ExternalSignerProposal": lambda r: client.external_signer_proposal(
            r.signer_id, r.group_info, r.ratchet_tree, Described.read(r.description)
        ),
        "Free": lambda r: client.free(r.state_id),
    }


def _commit(client: Client, request: Any) -> Answer:
    described = [Described.read(one) for one in request.by_value]
    return client.commit(request.state_id, request.by_reference, described, request.force_path, request.external_tree)


def _handler(call: Call, answer: Callable[[Any], Answer]) -> "grpc.RpcMethodHandler[Message, Message]":
    def serve(request: Message, context: grpc.ServicerContext) -> Message:
        try:
            return call.response(**answer(request))
        except (MLSError, UnknownIdError) as error:
            _refuse(context, error)

    return grpc.unary_unary_rpc_method_handler(
        serve, request_deserializer=call.request.FromString, response_serializer=call.response.SerializeToString
    )


def _refuse(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    if isinstance(error, UnknownIdError):
        status = grpc.StatusCode.NOT_FOUND
    elif isinstance(error, StateError):
        status = grpc.StatusCode.FAILED_PRECONDITION
    elif isinstance(error, UnsupportedError):
        status = grpc.StatusCode.UNIMPLEMENTED
    else:
        status = grpc.StatusCode.INVALID_ARGUMENT
    context.abort(status, f"{type(error).__name__}: {error}")
