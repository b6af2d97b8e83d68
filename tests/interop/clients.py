# SPDX-License-Identifier: Apache-2.0
"""The programs of each language: what they need, and how they are built."""

import os
import shutil
import subprocess
import sys

import tools

HERE = os.path.dirname(os.path.realpath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))

# Language: the programs that building its client takes, which its `build` calls.
FOREIGN = {"go": ["go", "protoc"], "rust": ["cargo", "protoc"], "java": ["mvn", "java"]}
LANGUAGES = ["python", "cpp", *FOREIGN, "grpcurl", "ghz"]


class Missing(Exception):
    """A client that cannot be had here, and why."""


def _python(build):
    python = os.path.join(TOP, ".venv", "bin", "python")
    if not os.path.exists(python):
        python = sys.executable
    tried = subprocess.run([python, "-c", "import grpc, grpc_health, grpc_reflection"],
                           capture_output=True)
    if tried.returncode != 0:
        raise Missing(f"{python} has no grpcio; scripts/setup installs it into .venv")
    return [python, os.path.join(HERE, "client.py"), tools.protoset(build)]


def _foreign(language, folder):
    for program in FOREIGN[language]:
        if shutil.which(program) is None:
            raise Missing(f"there is no {program}")
    print(f"building the client in {language}", flush=True)
    log_path = os.path.join(folder, f"build-{language}.log")
    output = os.path.join(folder, language)
    with open(log_path, "w") as log:
        built = subprocess.run(
            [os.path.join(HERE, language, "build"), os.path.join(TOP, "proto"), output],
            stdout=log, stderr=log)
    if built.returncode != 0:
        raise RuntimeError(f"building the client in {language} failed, see {log_path}")
    return [os.path.join(output, "client")]


def prepare(language, build, folder):
    """The command to which the address and the authority's file are added. What is built for it is
    in `folder`, the host in `build`. Raises Missing, or RuntimeError if building fails."""
    if language in FOREIGN:
        return _foreign(language, folder)
    if language in ("grpcurl", "ghz"):
        program = tools.install(language, folder)
        if program is None:
            raise Missing("there is no go")
        return [sys.executable, os.path.join(HERE, "tools.py"), language, program, tools.protoset(build)]
    if language == "python":
        return _python(build)
    return [os.path.join(build, "tests", "interop", "interop-client")]
