# SPDX-License-Identifier: Apache-2.0
"""What scripts write (logging, print, tracebacks of threads) goes to the host's log, under the name
of the plugin instance that wrote it.

Which instance that is, the call stack says: code of a script and of its own modules has the
instance's host in its builtins (see namespaces). Where no such code is on the stack, it is the
instance whose code has started the thread, else the one that was made last.
"""

import logging
import re
import sys
import threading

from callout_python import faults

HOST = '__callout_host__'  # the key in a script's builtins

# The levels of the ABI.
DEBUG, INFO, WARNING, ERROR = 5, 9, 13, 17
_LINE_MAX = 8192  # bytes, as of the host's log

_NAMESPACE = re.compile(r'^_callout_\d+\.')  # before the names of a script's modules

_hosts = []  # that live, in the order of their making


def _encode(text):
  return text.encode('utf-8', 'backslashreplace')


def _host_of_code(frame):
  while frame is not None:
    host = frame.f_builtins.get(HOST)
    if host is not None:
      return host
    frame = frame.f_back
  return None


def _host_of_thread(thread):
  host = thread.__dict__.get(HOST)
  return host or (_hosts[-1] if _hosts else None)


def _host_of_stack(frame):
  return _host_of_code(frame) or _host_of_thread(threading.current_thread())


def _host_of_error(error, thread):
  traceback = error.__traceback__ if error is not None else None
  while traceback is not None:
    host = traceback.tb_frame.f_builtins.get(HOST)
    if host is not None:
      return host
    traceback = traceback.tb_next
  return _host_of_thread(thread)


def _abi_level(level):
  if level >= logging.ERROR:
    return ERROR
  if level >= logging.WARNING:
    return WARNING
  return INFO if level >= logging.INFO else DEBUG


class _Formatter(logging.Formatter):
  """The message, after the logger's name unless it is the root."""

  def format(self, record):
    text = record.getMessage()
    if record.name != 'root':
      text = f'{_NAMESPACE.sub("", record.name)}: {text}'
    if record.exc_info and record.exc_info[1] is not None:
      text += ': ' + faults.describe(record.exc_info[1]).decode('utf-8')
    return text


class _Handler(logging.Handler):
  """Gives records to the host's log."""

  def emit(self, record):
    host = _host_of_stack(sys._getframe(1))
    if host is None or not host.enabled(_abi_level(record.levelno)):
      return
    try:
      text = self.format(record)
    except Exception as error:  # arguments that do not fit the format
      text = f'{record.msg!r}: {error}'
    host.log(_abi_level(record.levelno), _encode(text))


class _Bytes:
  """sys.stdout.buffer"""

  def __init__(self, text):
    self._text = text

  def write(self, data):
    self._text.write(bytes(data).decode('utf-8', 'backslashreplace'))
    return len(data)

  def flush(self):
    pass


class _Lines:
  """In the place of sys.stdout and sys.stderr: each line is a line of the log."""

  encoding = 'utf-8'
  errors = 'backslashreplace'
  closed = False
  newlines = None
  line_buffering = True

  def __init__(self, name, level):
    self.name = name
    self._level = level
    self._begun = threading.local()  # a line without its end
    self.buffer = _Bytes(self)

  def write(self, text):
    if not isinstance(text, str):
      raise TypeError(f'write() takes a str, not {type(text).__name__}')
    lines = (getattr(self._begun, 'text', '') + text).split('\n')
    self._begun.text = lines.pop()
    if len(self._begun.text) > _LINE_MAX:
      lines.append(self._begun.text)
      self._begun.text = ''
    if lines:
      host = _host_of_stack(sys._getframe(1))
      for line in lines:
        if host is not None and line:
          host.log(self._level, _encode(line))
    return len(text)

  def writelines(self, lines):
    for line in lines:
      self.write(line)

  def flush(self):
    pass

  def isatty(self):
    return False

  def readable(self):
    return False

  def writable(self):
    return True

  def seekable(self):
    return False

  def close(self):
    pass

  def fileno(self):
    raise OSError(f'{self.name} of a plugin is the log of the host, not a file')


def _thread_ended(args):
  if args.exc_type is SystemExit:
    return
  host = _host_of_error(args.exc_value, args.thread or threading.current_thread())
  name = args.thread.name if args.thread is not None else '?'
  if host is not None:
    text = f'the thread {name} of the script ended: '.encode('utf-8', 'backslashreplace')
    host.log(ERROR, text + faults.describe(args.exc_value))


def _unraisable(args):
  host = _host_of_error(args.exc_value, threading.current_thread())
  if host is not None:
    text = f'{args.err_msg or "exception ignored"} in {args.object!r}: '
    host.log(ERROR, _encode(text) + faults.describe(args.exc_value))


def _mark_threads():
  """Lets each thread know the instance whose code has started it."""
  start_thread = threading.Thread.start

  def start_marked(self):
    host = _host_of_code(sys._getframe(1)) or threading.current_thread().__dict__.get(HOST)
    if host is not None:
      self.__dict__[HOST] = host
    return start_thread(self)

  threading.Thread.start = start_marked


def threads_of(host):
  """The names of threads that run and that code of the instance has started."""
  return [thread.name for thread in threading.enumerate() if thread.__dict__.get(HOST) is host]


def start():
  """Once in a process."""
  _mark_threads()
  handler = _Handler()
  handler.setFormatter(_Formatter())
  root = logging.getLogger()
  root.addHandler(handler)
  root.setLevel(logging.INFO)
  logging.raiseExceptions = False
  sys.stdout = sys.__stdout__ = _Lines('stdout', INFO)
  sys.stderr = sys.__stderr__ = _Lines('stderr', WARNING)
  threading.excepthook = _thread_ended
  sys.unraisablehook = _unraisable


def add_host(host):
  """`host` serves from now on. The level of the root logger follows the host's."""
  _hosts.append(host)
  if host.enabled(DEBUG):
    logging.getLogger().setLevel(logging.DEBUG)


def remove_host(host):
  if host in _hosts:
    _hosts.remove(host)
