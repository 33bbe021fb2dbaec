"""The interop protocol as `mls_client.proto` tells it: which calls there are, and the messages that they take and give.

The file is compiled when this is asked for and nothing generated is kept: `protoc` gives its descriptors, and the
message classes are made from them. Server and runner both start from here.
"""

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc

SERVICE = "mls_client.MLSClient"

# Trees of some hundred members pass whole.
MESSAGE_OPTIONS = [("grpc.max_receive_message_length", 1 << 26), ("grpc.max_send_message_length", 1 << 26)]

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Call:
    """One rpc: its name, and the classes of its request and its response."""

    name: str
    request: type[Message]
    response: type[Message]

    @property
    def path(self) -> str:
        """Return the path by which gRPC knows the call."""
        return f"/{SERVICE}/{self.name}"


@cache
def calls() -> dict[str, Call]:
    """Return all calls of the protocol by name, in the order of the file."""
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "descriptors"
        arguments = ["protoc", f"-I{_FOLDER}", f"--descriptor_set_out={compiled}", "mls_client.proto"]
        if protoc.main(arguments) != 0:
            raise RuntimeError("protoc does not compile mls_client.proto")
        files = FileDescriptorSet.FromString(compiled.read_bytes()).file
    pool = DescriptorPool()
    for file in files:
        pool.Add(file)  # pyright: ignore[reportUnknownMemberType]
    return {
        method.name: Call(method.name, GetMessageClass(method.input_type), GetMessageClass(method.output_type))
        for method in pool.FindServiceByName(SERVICE).methods
    }
