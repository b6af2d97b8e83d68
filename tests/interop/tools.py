# SPDX-License-Identifier: Apache-2.0
"""The checks of README.md as far as grpcurl and ghz can make them:
`tools.py grpcurl|ghz PROGRAM PROTOSET ADDRESS [CA_FILE]`."""

import base64
import json
import os
import shutil
import subprocess
import sys

import checks
from checks import BODY, SECONDS_MAX, SERVICE, expect

MODULES = {"grpcurl": "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4",
           "ghz": "github.com/bojand/ghz/cmd/ghz@v0.93.0"}


def protoset(build):
    return os.path.join(build, "tests", "interop", "ext_proc.protoset")


def install(tool, folder):
    """The program, built if it is not there yet; None without Go."""
    program = os.path.join(folder, tool)
    if os.path.exists(program):
        return program
    if shutil.which("go") is None:
        return None
    built = subprocess.run(["go", "install", MODULES[tool]], capture_output=True, text=True,
                           env={**os.environ, "GOBIN": folder})
    if built.returncode != 0:
        raise RuntimeError(f"building {tool} failed: {built.stderr.strip()[-500:]}")
    return program


def version(program):
    """Of its module, and of the grpc-go in it."""
    lines = subprocess.run(["go", "version", "-m", program], capture_output=True, text=True,
                           check=True).stdout.split("\n")
    fields = [line.split() for line in lines]
    own = next(field[2] for field in fields if field[:1] == ["mod"])
    grpc = next(field[2] for field in fields if field[:2] == ["dep", "google.golang.org/grpc"])
    return f"{own} (grpc-go {grpc})"


def encode(data):
    return base64.b64encode(data).decode()


def headers(part="request_headers"):
    return {part: {"headers": {"headers": [{"key": ":path", "raw_value": encode(b"/")}]}}}


def bodies():
    """A stream with large bodies both ways."""
    for direction in ("request", "response"):
        yield headers(f"{direction}_headers")
        yield {f"{direction}_body": {"body": encode(BODY), "end_of_stream": True}}


class Grpcurl:
    def __init__(self, program, descriptors, address, ca_path=None):
        self.program, self.descriptors, self.address = program, descriptors, address
        self.security = ["-plaintext"] if ca_path is None else ["-cacert", ca_path]

    def run(self, *arguments, options=(), messages=()):
        """(standard output, standard error)"""
        done = subprocess.run(
            [self.program, *self.security, *options, *(["-d", "@"] if messages else []),
             self.address, *arguments],
            input="\n".join(json.dumps(message) for message in messages),
            capture_output=True, text=True, timeout=SECONDS_MAX)
        return done.stdout, done.stderr

    def process(self, messages, *options):
        """Its answers; [] and what it has said of the error."""
        # Descriptors of our own, so that no check but that of reflection depends on it.
        out, said = self.run(f"{SERVICE}/Process", messages=messages,
                             options=["-protoset", self.descriptors, *options])
        answers, decoder, at = [], json.JSONDecoder(), 0
        while at < len(out.rstrip()):
            answer, at = decoder.raw_decode(out, at)
            answers.append(answer)
            at += len(out[at:]) - len(out[at:].lstrip())
        return answers, said

    def is_set(self, answer):
        mutation = answer["requestHeaders"]["response"]["headerMutation"]
        return {option["header"]["key"]: base64.b64decode(option["header"]["rawValue"])
                for option in mutation["setHeaders"]}

    def check_process(self):
        answers, said = self.process([headers()])
        expect((len(answers), said), (1, ""), "how many answers, and what is said")
        expect(self.is_set(answers[0])["x-text"], b"none", "x-text")

    def check_large_bodies(self):
        answers, said = self.process(bodies())
        expect((len(answers), said), (4, ""), "how many answers, and what is said")
        for answer, part in ((answers[1], "requestBody"), (answers[3], "responseBody")):
            found = base64.b64decode(answer[part]["response"]["bodyMutation"]["body"])
            expect(found, BODY + b"-seen", part)

    def check_unknown_method(self):
        # It calls only what it has a description of.
        _, said = self.run("grpc.health.v1.Health/Unknown", messages=[{}], options=self.health_proto())
        expect("Unimplemented" in said, True, f"Unimplemented in {said!r}")

    def check_health_check(self):
        out, said = self.run("grpc.health.v1.Health/Check", messages=[{}], options=self.health_proto())
        expect((json.loads(out or "{}"), said), ({"status": "SERVING"}, ""), "the health")

    def check_metadata(self):
        answers, said = self.process([headers()], "-H", "x-interop: hello", "-H",
                                     f"x-interop-bin: {encode(bytes([0, 255, 16, 128]))}")
        expect((len(answers), said), (1, ""), "how many answers, and what is said")
        expect(self.is_set(answers[0]), {"x-text": b"hello", "x-bytes": b"00ff1080"}, "the metadata")

    def check_message_too_large(self):
        message = {"request_body": {"body": encode(b"a" * 1_000_001)}}
        answers, said = self.process([message])
        expect((answers, "ResourceExhausted" in said), ([], True), f"no answer, and {said!r}")

    def check_reflection(self):
        out, said = self.run("list")
        expect(SERVICE in out.split(), True, f"{SERVICE} in {out + said!r}")
        out, said = self.run("describe", f"{SERVICE}.Process")
        expect("ProcessingRequest" in out, True, f"ProcessingRequest in {out + said!r}")
        out, said = self.run("describe", "grpc.health.v1.Health")
        expect("HealthCheckRequest" in out, True, f"HealthCheckRequest in {out + said!r}")
        out, said = self.run("grpc.health.v1.Health/Check", messages=[{}])
        expect((json.loads(out or "{}"), said), ({"status": "SERVING"}, ""), "the health")

    def health_proto(self):
        folder = os.path.dirname(os.path.realpath(__file__))
        return ["-import-path", folder, "-proto", "health.proto"]


class Ghz:
    def __init__(self, program, descriptors, address, ca_path=None):
        self.command = [program, "--protoset", descriptors, "--call", f"{SERVICE}/Process", "--format",
                        "json", *(["--insecure"] if ca_path is None else ["--cacert", ca_path])]
        self.address = address

    def expect_ok(self, messages, total, *options):
        done = subprocess.run([*self.command, "--total", str(total), *options, "--data-file",
                               "/dev/stdin", self.address], input=json.dumps(messages),
                              capture_output=True, text=True, timeout=SECONDS_MAX)
        try:
            codes = json.loads(done.stdout)["statusCodeDistribution"]
        except ValueError:
            codes = done.stderr
        expect(codes, {"OK": total}, "how RPCs ended")

    def check_process(self):
        self.expect_ok([headers()], 10, "--concurrency", "1")

    def check_large_bodies(self):
        self.expect_ok(list(bodies()), 10, "--concurrency", "2")

    def check_streams_at_once(self):
        self.expect_ok([headers()], 2000, "--concurrency", "100", "--connections", "1")


def main():
    tool, program = sys.argv[1:3]
    print(f"client {tool} {version(program)}")
    client = {"grpcurl": Grpcurl, "ghz": Ghz}[tool](program, *sys.argv[3:])
    sys.exit(checks.run(client))


if __name__ == "__main__":
    main()
