# SPDX-License-Identifier: Apache-2.0
"""The servers behind a real Envoy, which asks them about every request: what that costs Envoy, the
server and the client."""

import glob
import json
import os
import random
import re
import shutil
import subprocess
import time
import urllib.request

import servers

LOAD = ["h2load", "--h1", "--threads=1"]
CLIENTS = 16
REQUESTS = 20000  # for each second that a measurement is to take, by the speed of most servers
SLOW = {"python": 4000}  # servers that would take much longer


def find_envoy():
    found = glob.glob(os.path.join(servers.TOP, ".venv/lib/python3*/site-packages/envoy/_bin/envoy"))
    return os.environ.get("CALLOUT_ENVOY") or (found[0] if found else None)


def missing():
    """What this needs and does not find; None if it can be measured."""
    if find_envoy() is None:
        return "scripts/setup installs it into .venv"
    if shutil.which("h2load") is None:
        return "the load for it comes from h2load, in Debian's nghttp2-client"
    return None


def cpu_ns(pid):
    # The kernel's name of the CPU clock of another process, as clock_getcpuclockid makes it.
    return time.clock_gettime_ns((~pid << 3) | 2)


def typed(kind, **fields):
    return {"@type": f"type.googleapis.com/envoy.extensions.{kind}", **fields}


def local(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def cluster(name, port):
    options = typed("upstreams.http.v3.HttpProtocolOptions",
                    explicit_http_config={"http2_protocol_options": {}})
    endpoint = {"endpoint": {"address": local(port)}}
    return {
        "name": name, "type": "STATIC",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": {"thresholds": [{key: 100000 for key in (
            "max_connections", "max_pending_requests", "max_requests")}]},
    }


def upstream_cluster(port):
    endpoint = {"endpoint": {"address": local(port)}}
    return {**cluster("upstream", port), "typed_extension_protocol_options": {},
            "load_assignment": {"cluster_name": "upstream",
                                "endpoints": [{"lb_endpoints": [endpoint]}]}}


def listener(name, asks, has_upstream=False, cluster_name=None, more=None):
    """Asks the server of this name, if it `asks` one, about each request: of both header phases if
    there is an upstream, else of the request's, and Envoy responds itself. With `cluster_name` it
    asks that server instead, of the request's headers only. `more` is of the filter's configuration."""
    filters = []
    if asks:
        modes = {} if has_upstream and not cluster_name else {"response_header_mode": "SKIP"}
        config = typed("filters.http.ext_proc.v3.ExternalProcessor",
                       grpc_service={"envoy_grpc": {"cluster_name": cluster_name or name}},
                       message_timeout="20s",
                       **{"processing_mode": modes, **(more or {})})
        filters.append({"name": "ext_proc", "typed_config": config})
    filters.append({"name": "router", "typed_config": typed("filters.http.router.v3.Router")})
    action = ({"route": {"cluster": "upstream", "timeout": "600s"}} if has_upstream
              else {"direct_response": {"status": 200}})
    route = {"match": {"prefix": "/"}, **action}
    manager = typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix=name,
        http_filters=filters,
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]})
    return {"name": name, "address": local(0),
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}]}


class Envoy:
    """With a listener for each of `ports` ({server: port}), and one called "no filter"; in front of the
    HTTP/1.1 server on `upstream_port`, or of nothing. And with one for each of `half` ({name: server}),
    which asks that server about the request's headers only. `more` is of the filters' configuration."""

    def __init__(self, ports, cores, upstream_port=None, half=None, more=None):
        half = half or {}
        config_path = os.path.join(servers.RESULTS, "envoy.json")
        admin_path = os.path.join(servers.RESULTS, "envoy-admin")
        with open(config_path, "w") as file:
            json.dump({
                "admin": {"address": local(0)},
                "static_resources": {
                    "clusters": [cluster(name, port) for name, port in ports.items()]
                    + ([upstream_cluster(upstream_port)] if upstream_port else []),
                    "listeners": [listener("no filter", False, upstream_port is not None)]
                    + [listener(n, True, upstream_port is not None, more=more) for n in ports]
                    + [listener(n, True, True, server) for n, server in half.items()],
                },
            }, file)
        if os.path.exists(admin_path):
            os.remove(admin_path)
        with open(os.path.join(servers.RESULTS, "envoy.log"), "w") as log:
            self._process = subprocess.Popen(
                [find_envoy(), "--config-path", config_path, "--admin-address-path", admin_path,
                 "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"],
                stdout=log, stderr=log, preexec_fn=lambda: os.sched_setaffinity(0, cores))
        self.pid = self._process.pid
        self.ports = self._await_ports(admin_path, len(ports) + len(half) + 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()

    def _await_ports(self, admin_path, count):
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up and self._process.poll() is None:
            try:
                with open(admin_path) as file:
                    self.admin = file.read().strip()
                url = f"http://{self.admin}/listeners?format=json"
                with urllib.request.urlopen(url) as page:
                    found = json.load(page)["listener_statuses"]
                if len(found) == count:
                    return {l["name"]: l["local_address"]["socket_address"]["port_value"]
                            for l in found}
            except (OSError, ValueError, KeyError):
                pass
            time.sleep(0.05)
        self._process.kill()
        raise RuntimeError(f"Envoy does not start, see {servers.RESULTS}/envoy.log")


def quantiles(log_path):
    """Microseconds of the requests in h2load's log: begin, status and duration of each."""
    with open(log_path) as file:
        taken = sorted(int(line.split()[2]) for line in file)
    return {f"{name}_us": taken[int(len(taken) * share)] for name, share in (("p50", 0.5), ("p99", 0.99))}


def measure(envoy, name, server_pid, cores, requests, clients=CLIENTS, body_path=None):
    """One sample, or None if a request failed. With `body_path` requests have that file as their body, and
    the sample has their latency, too."""
    log_path = os.path.join(servers.RESULTS, "h2load.log")
    if os.path.exists(log_path):
        os.remove(log_path)  # h2load appends
    more = [f"--data={body_path}", f"--log-file={log_path}"] if body_path else []
    pids = [envoy.pid, *([server_pid] if server_pid else [])]
    before = [cpu_ns(pid) for pid in pids]
    try:
        done = subprocess.run(
            [*LOAD, f"--clients={clients}", f"--requests={requests}", *more,
             f"http://127.0.0.1:{envoy.ports[name]}/"],
            capture_output=True, text=True, timeout=20 + requests / 500,
            preexec_fn=lambda: os.sched_setaffinity(0, cores))
    except subprocess.TimeoutExpired:
        print(f"{name} behind Envoy: no result in time")
        return None
    used = [(cpu_ns(pid) - start) / requests / 1e3 for pid, start in zip(pids, before)]
    rate = re.search(r"finished in .*?, ([0-9.]+) req/s", done.stdout)
    if rate is None or f"{requests} 2xx" not in done.stdout:
        print(f"{name} behind Envoy: not every request was answered with 200\n{done.stdout}")
        return None
    return {"requests_per_second": float(rate[1]), "envoy_us": used[0],
            "server_us": used[1] if server_pid else 0.0,
            **(quantiles(log_path) if body_path else {})}


def compare(running, options, cores):
    """{name: [sample or None for each round]}; `running`: {name: a running server}."""
    server_cores, envoy_cores, _ = cores
    names = ["no filter", *running]
    samples = {name: [] for name in names}

    def measured(name, seconds):
        pid = running[name].pid if name in running else None
        requests = max(100, int(SLOW.get(name, REQUESTS) * seconds))
        return measure(envoy, name, pid, server_cores, requests)

    with Envoy({name: server.port for name, server in running.items()}, envoy_cores) as envoy:
        for name in names:
            measured(name, 0.1)  # Envoy's connections to it are made
        for _ in range(options.rounds):
            for name in random.sample(names, len(names)):
                samples[name].append(measured(name, options.seconds))
    return samples
