# SPDX-License-Identifier: Apache-2.0
"""How long a run is going to take, so that one knows before it begins."""

import compare

# Measured on two cores; seconds beside those that are asked for.
EACH_S = compare.WARMUP_S + 0.1  # to start the generator, and to check the answers
START_S = 0.4  # to start and stop a server
IDLE_S = 7  # to open the idle streams on a server
ENVOY_S = 0.3  # to start h2load, and for servers that are slower than the others
WAITING_S = 30  # to measure what waiting streams take
GHZ_S = 4  # to build and run ghz
COUNT_S = 3  # to count the instructions of a server in a cell
MICRO_S = 1.6  # a round


def starting(all_servers, tls_kinds, scenarios):
    return sum(START_S + server.warmup + scenarios * EACH_S for server in all_servers) * tls_kinds


def comparing(all_servers, all_cells, options):
    kinds = len({cell.tls for cell in all_cells})
    scenarios = len({cell.scenario for cell in all_cells})
    one_round = sum(options.seconds * cell.lasts + EACH_S for cell in all_cells) * len(all_servers)
    return starting(all_servers, kinds, scenarios) + options.rounds * one_round


def memory(all_servers, all_cells, options):
    """Each server is started anew for each cell, and loaded twice."""
    return len(all_cells) * len(all_servers) * (START_S + 2 * (options.seconds + EACH_S))


def behind_envoy(all_servers, options):
    return (starting(all_servers, 1, 1)
            + options.rounds * (len(all_servers) + 1) * (options.seconds + ENVOY_S))


def sentence(seconds_by_part):
    parts = ", ".join(f"{part} {seconds / 60:.1f}" for part, seconds in seconds_by_part.items())
    return f"this takes about {sum(seconds_by_part.values()) / 60:.0f} minutes ({parts})"
