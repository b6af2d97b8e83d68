# SPDX-License-Identifier: Apache-2.0
"""The `context` of hooks: grpc.ServicerContext as far as it makes sense in a callout."""

import collections

from callout_python import faults

_Metadatum = collections.namedtuple('_Metadatum', ('key', 'value'))


def _number(code):
  """Of a grpc.StatusCode, or of a number."""
  value = getattr(code, 'value', code)
  number = value[0] if isinstance(value, tuple) else value
  if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= 16:
    raise TypeError(f'{code!r} is not a grpc.StatusCode')
  return number


def _bytes(text):
  return text if isinstance(text, bytes) else str(text).encode('utf-8', 'backslashreplace')


def make_class(native):
  """`native` has the call that is under way, for one version of python.so."""

  class Context(native):
    """One for each HTTP request; takes attributes of the script's own. What asks the host
    (is_active, peer, invocation_metadata) works while a hook runs."""

    def abort(self, code, details=''):
      """Ends the RPC with this status; does not return. PERMISSION_DENIED and UNAUTHENTICATED
      always do, other codes are faults under the operator's policy."""
      number = _number(code)
      if number == 0:
        number, details = 2, 'abort() called with StatusCode.OK; ended with UNKNOWN'
      self._end(number, _bytes(details), True)
      raise faults.Aborted(details)

    def abort_with_status(self, status):
      self.abort(status.code, status.details)

    def set_code(self, code):
      """The status of the RPC if the hook ends with an exception."""
      self._end(_number(code), None, False)

    def set_details(self, details):
      self._end(None, _bytes(details), False)

    def code(self):
      return self._code()

    def details(self):
      return self._details().decode('utf-8', 'replace')

    def is_active(self):
      """Whether the client still waits."""
      return self._is_active()

    def peer(self):
      """ipv4:10.0.0.7:41312, ipv6:[::1]:41312 or unix:/path"""
      return self._property(0)

    def invocation_metadata(self):
      """The gRPC request's metadata as (key, value) pairs; values of -bin keys are bytes."""
      return tuple(
          _Metadatum(key, value if key.endswith('-bin') else value.decode('utf-8', 'replace'))
          for key, value in self._metadata())

    def peer_identities(self):
      identity = self._property(2)
      return (identity.encode('utf-8'),) if identity else None

    def peer_identity_key(self):
      return 'x509_subject_alternative_name' if self._property(2) else None

    def auth_context(self):
      identity = self._property(2)
      return {'x509_subject_alternative_name': (identity.encode('utf-8'),)} if identity else {}

    def time_remaining(self):
      """Seconds until the host responds in the hook's place; None if there is no limit."""
      return self._seconds_left()

    def add_callback(self, callback):
      """Calls `callback()` some time after the end of the stream."""
      self.__dict__.setdefault('_callbacks', []).append(callback)
      self._has_callbacks = True
      return True

    def cancel(self):
      self.abort(1, 'cancelled by the script')

    # An ext_proc stream of this host has no metadata of its own to be sent, nor compression.
    def send_initial_metadata(self, unused_metadata):
      pass

    def set_trailing_metadata(self, unused_metadata):
      pass

    def trailing_metadata(self):
      return ()

    def set_compression(self, unused_compression):
      pass

    def disable_next_message_compression(self):
      pass

  return Context


def run_callbacks(context):
  """Of a stream that has ended, if its script has added any."""
  for callback in context.__dict__.pop('_callbacks', ()):
    callback()
