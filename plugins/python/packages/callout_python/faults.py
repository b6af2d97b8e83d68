# SPDX-License-Identifier: Apache-2.0
"""Exceptions as one line of bounded length."""

import collections
import linecache
import os

_BYTES_MAX = 1000  # the ABI cuts an error's text at 1024
_FIRST, _LAST = 2, 3  # calls that are shown of a long traceback
_CAUSES_MAX = 3


class LoadError(Exception):
  """Why a script cannot be loaded, in words for the operator."""


class HookDeadline(BaseException):
  """Raised in a hook that runs on long after its deadline. Not an Exception, so that `except
  Exception` in a loop does not stop it."""

  def __str__(self):
    return 'the hook ran past its deadline'


class Aborted(Exception):
  """Raised by context.abort()."""


def _text(error):
  try:
    text = str(error)
  except Exception:  # the script's own __str__
    text = '(its text cannot be had)'
  name = type(error).__name__
  return f'{name}: {text}' if text else name


def _calls(traceback):
  """The calls of a traceback, outermost first: [(file, line, function)], cut in the middle."""
  own = os.path.dirname(__file__)
  first, last, count = [], collections.deque(maxlen=_LAST), 0
  while traceback is not None:
    code = traceback.tb_frame.f_code
    if os.path.dirname(code.co_filename) != own and not code.co_filename.startswith('<frozen'):
      call = (code.co_filename, traceback.tb_lineno, code.co_name)
      count += 1
      if count <= _FIRST:
        first.append(call)
      else:
        last.append(call)
    traceback = traceback.tb_next
  return first, count - len(first) - len(last), list(last)


def _source_line(path, line):
  linecache.checkcache(path)
  return linecache.getline(path, line).strip()


def _place(error):
  first, omitted, last = _calls(error.__traceback__)
  calls = first + last
  if not calls:
    return ''
  shown = [f'{os.path.basename(path)}:{line} in {name}' for path, line, name in calls]
  if omitted:
    shown.insert(len(first), f'... {omitted} more')
  source = _source_line(*calls[-1][:2])
  return ' (' + ' > '.join(shown) + (f': {source}' if source else '') + ')'


def _cut(text, bytes_max):
  encoded = text.encode('utf-8', 'backslashreplace')
  if len(encoded) <= bytes_max:
    return encoded
  return encoded[:bytes_max - 3].decode('utf-8', 'ignore').encode('utf-8') + b'...'


def describe(error):
  """UTF-8: `ValueError: no luck (server.py:12 in on_request_headers > ...: raise ...)`, and what
  it was caused by."""
  parts = []
  seen = set()
  while error is not None and id(error) not in seen and len(parts) <= _CAUSES_MAX:
    seen.add(id(error))
    text = _text(error)
    if isinstance(error, SystemExit):
      text += ' (a script cannot end the host)'
    parts.append(text + _place(error))
    cause = error.__cause__
    if cause is None and not error.__suppress_context__:
      cause = error.__context__
    error = cause
  return _cut(' from '.join(parts), _BYTES_MAX)


def describe_load(error):
  """The same for what went wrong while a script was loaded."""
  if isinstance(error, LoadError):
    return _cut(str(error), _BYTES_MAX)
  if isinstance(error, SyntaxError) and error.filename:
    line = f' at {os.path.basename(error.filename)}:{error.lineno}'
    return _cut(f'{type(error).__name__}: {error.msg}{line}', _BYTES_MAX)
  return describe(error)
