// SPDX-License-Identifier: Apache-2.0

#include "host/workers/worker_end.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>

#include <vector>

#include "host/base/log.h"
#include "host/plugin/crash_report.h"

namespace callout::host {
namespace {

std::string WordOf(int wait_status) {
  if (!WIFSIGNALED(wait_status)) return fmt::format("exit status {}", WEXITSTATUS(wait_status));
  const int number = WTERMSIG(wait_status);
  return fmt::format("{} ({})", SignalName(number), number);
}

// The number of plugins that a text names beside the first.
constexpr size_t kOthersMax = 3;

WorkerEnd In(const std::string& word, const HookTable& table, const HookPlace& place) {
  WorkerEnd end;
  // A process that crashed may have written anything into the name.
  end.plugin = EscapeControls(table.PluginName(place.plugin));
  end.hook = place.hook;
  end.text = fmt::format("{} while plugin {} ran {}", word, end.plugin, HookName(place.hook));
  return end;
}

}  // namespace

WorkerEnd DescribeWorkerEnd(int wait_status, const HookTable& table,
                            const std::optional<HookTable::Running>& hung,
                            const std::string& hung_text) {
  const std::string word = WordOf(wait_status);
  if (hung.has_value()) {
    WorkerEnd end = In(word, table, hung->place);
    end.text = hung_text;
    end.hung = true;
    return end;
  }
  // Not from a plugin, but from an operator, or from the kernel when memory ran out.
  if (WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGKILL) {
    return {.text = word + " from outside", .from_outside = true};
  }
  if (WIFEXITED(wait_status) && table.ended_itself()) {
    return {.text = word + ": the worker could not go on; its last log lines say why",
            .by_itself = true};
  }
  if (const std::optional<HookPlace> place = table.CrashPlace(); place.has_value()) {
    if (place->plugin != 0) return In(word, table, *place);
    return {.text = word + " outside of every hook: on a thread of a plugin's own, or in the host"};
  }
  // It recorded no end, as after _exit().
  const std::vector<HookTable::Running> running = table.ListRunning();
  if (running.empty()) return {.text = word + " outside of every hook"};
  WorkerEnd end = In(word, table, running[0].place);
  size_t others = 0;
  for (const HookTable::Running& other : running) {
    if (other.place.plugin == running[0].place.plugin) continue;
    end.plugin.clear();
    if (++others > kOthersMax) continue;
    end.text +=
        fmt::format(", and plugin {} {}", EscapeControls(table.PluginName(other.place.plugin)),
                    HookName(other.place.hook));
  }
  if (others > kOthersMax) end.text += fmt::format(", and {} more", others - kOthersMax);
  return end;
}

}  // namespace callout::host
