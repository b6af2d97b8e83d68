# SPDX-License-Identifier: Apache-2.0
"""The checks of README.md with grpcio: `client.py PROTOSET ADDRESS [CA_FILE]`.

PROTOSET has the descriptors of ext_proc: classes made of them, unlike generated modules, may stand
beside the Python package of Envoy's program, which is called `envoy` as well."""

import queue
import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase)

import checks
from checks import BODY, SECONDS_MAX, SERVICE, expect


def read_classes(path):
    """ProcessingRequest and ProcessingResponse."""
    pool = descriptor_pool.DescriptorPool()
    with open(path, "rb") as file:
        for descriptor in descriptor_pb2.FileDescriptorSet.FromString(file.read()).file:
            pool.Add(descriptor)
    return [message_factory.GetMessageClass(
                pool.FindMessageTypeByName(f"envoy.service.ext_proc.v3.{name}"))
            for name in ("ProcessingRequest", "ProcessingResponse")]


class Stream:
    """A Process stream whose messages are sent one by one."""

    def __init__(self, client, timeout=SECONDS_MAX, **options):
        self._requests = queue.SimpleQueue()
        self.call = client.process(iter(self._requests.get, None), timeout=timeout, **options)

    def send(self, request):
        self._requests.put(request)

    def exchange(self, request):
        self.send(request)
        return next(self.call)

    def half_close(self):
        self._requests.put(None)

    def expect_end(self, code):
        """Reads what is left; returns the status's text."""
        try:
            for answer in self.call:
                raise AssertionError(f"an answer too many: {str(answer)[:200]}")
        except grpc.RpcError:
            pass
        expect(self.call.code(), code, f"the status ({self.call.details()})")
        self.half_close()  # for the thread that waits for requests
        return self.call.details() or ""


class Client:
    def __init__(self, protoset, channel):
        self.Request, self.Response = read_classes(protoset)
        self.channel = channel
        self.process = self.method("Process")

    def method(self, name):
        return self.channel.stream_stream(
            f"/{SERVICE}/{name}", request_serializer=self.Request.SerializeToString,
            response_deserializer=self.Response.FromString)

    def headers(self, part="request_headers"):
        request = self.Request()
        header = getattr(request, part).headers.headers.add()
        header.key, header.raw_value = ":path", b"/"
        return request

    def body(self, part, body):
        request = self.Request()
        getattr(request, part).body = body
        getattr(request, part).end_of_stream = True
        return request

    def is_set(self, answer, part="request_headers"):
        """The headers that `answer` sets."""
        expect(answer.WhichOneof("response"), part, "the answer's kind")
        mutation = getattr(answer, part).response.header_mutation
        return {option.header.key: option.header.raw_value for option in mutation.set_headers}

    # --- The checks ----------------------------------------------------------

    def check_process(self):
        stream = Stream(self)
        expect(self.is_set(stream.exchange(self.headers())).get("x-text"), b"none", "x-text")
        stream.half_close()
        stream.expect_end(grpc.StatusCode.OK)

    def check_large_bodies(self):
        stream = Stream(self)
        for direction in ("request", "response"):
            stream.exchange(self.headers(f"{direction}_headers"))
            part = f"{direction}_body"
            answer = stream.exchange(self.body(part, BODY))
            expect(answer.WhichOneof("response"), part, "the answer's kind")
            expect(getattr(answer, part).response.body_mutation.body, BODY + b"-seen", part)
        stream.half_close()
        stream.expect_end(grpc.StatusCode.OK)

    def check_streams_at_once(self):
        streams = [Stream(self) for _ in range(100)]
        for stream in streams:
            stream.send(self.headers())
        for stream in streams:
            expect(self.is_set(next(stream.call)).get("x-text"), b"none", "x-text")
        for stream in streams:
            stream.half_close()
        for stream in streams:
            stream.expect_end(grpc.StatusCode.OK)

    def check_cancel(self):
        stream = Stream(self)
        stream.exchange(self.headers())
        stream.call.cancel()
        stream.expect_end(grpc.StatusCode.CANCELLED)
        self.check_process()

    def check_deadline(self):
        Stream(self, timeout=0.3).expect_end(grpc.StatusCode.DEADLINE_EXCEEDED)
        self.check_process()

    def check_unknown_method(self):
        call = self.method("Unknown")(iter([self.headers()]), timeout=SECONDS_MAX)
        try:
            next(call)
        except grpc.RpcError:
            pass
        expect(call.code(), grpc.StatusCode.UNIMPLEMENTED, "the status")

    def check_health_check(self):
        health = health_pb2_grpc.HealthStub(self.channel)
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS_MAX)
        expect(answer.status, health_pb2.HealthCheckResponse.SERVING, "the health")

    def check_health_watch(self):
        health = health_pb2_grpc.HealthStub(self.channel)
        watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=SECONDS_MAX)
        expect(next(watch).status, health_pb2.HealthCheckResponse.SERVING, "the health")
        watch.cancel()

    def check_metadata(self):
        stream = Stream(self, metadata=[("x-interop", "hello"), ("x-interop-bin", b"\0\xff\x10\x80")])
        found = self.is_set(stream.exchange(self.headers()))
        expect(found, {"x-text": b"hello", "x-bytes": b"00ff1080"}, "the metadata")
        stream.half_close()
        stream.expect_end(grpc.StatusCode.OK)

    def check_compression(self):
        stream = Stream(self, compression=grpc.Compression.Gzip)
        stream.send(self.body("request_body", BODY))
        said = stream.expect_end(grpc.StatusCode.UNIMPLEMENTED)
        expect("gzip" in said, True, f"gzip in {said!r}")
        self.check_process()

    def check_message_too_large(self):
        stream = Stream(self)
        stream.send(self.body("request_body", b"a" * 1_000_001))
        stream.expect_end(grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.check_process()

    def check_reflection(self):
        services = ProtoReflectionDescriptorDatabase(self.channel).get_services()
        expect(SERVICE in services, True, f"{SERVICE} in {services}")


def connect(address, ca_path=None):
    if ca_path is None:
        return grpc.insecure_channel(address)
    with open(ca_path, "rb") as file:
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(file.read()))


def main():
    print(f"client grpcio {grpc.__version__}")
    with connect(*sys.argv[2:]) as channel:
        failed = checks.run(Client(sys.argv[1], channel))
    sys.exit(failed)


main()
