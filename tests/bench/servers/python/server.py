# SPDX-License-Identifier: Apache-2.0
"""The benchmark's server on grpcio: `server.py PORT|unix:PATH [--tls CERTIFICATE KEY]`.
Answers as plugins/minimal_c does, with the generated classes. Prints `listening PORT`; on a unix
socket the number says nothing."""

import asyncio
import sys

import grpc

from envoy.config.core.v3 import base_pb2
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3 import external_processor_pb2 as ext_proc
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc


def stamp():
    answer = ext_proc.HeadersResponse()
    option = answer.response.header_mutation.set_headers.add()
    option.header.key = "x-callout"
    option.header.raw_value = b"minimal-c"
    option.append_action = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    return answer


def answer_to(request):
    part = request.WhichOneof("request")
    answer = ext_proc.ProcessingResponse()
    if part == "request_headers":
        answer.request_headers.CopyFrom(stamp())
    else:
        getattr(answer, part).SetInParent()
    return answer


def repeat(chunk):
    """In FULL_DUPLEX_STREAMED a chunk goes on only if the response repeats it."""
    answer = ext_proc.ProcessingResponse()
    streamed = answer.request_body.response.body_mutation.streamed_response
    streamed.body = chunk.body
    streamed.end_of_stream = chunk.end_of_stream
    return answer


class Processor(external_processor_pb2_grpc.ExternalProcessorServicer):
    async def Process(self, requests, context):
        is_duplex = False
        async for request in requests:
            if request.HasField("protocol_config"):
                is_duplex = request.protocol_config.request_body_mode == ProcessingMode.FULL_DUPLEX_STREAMED
            if is_duplex and request.HasField("request_body"):
                yield repeat(request.request_body)
            else:
                yield answer_to(request)


# With asyncio, as gRPC's guide to performance advises for streams: in the other interface each stream
# holds a thread while it lasts.
async def main():
    address = sys.argv[1] if sys.argv[1].startswith("unix:") else f"127.0.0.1:{sys.argv[1]}"
    # By default 4 MiB; this is without a limit.
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    external_processor_pb2_grpc.add_ExternalProcessorServicer_to_server(Processor(), server)
    if len(sys.argv) == 5 and sys.argv[2] == "--tls":
        with open(sys.argv[3], "rb") as chain, open(sys.argv[4], "rb") as key:
            credentials = grpc.ssl_server_credentials([(key.read(), chain.read())])
        port = server.add_secure_port(address, credentials)
    else:
        port = server.add_insecure_port(address)
    await server.start()
    print(f"listening {port}", flush=True)
    await server.wait_for_termination()


asyncio.run(main())
