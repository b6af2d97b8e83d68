// SPDX-License-Identifier: Apache-2.0

#include "host/plugin/thread_watch.h"

#include <sys/prctl.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

namespace callout::host {
namespace {

constexpr char kName[] = "callout-loading";  // as long as a name may be

// The ids of the threads with that name.
std::vector<std::string> ListNamed() {
  std::vector<std::string> threads;
  std::error_code error;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", error)) {
    std::ifstream file(task.path() / "comm");
    std::string name;
    std::getline(file, name);
    if (name == kName) threads.push_back(task.path().filename().string());
  }
  return threads;
}

}  // namespace

ThreadWatch::ThreadWatch() {
  prctl(PR_GET_NAME, previous_name_.data());
  prctl(PR_SET_NAME, kName);
  known_ = ListNamed();  // includes this thread
}

ThreadWatch::~ThreadWatch() { prctl(PR_SET_NAME, previous_name_.data()); }

size_t ThreadWatch::CountStarted() const {
  const std::vector<std::string> named = ListNamed();
  return static_cast<size_t>(
      std::count_if(named.begin(), named.end(), [this](const std::string& thread) {
        return std::find(known_.begin(), known_.end(), thread) == known_.end();
      }));
}

}  // namespace callout::host
