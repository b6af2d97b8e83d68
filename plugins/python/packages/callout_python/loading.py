# SPDX-License-Identifier: Apache-2.0
"""Loads a script: its packages, its file, the class in it, an object of the class.

Errors are faults.LoadError with what the operator can do, or what the script raised.
"""

import glob
import importlib
import inspect
import os
import re
import site
import stat
import sys

from callout_python import append_actions, context, faults, namespaces, output

_started = False
_venv = None  # the one of this process

# In the order of the ABI's phases, from number 2 on.
_PHASES = (
    'request_headers',
    'response_headers',
    'request_body',
    'response_body',
    'request_trailers',
    'response_trailers',
)


def start(packages):
  """`packages` is the folder with extproc, envoy and this package. Again and again, since
  several versions of python.so may be in a process; only the first time counts."""
  global _started
  if _started:
    return
  _started = True
  sys.path.append(os.path.join(packages, 'standins'))  # behind grpcio, if there is one
  sys.argv = ['']
  output.start()
  namespaces.start()


def _use_venv(venv):
  """Puts the environment's packages before those of the system."""
  global _venv
  venv = os.path.abspath(venv)
  if _venv == venv:
    return
  if not os.path.isfile(os.path.join(venv, 'pyvenv.cfg')):
    raise faults.LoadError(
        f'{venv} is no virtual environment: it has no pyvenv.cfg; make one by '
        f'python{sys.version_info[0]}.{sys.version_info[1]} -m venv {venv}')
  version = f'python{sys.version_info[0]}.{sys.version_info[1]}'
  packages = os.path.join(venv, 'lib', version, 'site-packages')
  if not os.path.isdir(packages):
    others = [os.path.basename(path) for path in glob.glob(os.path.join(venv, 'lib', 'python3*'))]
    raise faults.LoadError(
        f'the virtual environment {venv} is for {", ".join(sorted(others)) or "no Python"}, and this '
        f'plugin has {version}; make it anew by {version} -m venv {venv}')
  if _venv is not None:
    raise faults.LoadError(
        f'this process uses the packages of {_venv} already, and a process has one set of packages; '
        f'give all instances the same "venv", and restart the host after a change to {venv}')
  protobuf = sys.modules.get('google.protobuf')
  if protobuf is not None and os.path.isdir(os.path.join(packages, 'google', 'protobuf')):
    raise faults.LoadError(
        f'another instance has loaded {os.path.dirname(protobuf.__file__)}, and a process has one '
        f'protobuf; give all instances "venv": "{venv}", and restart the host')
  before = list(sys.path)
  site.addsitedir(packages)
  added = [path for path in sys.path if path not in before]
  # After extproc and envoy, and the standard library; before the system's packages.
  system = [path for path in before if path.endswith('dist-packages') or path.endswith('standins')]
  sys.path[:] = [path for path in before if path not in system] + added + system
  _venv = venv


def _import_messages():
  try:
    return importlib.import_module('envoy.service.ext_proc.v3.external_processor_pb2')
  except ModuleNotFoundError as error:
    if not (error.name or '').startswith('google'):
      raise
    raise faults.LoadError(
        f'Python finds no {error.name}: install protobuf into the virtual environment that "venv" '
        "names, or Debian's python3-protobuf") from error


def _find_class(module, name, server_class):
  """The class of the script: the one that is named, or the only one that nobody extends."""
  if name:
    found = getattr(module, name, None)
    if inspect.isclass(found) and issubclass(found, server_class):
      return found
    what = 'there is none' if found is None else 'it is not one'
    raise faults.LoadError(
        f'"class": "{name}" is to be a subclass of CalloutServer in {module.__file__}, and {what}')
  classes = [
      value for value in vars(module).values()
      if inspect.isclass(value) and issubclass(value, server_class) and value is not server_class
  ]
  classes = list(dict.fromkeys(classes))
  own = [found for found in classes if found.__module__ == module.__name__] or classes
  leaves = [found for found in own if not any(
      other is not found and issubclass(other, found) for other in own)]
  if len(leaves) == 1:
    return leaves[0]
  if not leaves:
    raise faults.LoadError(
        f'{module.__file__} has no subclass of extproc.service.callout_server.CalloutServer; '
        'define one')
  names = ', '.join(sorted(found.__name__ for found in leaves))
  raise faults.LoadError(
      f'{module.__file__} has several subclasses of CalloutServer ({names}); name one by "class"')


class Loaded:
  """What python.so reads: `process`, and `hooks` by phase, each None unless it is overridden."""

  def __init__(self, namespace, server, server_class):
    self._namespace = namespace
    self._server = server
    self.process = self._hook('process', server_class)
    self.hooks = tuple(
        None if self.process else self._hook('on_' + phase, server_class) for phase in _PHASES)
    self.name = type(server).__name__

  def _hook(self, name, server_class):
    hook = getattr(self._server, name)
    if getattr(hook, '__func__', None) is getattr(server_class, name):
      return None
    if not callable(hook):
      raise faults.LoadError(f'{type(self._server).__name__}.{name} is no function')
    if inspect.iscoroutinefunction(hook) or inspect.isgeneratorfunction(hook) or (
        inspect.isasyncgenfunction(hook)):
      raise faults.LoadError(
          f'{type(self._server).__name__}.{name} is a coroutine or a generator; a hook is a plain '
          'function that returns its response')
    return hook

  def close(self, host):
    """Before the instance is gone. Says which threads of the script go on."""
    try:
      self._server.shutdown()
    finally:
      left = output.threads_of(host)
      if left:
        host.log(
            output.WARNING,
            (f'the script has left {len(left)} thread{"s"[:len(left) > 1]} running '
             f'({", ".join(left)}); end them in shutdown() of the class').encode('utf-8', 'backslashreplace'))
      self._namespace.close()


def load(host, script, class_name, venv, path):
  """The Loaded of the script; `path` are more folders of the script's own modules."""
  if venv:
    _use_venv(venv)
  importlib.invalidate_caches()
  messages = _import_messages()
  from extproc.service import callout_server
  script = os.path.abspath(script)
  host.follow(script.encode('utf-8', 'surrogateescape'))
  if not os.path.isfile(script):
    raise faults.LoadError(f'the script {script} is not there; give its path by "script"')
  if os.stat(script).st_mode & stat.S_IWOTH:
    host.log(output.WARNING, os.fsencode(
        f'every user may write to {script}, and what it says runs in the host; chmod o-w it'))
  folders = [os.path.dirname(script)] + [os.path.abspath(folder) for folder in path]
  for folder in folders:
    if not os.path.isdir(folder):
      raise faults.LoadError(f'"path" has {folder}, which is no folder')
  namespace = namespaces.Namespace(folders, output.HOST, host)
  output.add_host(host)
  try:
    stem = re.sub(r'\W', '_', os.path.splitext(os.path.basename(script))[0]) or '_'
    module = namespace.run_script(script, stem)
    found = _find_class(module, class_name, callout_server.CalloutServer)
    return Loaded(namespace, found(), callout_server.CalloutServer)
  except BaseException:
    output.remove_host(host)
    namespace.close()
    raise


def unload(host, loaded):
  try:
    loaded.close(host)
  finally:
    output.remove_host(host)


def messages():
  """(parsers, responses): the functions that parse a ProcessingRequest and the message of each
  phase; the classes of responses. In the order of python.so."""
  pb = _import_messages()
  headers, body, trailers = pb.HttpHeaders, pb.HttpBody, pb.HttpTrailers
  parsers = [pb.ProcessingRequest] + [headers] * 2 + [body] * 2 + [trailers] * 2
  responses = (pb.HeadersResponse, pb.BodyResponse, pb.TrailersResponse, pb.ImmediateResponse,
               pb.ProcessingResponse)
  return tuple(parser.FromString for parser in parsers), responses


def register_context(made):
  """isinstance(context, grpc.ServicerContext), if the script has imported grpc."""
  grpc = sys.modules.get('grpc')
  base = getattr(grpc, 'ServicerContext', None)
  if hasattr(base, 'register'):
    base.register(made)


make_context_class = context.make_class
settle_append_actions = append_actions.settle
run_callbacks = context.run_callbacks
describe = faults.describe
describe_load = faults.describe_load
HookDeadline = faults.HookDeadline
