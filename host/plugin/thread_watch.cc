#include "host/plugin/thread_watch.h"

#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

namespace callout::host {
namespace {

constexpr char kName[] = "callout-loading";  // as long as a name may be

}  // namespace

ThreadWatch::ThreadWatch() {
  prctl(PR_GET_NAME, previous_name_.data());
  prctl(PR_SET_NAME, kName);
}

ThreadWatch::~ThreadWatch() { prctl(PR_SET_NAME, previous_name_.data()); }

size_t ThreadWatch::CountStarted() const {
  const std::string self = std::to_string(syscall(SYS_gettid));
  size_t count = 0;
  std::error_code error;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", error)) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    if (name == kName && task.path().filename() != self) ++count;
  }
  return count;
}

}  // namespace callout::host
