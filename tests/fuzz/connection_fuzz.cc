// SPDX-License-Identifier: Apache-2.0

// Drives one HTTP/2 connection by the decisions that the input stands for: frames,
// legal and not, in any pieces, calls that plugins defer, the end of either side at any
// moment.
//
// Readers: host/transport/h2/h2_connection.cc host/transport/h2/h2_guard.cc
// host/transport/h2/h2_call.cc
#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "host/plugin/services.h"
#include "host/transport/h2/h2_connection.h"
#include "tests/fuzz/choices.h"
#include "tests/fuzz/target.h"
#include "tests/host/transport/h2_client.h"

namespace callout::host {

namespace {

constexpr uint32_t kStreamsMax = 6;
// Fewer, so that some are refused.
constexpr size_t kLiveMax = 5;
constexpr size_t kMemoryMax = 20000;
constexpr size_t kMessageMax = 10000;
// Little, so that it is often gone.
constexpr size_t kBudgetBytes = 64000;

// What the plugin of the run shares with it: one run at a time.
struct Run {
  Choices choices;
  std::vector<callout_call_t*> deferred;
};
Run* g_run = nullptr;

callout_status_t OnProcess(callout_call_t* call) {
  switch (g_run->choices.Next(4)) {
    case 0:
      g_run->deferred.push_back(call);
      return CALLOUT_DEFERRED;
    case 1:
      return CALLOUT_INTERNAL;
    default:
      return CALLOUT_OK;
  }
}

callout_status_t OnCreate(callout_create_args_t*) { return CALLOUT_OK; }

// What all runs share.
struct World {
  World() {
    SetUp();
    StreamLimits limits;
    limits.live_max = kLiveMax;
    auto made = StreamEnvironment::Create(limits, &*chains, &metrics);
    environment = *std::move(made);
    h2_metrics = *H2Metrics::Define(&metrics);
    options.concurrent_streams_max = kStreamsMax;
    options.message_bytes_max = kMessageMax;
    options.metadata_bytes_max = 1024;
    options.connection_memory_bytes_max = kMemoryMax;
    options.guard = {.header_block_bytes_max = 1024, .control_frames_max = 20};
    options.unanswered_resets_max = 4;
    options.turn_messages_max = 3;
    health_options = options;
    health_options.services = ServiceSet::kHealth;
  }
  void SetUp() {
    Plugin::Fields fields;
    fields.path = fields.name = "fuzzed";
    fields.hooks.on_process = OnProcess;
    fields.hooks.phases[PhaseSlot(CALLOUT_CHECK)] = OnProcess;
    fields.hooks.plugin_create = OnCreate;
    auto instance = Instance::Create(std::make_shared<Plugin>(std::move(fields)), "fuzzed", "", {},
                                     {.metrics = &metrics, .message_bytes_max = kMessageMax});
    chains.emplace(
        std::make_shared<Chain>(std::vector<std::shared_ptr<Instance>>{*std::move(instance)}));
  }

  Metrics metrics;
  std::optional<ChainSource> chains;
  std::unique_ptr<StreamEnvironment> environment;
  H2Metrics h2_metrics;
  H2Options options, health_options;
  MemoryBudget memory{kBudgetBytes};
  H2Shared shared{&memory};
  std::atomic<bool> serving{true};
};

class Driver final : public H2Connection::Owner {
 public:
  Driver(World* world, Run* run)
      : choices_(run->choices),
        run_(run),
        context_(choices_.OneIn(8) ? world->health_options : world->options,
                 world->environment.get(), world->h2_metrics, &world->shared, &world->serving,
                 [] {}),
        now_ns_(context_.now_ns()) {
    connection_.emplace(&context_, std::make_shared<H2Peer>(), this);
  }

  std::string Drive() {
    if (choices_.Next(16) != 15) {
      // At times a window that a response does not fit into.
      const std::string_view settings("\0\x4\0\0\0\x10", choices_.OneIn(4) ? 6 : 0);
      Send(std::string(kPreface) + Frame(NGHTTP2_SETTINGS, 0, 0, settings));
    }
    while (!choices_.empty() && connection_.has_value()) {
      if (std::string error = Step(); !error.empty()) return error;
    }
    connection_.reset();
    while (!run_->deferred.empty()) FinishOne();
    context_.TakePosted();
    return context_.live() == 0 ? "" : "a stream is left when all is over";
  }

  void OnOutput() override {}

 private:
  std::string Step() {
    switch (choices_.Next(10)) {
      case 0:
        if (choices_.Next(32) == 31) Send(choices_.Bytes(64));
        break;
      case 1:
        if (!run_->deferred.empty()) FinishOne();
        context_.TakePosted();
        break;
      case 2:
        now_ns_ += uint64_t{choices_.Next(256)} * 10'000'000;
        context_.SetNow(now_ns_);
        context_.TakeDeadlines();
        break;
      case 3:
        if (choices_.Next(8) == 0) connection_->BeginShutdown();
        if (choices_.Next(8) == 0) connection_->FinishShutdown();
        if (choices_.Next(8) == 0) connection_->OnServingChanged();
        if (choices_.Next(8) == 0) connection_->EndStreams();
        if (choices_.Next(8) == 0) connection_->Ping();
        break;
      default:
        Send(RandomFrame());
    }
    return Flush();
  }

  // Takes what the connection sends, at times not all of it.
  std::string Flush() {
    if (choices_.Next(3) != 0) connection_->BeginTurn();
    std::string out;
    const size_t most = choices_.Next(4) == 0 ? 1 : SIZE_MAX;
    while (connection_->Fill(&out, most) && most == SIZE_MAX && out.size() < 1 << 22) out.clear();
    if (out.size() >= 1 << 22) return "output without end";
    if (context_.live() > kStreamsMax) return "more streams than the limit";
    if (connection_->done()) connection_.reset();
    return "";
  }

  void FinishOne() {
    const size_t at = choices_.Next(static_cast<unsigned>(run_->deferred.size()));
    callout_call_t* call = run_->deferred[at];
    run_->deferred.erase(run_->deferred.begin() + static_cast<ptrdiff_t>(at));
    call->host->finish(call, CALLOUT_OK);
  }

  void Send(const std::string& bytes) {
    const size_t piece = 1 + choices_.Next(255);
    for (size_t at = 0; at < bytes.size(); at += piece) {
      connection_->OnBytes(std::string_view(bytes).substr(at, piece));
    }
  }

  std::string RandomFrame() {
    // One of the last that were opened, seldom another.
    const uint32_t back = 2 * choices_.Next(choices_.Next(64) == 63 ? 60 : 4);
    const uint32_t stream = next_stream_ + 1 > back ? next_stream_ - back : 1;
    auto flags = static_cast<uint8_t>(choices_.Next(2));
    switch (choices_.Next(16)) {
      case 0:
      case 1:
      case 2:
      case 3:
        flags |= choices_.Next(64) == 63 ? 0 : NGHTTP2_FLAG_END_HEADERS;
        return Frame(NGHTTP2_HEADERS, flags, next_stream_ += 2, Block());
      case 4:
        if (choices_.OneIn(4)) return Frame(NGHTTP2_PRIORITY, 0, stream, std::string(5, '\0'));
        // The acknowledgement ends a shutdown.
        return choices_.OneIn(4) ? Frame(NGHTTP2_PING, NGHTTP2_FLAG_ACK, 0, "shutdown")
                                 : Frame(NGHTTP2_PING, 0, 0, "12345678");
      case 5:
        return Frame(NGHTTP2_DATA, flags, stream, choices_.Bytes(255));
      case 6:
        return Frame(NGHTTP2_RST_STREAM, 0, stream, std::string_view("\0\0\0\x8", 4));
      case 7:
        return Frame(NGHTTP2_WINDOW_UPDATE, 0, choices_.Next(2) == 0 ? 0 : stream,
                     std::string_view("\0\0\1\0", 4));
      case 8:
        if (choices_.Next(8) == 7) {
          return Frame(static_cast<uint8_t>(choices_.Next(12)), flags, stream, choices_.Bytes(32));
        }
        return "";
      default:
        return Frame(NGHTTP2_DATA, flags, stream, Message());
    }
  }

  // Request headers in HPACK's literals, at times with something wrong.
  std::string Block() {
    const char* const paths[] = {
        kProcessPath,
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/no.such/Method",
        kProcessPath,
        "/envoy.service.auth.v3.Authorization/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        kProcessPath,
    };
    H2Client::Headers headers = H2Client::GrpcHeaders(paths[choices_.Next(8)]);
    if (choices_.Next(8) == 7) headers.erase(headers.begin() + choices_.Next(6));
    if (choices_.Next(8) == 7) headers.push_back({"grpc-timeout", "1m"});
    if (choices_.Next(8) == 7) headers.push_back({"x-bin", choices_.Bytes(20)});
    if (choices_.Next(8) == 7) headers.push_back({"grpc-encoding", "gzip"});
    if (choices_.Next(8) == 7) headers.push_back({"x-long", std::string(120, 'l')});
    std::string block;
    for (const auto& [name, value] : headers) {
      block += '\0';
      block += static_cast<char>(name.size());
      block += name;
      block += static_cast<char>(value.size());
      block += value;
    }
    // One that the table keeps, as often as some bytes say: a block is small, and its headers are
    // not.
    if (choices_.OneIn(16)) {
      block += std::string("\x40\x01y\x7f\0", 5) + std::string(127, 'y');
      block.append(4 * choices_.Next(200), '\xbe');
    }
    return block;
  }

  // A message, or the beginning of a large one.
  std::string Message() {
    envoy::service::ext_proc::v3::ProcessingRequest request;
    if (choices_.Next(2) == 0) {
      request.mutable_request_headers();
    } else {
      request.mutable_request_body()->set_body(std::string(choices_.Next(256) * 40, 'b'));
    }
    std::string message = Framed(request.SerializeAsString());
    if (choices_.Next(4) == 3) message.resize(message.size() / 2);
    return message;
  }

  Choices& choices_;
  Run* const run_;
  H2Context context_;
  uint64_t now_ns_;
  std::optional<H2Connection> connection_;
  uint32_t next_stream_ = static_cast<uint32_t>(-1);
};

FUZZ_TARGET(connection, .rounds = 5000, .bytes = 256) {
  static World* const world = new World;
  Run run{choices, {}};
  g_run = &run;
  std::string error = Driver(world, &run).Drive();
  g_run = nullptr;
  if (!error.empty()) return error;
  return world->memory.used() == 0 ? "" : "memory is drawn when all is over";
}

}  // namespace
}  // namespace callout::host
