// SPDX-License-Identifier: Apache-2.0

// Creates a generation on a thread of its own. A plugin's create may hang, and must not delay the
// reloads of other plugins or the end of the process.
//
//   auto preparation = Preparation::Start(target, source);
//   if (preparation->WaitFor(kPatienceNs)) result = preparation->result();
//
// A thread that does not return is left alone. While running() is not 0, neither the target nor
// anything that it uses may be destroyed: the process must end by _exit.
//
// The functions belong to the reloading thread; any thread may call running().
//
// Tested by tests/host/reload/reloader_test.cc.
#ifndef CALLOUT_HOST_RELOAD_PREPARATION_H_
#define CALLOUT_HOST_RELOAD_PREPARATION_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "absl/status/statusor.h"
#include "host/reload/generation.h"

namespace callout::host {

class Preparation {
 public:
  using Result = absl::StatusOr<GenerationFacts>;

  // UNAVAILABLE if the thread cannot be started. `target` outlives the call of its Prepare.
  static absl::StatusOr<std::shared_ptr<Preparation>> Start(GenerationTarget* target,
                                                            GenerationSource source);

  // Waits for Prepare to return, at most `ns`. True if it has returned.
  bool WaitFor(uint64_t ns);
  // After WaitFor has returned true.
  const Result& result() const { return *result_; }

  // The number of threads in this process whose Prepare has not returned.
  static size_t running();

 private:
  void Finish(Result result);

  std::mutex mutex_;
  std::condition_variable done_;
  std::optional<Result> result_;  // guarded by mutex_ until it is set
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_PREPARATION_H_
