// SPDX-License-Identifier: Apache-2.0

#include "interpreter.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <sys/file.h>
#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>

namespace callout::plugins::python {
namespace {

// Held by one thread of the process. A mutex of this file would be one for each version of the
// plugin that is loaded; the process's folder in /proc is there once.
class ProcessLock {
 public:
  ProcessLock() : fd_(open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (fd_ >= 0) flock(fd_, LOCK_EX);
  }
  ~ProcessLock() {
    if (fd_ >= 0) close(fd_);
  }
  ProcessLock(const ProcessLock&) = delete;
  ProcessLock& operator=(const ProcessLock&) = delete;

 private:
  const int fd_;
};

// Python's extension modules do not link libpython: they take its symbols from what is global, and
// the host loads plugins, and with them their libraries, with local symbols.
void MakeSymbolsGlobal() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&Py_IsInitialized), &info) == 0 ||
      dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL) == nullptr) {
    throw std::runtime_error(
        "libpython's symbols cannot be made global, so no module could be "
        "imported; link the plugin with the shared libpython");
  }
}

struct ConfigDeleter {
  void operator()(PyConfig* config) const { PyConfig_Clear(config); }
};

std::string Begin() {
  PyPreConfig before;
  PyPreConfig_InitIsolatedConfig(&before);
  before.utf8_mode = 1;  // files are UTF-8, whatever the host's locale
  PyStatus status = Py_PreInitialize(&before);
  PyConfig config;
  const std::unique_ptr<PyConfig, ConfigDeleter> clear(&config);
  // Isolated: no PYTHON... of the environment, no packages of the user, no handlers of signals.
  PyConfig_InitIsolatedConfig(&config);
  config.write_bytecode = 0;
  // Else they would be those of the first python3 in PATH.
  if (!PyStatus_Exception(status)) {
    status = PyConfig_SetBytesString(&config, &config.home, CALLOUT_PYTHON_PREFIX);
  }
  if (!PyStatus_Exception(status)) {
    status = PyConfig_SetBytesString(&config, &config.program_name, CALLOUT_PYTHON_PROGRAM);
  }
  if (!PyStatus_Exception(status)) status = Py_InitializeFromConfig(&config);
  if (!PyStatus_Exception(status)) {
    PyEval_SaveThread();
    return "";
  }
  return std::string("Python cannot start: ") +
         (status.err_msg == nullptr ? "no reason given" : status.err_msg) +
         "; install libpython3-stdlib of the version " PY_VERSION " in " CALLOUT_PYTHON_PREFIX;
}

// Python's main thread. It has to stay: the next thread might be given its identity.
void BeginOnItsOwnThread() {
  struct Result {
    std::mutex mutex;
    std::condition_variable changed;
    bool done = false;
    std::string error;
  };
  const auto result = std::make_shared<Result>();
  std::thread main([result] {
    std::string error = Begin();
    const bool stays = error.empty();
    {
      const std::lock_guard lock(result->mutex);
      result->error = std::move(error);
      result->done = true;
    }
    result->changed.notify_all();
    if (!stays) return;
    while (true) pause();
  });
  pthread_setname_np(main.native_handle(), "python-main");
  main.detach();
  std::unique_lock lock(result->mutex);
  result->changed.wait(lock, [&] { return result->done; });
  if (!result->error.empty()) throw std::runtime_error(result->error);
}

}  // namespace

void StartInterpreter() {
  const ProcessLock lock;
  if (Py_IsInitialized() != 0) return;
  MakeSymbolsGlobal();
  BeginOnItsOwnThread();
}

// The host runs a private copy, elsewhere, in which $ORIGIN of the run path has become the folder
// of the file that the operator has named. So the run path, which is of no use to the linker here,
// tells where the plugin is.
std::string FindPackages() {
  Dl_info info;
  link_map* map = nullptr;
  Dl_serinfo size = {};
  const int found = dladdr1(reinterpret_cast<void*>(&FindPackages), &info,
                            reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP);
  if (found == 0 || dlinfo(map, RTLD_DI_SERINFOSIZE, &size) != 0) {
    throw std::runtime_error("the plugin's own file cannot be found");
  }
  const std::unique_ptr<char[]> memory(new char[size.dls_size]);
  auto* const paths = reinterpret_cast<Dl_serinfo*>(memory.get());
  *paths = size;
  if (dlinfo(map, RTLD_DI_SERINFO, paths) != 0) {
    throw std::runtime_error("the plugin's own run path cannot be read");
  }
  for (unsigned i = 0; i < paths->dls_cnt; ++i) {
    std::string folder = paths->dls_serpath[i].dls_name;
    if (!folder.ends_with("/python/packages")) continue;
    if (access((folder + "/callout_python/__init__.py").c_str(), R_OK) == 0) return folder;
  }
  throw std::runtime_error(
      "the folder python/packages with Python's part of the plugin is not beside the plugin's "
      "file; "
      "copy it along, or make a link to it");
}

Gil::Gil() {
  PyThreadState* const state = PyGILState_GetThisThreadState();
  if (state == nullptr) {
    PyGILState_Ensure();  // never released: its end would drop the thread's state
  } else {
    PyEval_RestoreThread(state);
  }
}

Gil::~Gil() { PyEval_SaveThread(); }

}  // namespace callout::plugins::python
