# SPDX-License-Identifier: Apache-2.0
"""What the clients written in Python share: what they send, and how their checks are run."""

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
BODY = bytes(i % 251 for i in range(200_000))
SECONDS_MAX = 120


def expect(found, wanted, what):
    if found != wanted:
        raise AssertionError(f"{what} is {found!r}, not {wanted!r}"[:300])


def run(client):
    """Calls each check_… of `client`, as its class lists them, and prints a line of what it found.
    True if one has failed."""
    failed = False
    for name in [name for name in vars(type(client)) if name.startswith("check_")]:
        title = name.removeprefix("check_").replace("_", "-")
        try:
            getattr(client, name)()
            print(f"ok {title}", flush=True)
        except Exception as error:  # whatever it is, it is what was found
            failed = True
            print(f"FAILED {title}: {' '.join(str(error).split())}", flush=True)
    return failed
