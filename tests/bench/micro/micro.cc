// SPDX-License-Identifier: Apache-2.0

// What the host's own parts cost, without sockets and gRPC. Options are Google
// Benchmark's.
#include <benchmark/benchmark.h>

#include "rig.h"

namespace callout::bench {
namespace {

// From the host into a shared object and back.
void AbiCrossing(benchmark::State& state) {
  const auto plugin = LoadBuiltPlugin(CALLOUT_NOTHING);
  const auto hook = plugin->hooks().phases[CALLOUT_REQUEST_HEADERS];
  callout_call_t call = {};
  for ([[maybe_unused]] auto _ : state) benchmark::DoNotOptimize(hook(&call));
}
BENCHMARK(AbiCrossing);

// A whole stream with `state.range(0)` instances of a plugin.
void RunStreams(benchmark::State& state, const char* plugin, const char* messages) {
  const Scenario scenario = MakeScenario(messages);
  const size_t count = state.range(0);
  Rig rig(count == 0 ? nullptr : LoadBuiltPlugin(plugin), count);
  for ([[maybe_unused]] auto _ : state) rig.RunStream(scenario);
}
void Stream(benchmark::State& state) { RunStreams(state, CALLOUT_NOTHING, "headers"); }
BENCHMARK(Stream)->Arg(0)->Arg(1)->Arg(8);
void StreamStamped(benchmark::State& state) {
  RunStreams(state, CALLOUT_PLUGINS "/minimal_c.so", "headers");
}
BENCHMARK(StreamStamped)->Arg(1)->Arg(2)->Arg(4)->Arg(8);
void StreamOfSixMessages(benchmark::State& state) {
  RunStreams(state, CALLOUT_PLUGINS "/basic.so", "bodies");
}
BENCHMARK(StreamOfSixMessages)->Arg(0)->Arg(1)->Arg(2);

// The same plugin written with views and with generated classes.
void Views(benchmark::State& state) { RunStreams(state, CALLOUT_PLUGINS "/basic.so", "both"); }
BENCHMARK(Views)->Arg(1);
void Typed(benchmark::State& state) {
  RunStreams(state, CALLOUT_PLUGINS "/typed_basic.so", "both");
}
BENCHMARK(Typed)->Arg(1);

// A call that is finished after its hook has returned.
void Deferral(benchmark::State& state) {
  const Scenario scenario = MakeScenario("headers");
  Rig rig(MakePlugin([](callout_call_t* call) -> callout_status_t {
            Rig::deferred = call;
            return CALLOUT_DEFERRED;
          }),
          1);
  for ([[maybe_unused]] auto _ : state) rig.RunStream(scenario);
}
BENCHMARK(Deferral);

// Of several threads at once, which must not slow each other down.
void CounterAdd(benchmark::State& state) {
  static host::Metrics metrics;
  static const auto id = metrics.Define(host::Metrics::Kind::kCounter, "bench_total", "Adds");
  for ([[maybe_unused]] auto _ : state) metrics.Add(*id);
}
BENCHMARK(CounterAdd)->ThreadRange(1, 2);
void HistogramObserve(benchmark::State& state) {
  static host::Metrics metrics;
  static const auto id = metrics.Define(host::Metrics::Kind::kHistogram, "bench_seconds", "Times");
  for ([[maybe_unused]] auto _ : state) metrics.Observe(*id, 0.00002);
}
BENCHMARK(HistogramObserve)->ThreadRange(1, 2);

}  // namespace
}  // namespace callout::bench

BENCHMARK_MAIN();
