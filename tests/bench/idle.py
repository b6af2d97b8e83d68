# SPDX-License-Identifier: Apache-2.0
"""Holds streams open on a server, each with one message that it has answered, and tells what they cost.

HTTP/2 in as few lines as this takes: literal headers, no more frames than needed.
"""

import os
import socket
import struct

import report

CONNECTIONS = 100
STREAMS = 100  # on each: the least that the servers here allow by themselves
PATIENCE_S = 20

DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 4, 6, 7, 8
END_HEADERS = 4
ACK = 1


def text(value):
    return bytes([len(value)]) + value.encode()


# Literals without indexing, of names 4 (:path), 1 (:authority) and new ones; 131 and 134 are
# ":method: POST" and ":scheme: http".
REQUEST = (bytes([131, 134, 4]) + text("/envoy.service.ext_proc.v3.ExternalProcessor/Process")
           + bytes([1]) + text("localhost")
           + bytes([0]) + text("content-type") + text("application/grpc")
           + bytes([0]) + text("te") + text("trailers"))


def record(number, payload):
    size = len(payload)
    length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
    return bytes([number << 3 | 2]) + length + payload


def message():
    """A ProcessingRequest of 12 request headers, as gRPC frames it."""
    headers = b"".join(
        record(1, record(1, f"x-header-name-{i:02}".encode()) + record(3, b"a value of some size"))
        for i in range(12))
    request = record(2, record(1, headers))
    return b"\0" + struct.pack(">I", len(request)) + request


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class Held:
    """A connection with streams that stay."""

    def __init__(self, port):
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._bytes = b""
        self._answered = set()
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b""))

    def open(self, count):
        body = message()
        for i in range(count):
            stream = 2 * i + 1
            self._socket.sendall(frame(HEADERS, END_HEADERS, stream, REQUEST)
                                 + frame(DATA, 0, stream, body))
            while len(self._answered) <= i:
                self._take_frame()

    def close(self):
        self._socket.close()

    def _read(self, size):
        while len(self._bytes) < size:
            got = self._socket.recv(65536)
            if not got:
                raise ConnectionError("the server has closed the connection")
            self._bytes += got
        taken, self._bytes = self._bytes[:size], self._bytes[size:]
        return taken

    def _take_frame(self):
        head = self._read(9)
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        payload = self._read(int.from_bytes(head[:3], "big"))
        if kind in (SETTINGS, PING) and not flags & ACK:
            self._socket.sendall(frame(kind, ACK, 0, payload if kind == PING else b""))
        elif kind == DATA and payload:
            self._answered.add(stream)
            self._socket.sendall(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", len(payload))))
        elif kind not in (SETTINGS, PING, HEADERS, DATA, WINDOW_UPDATE):
            raise ConnectionError(f"the server ends stream {stream} with a frame of kind {kind}")


def resident_kib(pid, which="VmRSS"):
    with open(os.path.join("/proc", str(pid), "status")) as status:
        return next(int(line.split()[1]) for line in status if line.startswith(f"{which}:"))


def measure(process):
    """(KiB before, KiB with the streams); an OSError if the server does not take them."""
    before = resident_kib(process.pid)
    held = []
    try:
        for _ in range(CONNECTIONS):
            held.append(Held(process.port))
            held[-1].open(STREAMS)
        return before, resident_kib(process.pid)
    finally:
        for connection in held:
            connection.close()


def table(by_name):
    """`by_name`: {server: (KiB before, KiB with the streams) or None}."""
    rows = []
    for name, sample in by_name.items():
        if sample is None:
            rows.append([name, "failed", "failed", "failed"])
            continue
        before, after = sample
        per_stream = (after - before) / (CONNECTIONS * STREAMS)
        rows.append([name, f"{before / 1024:.1f}", f"{after / 1024:.1f}", f"{per_stream:.2f}"])
    return report.markdown(["server", "MiB when started", "MiB with the streams", "KiB a stream"],
                           rows)
