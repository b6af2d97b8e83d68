# SPDX-License-Identifier: Apache-2.0
"""Large bodies of requests, in each way that Envoy sends them: what a byte costs a server, and how much
memory a stream takes while its body passes."""

import cells
import compare
import idle
import report
import servers

MIB = (1, 10)
CELLS = [cells.Cell(mode, 4, 4, body_mib=mib) for mode in cells.BODY_MODES for mib in MIB]
FIRST = cells.Cell("headers", 4, 4)  # before memory is measured: what a server sets up by itself is there

# Their answers are constant, so they repeat no body.
CONSTANT = ["h2-floor", "h2-bare", "grpc-generic"]
MEASURED = [*CONSTANT, "grpc-callback", "go", "rust", "java", "python"]


def host_servers():
    """With a plugin that is called for each message of a body."""
    return [servers.host_server(f"{name}+body", ["body"], *options, folder="tests/bench")
            for name, options in servers.transports()]


def can(server, mode):
    return mode != "duplex" or server.name not in CONSTANT


def cells_of(mode):
    return [cell for cell in CELLS if cell.scenario == mode]


def memory_kib(server, cell, cores, seconds):
    """KiB that each of the streams in `cell` takes at most in a server that has just been started; None,
    with the reason printed, if that cannot be measured."""
    server_cores, load_cores, _ = cores
    try:
        with servers.Running(server, False, compare.make_certificate(), server_cores) as process:
            if not compare.measure(process, FIRST, load_cores, seconds):
                return None
            before = idle.resident_kib(process.pid)
            forget_peak(process.pid)
            if not compare.measure(process, cell, load_cores, seconds):
                return None
            return max(idle.resident_kib(process.pid, "VmHWM") - before, 0) / cell.concurrency
    except (OSError, RuntimeError) as error:
        print(error)
        return None


def forget_peak(pid):
    with open(f"/proc/{pid}/clear_refs", "w") as file:
        file.write("5")


def gb_per_second(samples, cell):
    """Of body, for each core that the server uses."""
    good = [sample for sample in samples if sample]
    return (cell.body_mib << 20) / report.median(good, "cpu_us_per_stream") / 1e3 if good else None


def table(mode, samples, memory):
    """`samples`: {cell: {server: [sample or None for each round]}}; `memory`: {cell: {server: KiB or
    None}}."""
    of_mode = cells_of(mode)
    rows = []
    for server in samples[of_mode[0].name]:
        row = [server]
        for cell in of_mode:
            speed = gb_per_second(samples[cell.name][server], cell)
            kib = memory[cell.name][server]
            row += ["failed" if speed is None else f"{speed:.2f}",
                    "failed" if kib is None else f"{kib:.0f}"]
        rows.append(row)
    titles = [title for mib in MIB for title in (f"{mib} MiB: GB/s a core", "KiB a stream")]
    return report.markdown(["server", *titles], rows)
