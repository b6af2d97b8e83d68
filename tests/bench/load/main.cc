// SPDX-License-Identifier: Apache-2.0

// Drives an ext_proc server on this machine and prints what came of it as one line
// of JSON. `bench-load --help` says how.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "load.h"

namespace callout::bench {
namespace {

double Quantile(const std::vector<uint64_t>& sorted_ns, double quantile) {
  if (sorted_ns.empty()) return 0;
  const auto index = static_cast<size_t>(quantile * static_cast<double>(sorted_ns.size()));
  return static_cast<double>(sorted_ns[std::min(index, sorted_ns.size() - 1)]) * 1e-3;
}

nlohmann::json ToJson(const LoadOptions& options, const Load::Result& result) {
  const double calls = static_cast<double>(std::max<uint64_t>(result.calls, 1));
  const auto per_call = [&](uint64_t before, uint64_t after) {
    return static_cast<double>(after - std::min(before, after)) / calls;
  };
  return {
      {"streams", result.calls},
      {"errors", result.errors},
      {"rate", options.rate},
      {"unanswered", result.unanswered},
      {"seconds", result.seconds},
      {"streams_per_second", static_cast<double>(result.calls) / result.seconds},
      {"cpu_us_per_stream", per_call(result.before.cpu_ns, result.after.cpu_ns) * 1e-3},
      {"generator_cpu_us_per_stream", per_call(0, result.own_cpu_ns) * 1e-3},
      {"context_switches_per_stream",
       per_call(result.before.context_switches, result.after.context_switches)},
      {"resident_kib", result.after.resident_kib},
      {"p50_us", Quantile(result.latencies_ns, 0.5)},
      {"p99_us", Quantile(result.latencies_ns, 0.99)},
      {"p999_us", Quantile(result.latencies_ns, 0.999)},
  };
}

LoadOptions ParseOptions(int argc, char** argv) {
  LoadOptions options;
  CLI::App app("Opens ext_proc streams, or makes Checks, to a server on this machine and measures");
  auto* address = app.add_option_group("The server")->require_option(1);
  address->add_option("--port", options.address.port, "On 127.0.0.1");
  address->add_option("--unix", options.address.unix_path, "The path of a unix socket");
  app.add_flag("--tls", options.tls, "Speak TLS, whatever the certificate");
  app.add_option("--scenario", options.scenario, "What each stream says")
      ->check(
          CLI::IsMember({"headers", "both", "bodies", "check", "buffered", "streamed", "duplex"}))
      ->capture_default_str();
  app.add_option("--body_bytes", options.body_bytes, "Of a body: buffered, streamed or duplex")
      ->check(CLI::Range(1, 1 << 30))
      ->capture_default_str();
  app.add_option("--recording", options.recordings,
                 "A recording, repeatable: the streams say what its exchanges did, in turn")
      ->allow_extra_args(false)
      ->excludes("--scenario");
  app.add_option("--ending", options.ending, "After the last answer: graceful, or reset as Envoy")
      ->transform(CLI::CheckedTransformer(std::map<std::string, Ending>{
          {"graceful", Ending::kGraceful}, {"envoy", Ending::kEnvoy}}));
  app.add_option("--connections", options.connections)
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--concurrency", options.concurrency, "Streams at once")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  app.add_option("--rate", options.rate, "Streams begun in a second, instead of --concurrency");
  app.add_option("--warmup", options.warmup_seconds, "Seconds before")->capture_default_str();
  app.add_option("--seconds", options.seconds, "Seconds measured")->capture_default_str();
  app.add_option("--streams", options.streams,
                 "So many streams, however long they take, instead of a time")
      ->excludes("--rate");
  app.add_option("--header", options.header, "That the answer to request headers is to set");
  app.add_flag("--any_phase", options.any_phase,
               "Take any message as the answer to any: for a server that always gives the same");
  app.add_option("--server_pid", options.server, "The process to read the use of CPU from");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    exit(app.exit(error));
  }
  return options;
}

}  // namespace
}  // namespace callout::bench

int main(int argc, char** argv) {
  const callout::bench::LoadOptions options = callout::bench::ParseOptions(argc, argv);
  callout::bench::Load load(options);
  load.Verify();
  const auto result = options.streams == 0 ? load.Run() : load.RunStreams();
  printf("%s\n", callout::bench::ToJson(options, result).dump().c_str());
  return result.errors > 0 && options.streams > 0 ? 1 : 0;
}
