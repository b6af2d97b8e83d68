# SPDX-License-Identifier: Apache-2.0
"""Runs the clients of each language against hosts on each transport; see README.md.

Prints what each check found and a table. Ends with 1 if anything failed, and with 77, for "skipped",
if there was no client to run. With CI=true Python's and C++'s clients have to be there."""

import argparse
import os
import subprocess
import sys
import tempfile

import clients
import hosts

# Building included, which takes the longest in Java and Rust, is not: only a run.
CLIENT_SECONDS_MAX = 600
MUST_BE_THERE = {"python", "cpp"}
SKIPPED = 77


def parse(arguments):
    def names(known):
        def split(text):
            chosen = text.split(",")
            if unknown := set(chosen) - set(known):
                raise argparse.ArgumentTypeError(
                    f"no such name: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
            return chosen
        return split

    transports = ["grpc", "nghttp2"]
    parser = argparse.ArgumentParser(prog="scripts/interop", description=__doc__.split("\n")[0])
    parser.add_argument("--build", default="build", help="where the host was built: %(default)s")
    parser.add_argument("--languages", type=names(clients.LANGUAGES), default=clients.LANGUAGES,
                        help=f"of: {','.join(clients.LANGUAGES)}")
    parser.add_argument("--transports", type=names(transports), default=transports,
                        help=f"of: {','.join(transports)}")
    return parser.parse_args(arguments)


def prepare(options, folder):
    """({language: its client's command}, whether nothing is missing that has to be there)"""
    commands, good = {}, True
    for language in options.languages:
        try:
            commands[language] = clients.prepare(language, options.build, folder)
        except clients.Missing as reason:
            needed = os.environ.get("CI") == "true" and language in MUST_BE_THERE
            print(f"{'FAILED' if needed else 'skipped'}: {language}: {reason}", flush=True)
            good = good and not needed
        except RuntimeError as error:
            print(f"FAILED: {language}: {error}", flush=True)
            good = False
    return commands, good


class Outcome:
    """What a client has printed."""

    def __init__(self, command):
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  timeout=CLIENT_SECONDS_MAX)
            output, ended = done.stdout, f"it ended with {done.returncode}"
        except subprocess.TimeoutExpired as late:
            output, ended = (late.stdout or b"").decode(), f"it took over {CLIENT_SECONDS_MAX} s"
        lines = output.splitlines()
        self.client = next((line[7:] for line in lines if line.startswith("client ")), "unknown")
        self.passed = sum(line.startswith("ok ") for line in lines)
        self.failures = [line for line in lines if line.startswith("FAILED ")]
        if not self.failures and (not self.passed or ended != "it ended with 0"):
            self.failures = [f"FAILED the program: {ended}: {' '.join(lines[-5:])}"]

    def __str__(self):
        total = self.passed + len(self.failures)
        return f"{total} ok" if not self.failures else f"{len(self.failures)} of {total} failed"


def run_all(options, commands, folder):
    """{language: {(transport, listener): its Outcome}}"""
    outcomes = {language: {} for language in commands}
    with tempfile.TemporaryDirectory() as secrets:
        certificates = hosts.Certificates(secrets)
        for transport in options.transports:
            log_path = os.path.join(folder, f"host-{transport}.log")
            with hosts.Host(options.build, transport, certificates, log_path) as host:
                for language, command in commands.items():
                    for listener, address in host.addresses.items():
                        authority = [certificates.ca] if listener == "secure" else []
                        outcome = Outcome([*command, address, *authority])
                        outcomes[language][transport, listener] = outcome
                        print(f"{language}, {transport}, {listener}: {outcome}", flush=True)
                        for failure in outcome.failures:
                            print(f"  {failure}", flush=True)
    return outcomes


def print_table(outcomes):
    print()
    columns = list(next(iter(outcomes.values())))
    print(f"| client | {' | '.join(', '.join(column) for column in columns)} |")
    print("|---" * (1 + len(columns)) + "|")
    for of_language in outcomes.values():
        client = next(iter(of_language.values())).client
        print(f"| {client} | {' | '.join(str(of_language[column]) for column in columns)} |")


def main():
    options = parse(sys.argv[1:])
    options.build = os.path.realpath(options.build)
    folder = os.path.join(options.build, "interop")
    os.makedirs(folder, exist_ok=True)
    commands, good = prepare(options, folder)
    if not commands:
        sys.exit(SKIPPED if good else 1)
    outcomes = run_all(options, commands, folder)
    print_table(outcomes)
    failures = [outcome for each in outcomes.values() for outcome in each.values() if outcome.failures]
    sys.exit(1 if failures or not good else 0)


main()
