// SPDX-License-Identifier: Apache-2.0

// What many reloads cost: loads a small plugin again and again in one process, as so many different
// files, each taking the place of the one before, and prints memory, mappings and descriptors.
//
//   many_reloads PLUGIN.so [COUNT]
//
// Ends with an error if anything grows that mapped generations do not explain.
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/numbers.h"
#include "host/base/log.h"
#include "host/reload/plugin_set.h"
#include "plugins_page.h"

namespace callout::tests {
namespace {

struct Figures {
  long rss_kib = ProcessStatus(getpid(), "VmRSS");
  size_t mappings = CountLines("/proc/self/maps");
  size_t descriptors = CountDescriptors(getpid());
};

void Print(int reloads, const Figures& figures, double ms) {
  fmt::print(
      "{:>6} reloads: {:>8} KiB resident, {:>6} mappings, {:>3} descriptors, {:.2f} ms each\n",
      reloads, figures.rss_kib, figures.mappings, figures.descriptors, ms);
}

int Fail(const std::string& text) {
  fmt::print(stderr, "many_reloads: {}\n", text);
  return 1;
}

int Run(const std::string& path, int count) {
  host::SetLogLevel(host::LogLevel::kError);
  const std::string bytes = ReadFile(path);
  auto copies = host::PrivateCopies::Create();
  if (!copies.ok()) return Fail(std::string(copies.status().message()));
  host::Metrics metrics;
  host::PluginSet::Options options;
  options.instance.metrics = &metrics;
  options.generations_max = static_cast<size_t>(count);
  host::PluginSet set(std::move(options), [] {});
  const Figures first;
  Print(0, first, 0);
  auto start = std::chrono::steady_clock::now();
  const int step = std::max(count / 10, 1);
  for (int i = 1; i <= count; ++i) {
    host::GenerationSource source;
    source.id = source.number = static_cast<uint64_t>(i);
    source.name = "p";
    source.path = path;
    source.sha256 = std::to_string(i);
    auto copy = (*copies)->Add("p.so", bytes + fmt::format("\n{}\n", i));
    if (!copy.ok()) return Fail(std::string(copy.status().message()));
    source.copy = *std::move(copy);
    source.load_path = source.copy->path();
    const auto facts = set.Prepare(source);
    if (!facts.ok()) return Fail(std::string(facts.status().message()));
    set.Commit({source.id});
    set.Reap();
    if (i % step != 0) continue;
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    Print(i, Figures(), took.count() / step);
    start = std::chrono::steady_clock::now();
  }
  const Figures last;
  const auto usage = set.GetUsage();
  fmt::print("for each generation: {:.1f} KiB, {:.1f} mappings\n",
             static_cast<double>(last.rss_kib - first.rss_kib) / count,
             static_cast<double>(last.mappings - first.mappings) / count);
  if (usage.streams.size() != 1) return Fail("generations that have ended are still there");
  if (last.descriptors != first.descriptors) return Fail("descriptors are left open");
  if (last.mappings > first.mappings + 8 * static_cast<size_t>(count))
    return Fail("too many mappings");
  return 0;
}

}  // namespace
}  // namespace callout::tests

int main(int argc, char** argv) {
  int count = 10000;
  if (argc < 2 || (argc > 2 && !absl::SimpleAtoi(argv[2], &count)) || count < 1) {
    fmt::print(stderr, "usage: many_reloads PLUGIN.so [COUNT]\n");
    return 2;
  }
  return callout::tests::Run(argv[1], count);
}
