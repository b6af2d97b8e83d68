"""What is measured: each cell is one way to load a server."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Cell:
    scenario: str
    connections: int = 1
    concurrency: int = 1
    ending: str = "graceful"
    tls: bool = False
    rate: int = 0

    @property
    def name(self):
        load = f"{self.rate}/s" if self.rate else f"{self.connections}x{self.concurrency}"
        marks = (["reset"] if self.ending == "envoy" else []) + (["tls"] if self.tls else [])
        return "-".join([self.scenario, load, *marks])

    @property
    def title(self):
        messages = {"headers": "1 message", "both": "2 messages",
                    "bodies": "6 messages with 16 KiB bodies"}[self.scenario]
        load = (f"{self.rate} streams begun in a second" if self.rate
                else f"{self.concurrency} streams at once")
        on = f"{self.connections} connection{'s' if self.connections > 1 else ''}"
        end = "reset as Envoy does" if self.ending == "envoy" else "ended gracefully"
        return f"{messages}, {load} on {on}{' with TLS' if self.tls else ''}, {end}"

    @property
    def arguments(self):
        return [
            f"--scenario={self.scenario}", f"--connections={self.connections}",
            f"--concurrency={self.concurrency}", f"--ending={self.ending}",
            *(["--tls"] if self.tls else []), *([f"--rate={self.rate}"] if self.rate else []),
        ]


RESET_8X100 = Cell("headers", 8, 100, "envoy")
QUICK = [
    Cell("headers", 8, 100),
    RESET_8X100,
    Cell("bodies", 8, 10),
]
FULL = [
    Cell("headers", 1, 1),
    Cell("headers", 1, 10),
    Cell("headers", 1, 100),
    Cell("headers", 8, 10),
    Cell("headers", 8, 100),
    Cell("headers", 1, 1, "envoy"),
    RESET_8X100,
    Cell("both", 8, 100),
    Cell("bodies", 1, 1),
    Cell("bodies", 8, 10),
    Cell("bodies", 8, 100),
    Cell("bodies", 8, 10, "envoy"),
    Cell("headers", 8, 100, tls=True),
    Cell("bodies", 8, 10, tls=True),
    Cell("headers", 8, rate=2000),
    Cell("headers", 8, ending="envoy", rate=2000),
]
