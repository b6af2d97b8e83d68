# SPDX-License-Identifier: Apache-2.0
"""What a callout script imports from grpc, for a Python without grpcio.

Only names that the callout host gives a meaning: the host speaks gRPC itself. Where grpcio is
installed (in the virtual environment, or Debian's python3-grpcio), the script gets that one.
"""

import abc
import enum


@enum.unique
class StatusCode(enum.Enum):
  """The status of an RPC: number and name."""
  OK = (0, 'ok')
  CANCELLED = (1, 'cancelled')
  UNKNOWN = (2, 'unknown')
  INVALID_ARGUMENT = (3, 'invalid argument')
  DEADLINE_EXCEEDED = (4, 'deadline exceeded')
  NOT_FOUND = (5, 'not found')
  ALREADY_EXISTS = (6, 'already exists')
  PERMISSION_DENIED = (7, 'permission denied')
  RESOURCE_EXHAUSTED = (8, 'resource exhausted')
  FAILED_PRECONDITION = (9, 'failed precondition')
  ABORTED = (10, 'aborted')
  OUT_OF_RANGE = (11, 'out of range')
  UNIMPLEMENTED = (12, 'unimplemented')
  INTERNAL = (13, 'internal')
  UNAVAILABLE = (14, 'unavailable')
  DATA_LOSS = (15, 'data loss')
  UNAUTHENTICATED = (16, 'unauthenticated')


class RpcError(Exception):
  """The base of errors of RPCs."""


class RpcContext(abc.ABC):
  """The base of ServicerContext."""


class ServicerContext(RpcContext):
  """The type of a hook's `context`, for annotations and isinstance."""


def __getattr__(name):
  if name.startswith('__'):
    raise AttributeError(name)
  raise AttributeError(
      f'grpc.{name} needs grpcio: install it into the virtual environment that "venv" names '
      '(this is the stand-in of plugins/python)')
