# SPDX-License-Identifier: Apache-2.0
"""Modules of one script's own.

A script and the modules beside it (its folder, and the folders of "path") belong to one instance:
another instance, and the next version of the same, has its own. They stand in sys.modules under a
package of the namespace, `_callout_7.helper`. `import helper` finds them since the builtins of their
code have an __import__ of the namespace's own. All other modules (the standard library, the virtual
environment, extproc, envoy, grpc) are shared by all scripts of the process.
"""

import builtins
import importlib
import importlib.machinery
import importlib.util
import itertools
import sys
import types

NAMESPACE = '__callout_namespace__'  # the key in a script's builtins

# Never a script's own, whatever lies in its folder.
_SHARED = frozenset(('callout_python', 'envoy', 'extproc', 'google', 'grpc'))

_PREFIX = '_callout_'
_numbers = itertools.count(1)
_namespaces = {}  # by package


class _Loader(importlib.machinery.SourceFileLoader):
  """Reads the source itself: a cached file of byte code is known by the second of its source, and
  two saves may come within one."""

  def __init__(self, namespace, fullname, path):
    super().__init__(fullname, path)
    self._namespace = namespace

  def get_code(self, fullname):
    self._namespace.follow(self.path)  # before it is read, so that no change is missed
    return self.source_to_code(self.get_data(self.path), self.path)

  def exec_module(self, module):
    module.__dict__['__builtins__'] = self._namespace.builtins
    exec(self.get_code(module.__name__), module.__dict__)


class _Finder:
  """Finds modules of namespaces, by sys.meta_path."""

  @staticmethod
  def find_spec(fullname, path=None, target=None):
    if path is None or not fullname.startswith(_PREFIX):
      return None
    namespace = _namespaces.get(fullname.partition('.')[0])
    if namespace is None:
      return None
    spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
    if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
      spec.loader = _Loader(namespace, fullname, spec.loader.path)
    return spec


class Namespace:
  """The modules of one instance. `host` is where its output goes and who follows its files."""

  def __init__(self, folders, host_key, host):
    self._folders = folders
    self._host = host
    self._owned = {}  # whether a name is one of its own modules
    self.package = f'{_PREFIX}{next(_numbers)}'
    self.builtins = dict(vars(builtins))
    self.builtins['__import__'] = self._import
    self.builtins[host_key] = host
    self.builtins[NAMESPACE] = self
    package = types.ModuleType(self.package)
    package.__path__ = folders
    sys.modules[self.package] = package
    _namespaces[self.package] = self

  def follow(self, path):
    self._host.follow(path.encode('utf-8', 'surrogateescape'))

  def run_script(self, path, stem):
    """Runs the file as a module of the namespace. Its __name__ is not __main__."""
    name = f'{self.package}.{stem}'
    loader = _Loader(self, name, path)
    spec = importlib.machinery.ModuleSpec(name, loader, origin=path)
    spec.has_location = True
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    setattr(sys.modules[self.package], stem, module)
    self._owned[stem] = True
    loader.exec_module(module)
    return module

  def owns(self, head):
    owned = self._owned.get(head)
    if owned is None:
      owned = self._owned[head] = self._look_for(head)
    return owned

  def close(self):
    """Lets go of all modules, so that nobody but threads of the script keeps them."""
    _namespaces.pop(self.package, None)
    start = self.package + '.'
    for name in [name for name in sys.modules if name == self.package or name.startswith(start)]:
      del sys.modules[name]

  def _look_for(self, head):
    if head in _SHARED or head in sys.stdlib_module_names or head.startswith(_PREFIX):
      return False
    spec = importlib.machinery.PathFinder.find_spec(head, self._folders)
    if spec is None:
      return False
    if spec.loader is not None:
      return True
    # A folder without __init__.py: perhaps not meant to be a package.
    return importlib.machinery.PathFinder.find_spec(head) is None

  def _import(self, name, globals=None, locals=None, fromlist=(), level=0):
    head = name.partition('.')[0]
    if level != 0 or not self.owns(head):
      return builtins.__import__(name, globals, locals, fromlist, level)
    full = f'{self.package}.{name}'
    if fromlist:
      return builtins.__import__(full, globals, locals, fromlist, 0)
    importlib.import_module(full)
    return sys.modules[f'{self.package}.{head}']


def start():
  """Once in a process."""
  import_module = importlib.import_module

  def import_for_caller(name, package=None):
    namespace = sys._getframe(1).f_builtins.get(NAMESPACE)
    if namespace is not None and not name.startswith('.'):
      if namespace.owns(name.partition('.')[0]):
        return import_module(f'{namespace.package}.{name}')
    return import_module(name, package)

  sys.meta_path.insert(0, _Finder)
  importlib.import_module = import_for_caller
