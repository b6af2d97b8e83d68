# SPDX-License-Identifier: Apache-2.0
"""What is measured: each cell is one way to load a server."""

import dataclasses

RATE = 5000  # streams begun in a second, where the rate is fixed
BODY_MODES = {"buffered": "BUFFERED", "streamed": "STREAMED", "duplex": "FULL_DUPLEX_STREAMED"}


@dataclasses.dataclass(frozen=True)
class Cell:
    scenario: str
    connections: int = 1
    concurrency: int = 1
    ending: str = "graceful"
    tls: bool = False
    rate: int = 0
    lasts: float = 1  # times as long as the run's measurements
    body_mib: int = 0  # for a scenario of BODY_MODES
    recordings: tuple = ()  # files; their exchanges are what streams say, and `scenario` is "recorded"

    @property
    def name(self):
        load = f"{self.rate}/s" if self.rate else f"{self.connections}x{self.concurrency}"
        marks = (["reset"] if self.ending == "envoy" else []) + (["tls"] if self.tls else [])
        body = [f"{self.body_mib}MiB"] if self.body_mib else []
        return "-".join([self.scenario, *body, load, *marks])

    @property
    def messages(self):
        if self.body_mib:
            return f"a body of {self.body_mib} MiB, {BODY_MODES[self.scenario]}"
        return {"headers": "1 message", "both": "2 messages", "check": "1 Check",
                "bodies": "6 messages with 16 KiB bodies", "recorded": "recorded exchanges"}[self.scenario]

    @property
    def on(self):
        return f"{self.connections} connection{'s' if self.connections > 1 else ''}"

    @property
    def title(self):
        load = (f"{self.rate} streams begun in a second" if self.rate
                else f"{self.concurrency} streams at once")
        end = "reset as Envoy does" if self.ending == "envoy" else "ended gracefully"
        return f"{self.messages}, {load} on {self.on}{' with TLS' if self.tls else ''}, {end}"

    @property
    def columns(self):
        """What tells this cell from others without a rate, for a table of many cells."""
        return [self.messages, str(self.concurrency), str(self.connections),
                "TLS" if self.tls else "", "reset" if self.ending == "envoy" else ""]

    @property
    def arguments(self):
        says = [f"--recording={path}" for path in self.recordings] or [f"--scenario={self.scenario}"]
        body = [f"--body_bytes={self.body_mib << 20}"] if self.body_mib else []
        return [
            *says, *body, f"--connections={self.connections}",
            f"--concurrency={self.concurrency}", f"--ending={self.ending}",
            *(["--tls"] if self.tls else []), *([f"--rate={self.rate}"] if self.rate else []),
        ]


GRACEFUL = Cell("headers", 8, 100)
RESET = Cell("headers", 8, 100, "envoy")
BODIES = Cell("bodies", 8, 10)
CHECK = Cell("check", 8, 100)
QUICK = [GRACEFUL, RESET, BODIES]

# With fewer connections than threads some threads may have nothing to do.
SCALING = [Cell("headers", connections, 100) for connections in (1, 2, 8)]

# All servers are measured in these.
RATES = [Cell("headers", 8, rate=RATE), Cell("headers", 8, ending="envoy", rate=RATE)]
MAIN = [*QUICK, *RATES]



def recorded(paths):
    """The cells of MAIN that are of one message, with what recordings have in its place."""
    return [dataclasses.replace(cell, scenario="recorded", recordings=tuple(paths))
            for cell in (GRACEFUL, RESET, *RATES)]


# Some servers are measured in these: every number of messages, of streams and of connections, with TLS
# and without, in both endings, though not each with each.
OTHER = [
    Cell("headers", 1, 1),
    Cell("headers", 1, 10),
    Cell("headers", 1, 100),
    Cell("headers", 8, 1),
    Cell("headers", 8, 10),
    Cell("headers", 1, 1, "envoy"),
    Cell("headers", 1, 100, "envoy"),
    Cell("headers", 1, 1, tls=True),
    Cell("headers", 8, 100, tls=True),
    Cell("headers", 8, 100, "envoy", tls=True),
    Cell("both", 1, 1),
    Cell("both", 8, 100),
    Cell("both", 8, 100, "envoy"),
    Cell("both", 8, 100, tls=True),
    Cell("bodies", 1, 1),
    Cell("bodies", 1, 10),
    Cell("bodies", 8, 100),
    Cell("bodies", 8, 10, "envoy"),
    Cell("bodies", 8, 10, tls=True),
    Cell("bodies", 8, 10, "envoy", tls=True),
]
