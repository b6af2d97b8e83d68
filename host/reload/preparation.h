// SPDX-License-Identifier: Apache-2.0

// A generation that is made on a thread of its own: a plugin's create may wait for something that
// never comes, and must hold up neither the reloads of others nor the end of the process.
//
//   auto preparation = Preparation::Start(target, source);
//   if (preparation->WaitFor(kPatienceNs)) result = preparation->result();
//
// A thread that does not return is left as it is. While running() is not 0, neither the target nor
// what it uses may be destroyed: the process ends by _exit.
//
// Start and the other functions belong to the reloading thread; running() to any.
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

  // UNAVAILABLE if there is no thread for it. `target` outlives the call of its Prepare.
  static absl::StatusOr<std::shared_ptr<Preparation>> Start(GenerationTarget* target,
                                                            GenerationSource source);

  // True once Prepare has returned; waits for that at most `ns`.
  bool WaitFor(uint64_t ns);
  // After WaitFor has returned true.
  const Result& result() const { return *result_; }

  // Of this process: threads whose Prepare has not returned.
  static size_t running();

 private:
  void Finish(Result result);

  std::mutex mutex_;
  std::condition_variable done_;
  std::optional<Result> result_;  // guarded by mutex_ until it is there
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_RELOAD_PREPARATION_H_
