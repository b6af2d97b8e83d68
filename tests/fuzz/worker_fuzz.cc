// SPDX-License-Identifier: Apache-2.0

// What a worker tells its supervisor: a plugin that has run wild may have written all of
// it. Messages of the channel, in any pieces; what is in them; the shared table of hooks.
//
// Readers: host/workers/worker_channel.cc host/workers/worker_messages.cc host/plugin/hook_table.cc
// Not counted: ThreadSlot ~ThreadSlot GiveStackBack ThisThread OfThisThread TakeSlot (write to the
// table, for the hooks of this process)
// Not counted: InUse Use NoteCrash NoteOwnEnd ended_itself (of this process's own table)
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "host/base/plain_codec.h"
#include "host/explain/explainer.h"
#include "host/metrics/metric_sum.h"
#include "host/metrics/metrics.h"
#include "host/metrics/open_metrics.h"
#include "host/plugin/hook_table.h"
#include "host/shadow/shadow_exchange.h"
#include "host/transport/traffic.h"
#include "host/workers/worker_channel.h"
#include "host/workers/worker_messages.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

using Families = std::vector<prometheus::MetricFamily>;

// What decodes is what encoding gives.
template <class T>
bool IsOneToOne(const std::string& bytes) {
  const std::optional<T> value = Decode<T>(bytes);
  return !value.has_value() || Encode(*value) == bytes;
}

std::string Bound(TrafficSight sight) {
  BoundSight(&sight);
  for (const LiveRpc& rpc : sight.live.rpcs) {
    if (rpc.state.size() > RecentFaults::kTextBytesMax) return "a state of any length";
  }
  for (const RecentFault& fault : sight.faults) {
    if (fault.what.size() > RecentFaults::kTextBytesMax) return "a fault of any length";
  }
  const bool few =
      sight.live.rpcs.size() <= TrafficSight::kRpcsMax && sight.faults.size() <= RecentFaults::kMax;
  return few ? "" : "a worker fills the page";
}

bool IsLine(const std::string& text) {
  return std::none_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20; });
}

std::string Bound(std::vector<ShadowReport> reports) {
  BoundReports(&reports);
  for (const ShadowReport& report : reports) {
    if (!IsLine(report.plugin) || !IsLine(report.instead_of)) return "a name that breaks the page";
    if (report.summary.entries.size() > kDifferenceEntriesMax) return "a report without end";
    for (const auto& [key, entry] : report.summary.entries) {
      if (key.find(' ') == key.npos || !IsLine(entry.example)) return "a difference that is none";
    }
  }
  return "";
}

std::string AnyText(Choices& choices) {
  return std::string(choices.Next(40) * (choices.OneIn(8) ? 100 : 1),
                     static_cast<char>(choices.Next(256)));
}

// Values as a worker makes them, or would if it could.
std::string AnyValue(Choices& choices) {
  switch (choices.Next(4)) {
    case 0: {
      TrafficSight sight;
      LiveRpc rpc;
      rpc.state = rpc.peer = AnyText(choices);
      RecentFault fault;
      fault.what = AnyText(choices);
      sight.live.rpcs.resize(choices.Next(256) * (choices.OneIn(4) ? 10 : 1), rpc);
      sight.faults.resize(choices.Next(256), fault);
      return Encode(sight);
    }
    case 1: {
      std::vector<ShadowReport> reports(choices.OneIn(8) ? 1001 : 1 + choices.Next(2));
      ShadowReport& report = reports.front();
      report.plugin = report.instead_of = AnyText(choices);
      for (unsigned i = choices.Next(256); i > 0; --i) {
        const std::string key = choices.OneIn(8) ? AnyText(choices) : "kind " + std::to_string(i);
        report.summary.entries[key] = {.exchanges = i,
                                       .before = AnyText(choices),
                                       .after = "a",
                                       .request_id = "b",
                                       .example = AnyText(choices)};
      }
      return Encode(reports);
    }
    case 2: {
      Exemplar exemplar;
      exemplar.name = "a";
      exemplar.trace_id = choices.Next(2) == 0 ? std::string(32, 'a') : AnyText(choices);
      return Encode(std::vector<Exemplar>(1 + choices.Next(2), exemplar));
    }
    default: {
      prometheus::MetricFamily family;
      family.name = choices.Next(2) == 0 ? "name" : AnyText(choices);
      family.help = AnyText(choices);
      family.type = static_cast<prometheus::MetricType>(choices.Next(6));
      prometheus::ClientMetric metric;
      for (unsigned i = choices.Next(3); i > 0; --i)
        metric.label.push_back({"a", AnyText(choices)});
      metric.histogram.bucket.resize(choices.Next(2) * choices.Next(120));
      family.metric.resize(choices.Next(3), metric);
      return Encode(Families(1 + choices.Next(2), family));
    }
  }
}

std::string ReadBody(const std::string& bytes) {
  const bool good = IsOneToOne<Families>(bytes) && IsOneToOne<GenerationTarget::Usage>(bytes) &&
                    IsOneToOne<std::vector<GenerationId>>(bytes) &&
                    IsOneToOne<GenerationFacts>(bytes) && IsOneToOne<PrepareOrder>(bytes) &&
                    IsOneToOne<CertificatePem>(bytes) && IsOneToOne<WorkerReply>(bytes) &&
                    IsOneToOne<WatchSettings>(bytes) && IsOneToOne<std::vector<Explained>>(bytes) &&
                    IsOneToOne<std::vector<Exemplar>>(bytes) && IsOneToOne<TrafficSight>(bytes) &&
                    IsOneToOne<std::vector<ShadowReport>>(bytes);
  if (!good) return "bytes are taken for a value that is written in other ones";
  if (auto reply = Decode<WorkerReply>(bytes)) {
    const bool says_ok = reply->code == 0;
    const absl::StatusOr<std::string> body = BodyOf(*std::move(reply));
    if (body.ok() != says_ok) return "an error is taken for a response";
    if (Decode<WorkerReply>(Encode(AnswerOf(body.status()))) == std::nullopt) {
      return "an error cannot be told to others";
    }
  }
  if (auto sight = Decode<TrafficSight>(bytes)) {
    if (std::string error = Bound(*std::move(sight)); !error.empty()) return error;
  }
  if (auto reports = Decode<std::vector<ShadowReport>>(bytes)) {
    if (std::string error = Bound(*std::move(reports)); !error.empty()) return error;
  }
  if (auto families = Decode<Families>(bytes)) {
    DropUnsound(&*families);
    MetricSum sum;
    sum.Add(*families);
    sum.Add(*families);
    (void)MetricsText(sum.Get());
    (void)OpenMetricsText(sum.Get(), {});
  }
  if (auto exemplars = Decode<std::vector<Exemplar>>(bytes)) {
    DropUnsound(&*exemplars);
    for (const Exemplar& exemplar : *exemplars) {
      if (exemplar.trace_id.find_first_not_of("0123456789abcdef") != std::string::npos) {
        return "a trace id that is none";
      }
    }
  }
  if (auto explained = Decode<std::vector<Explained>>(bytes)) {
    DropUnsound(&*explained, 2);
    if (!nlohmann::json::accept(ExplainedJson(*std::move(explained), {}, 2, "", 0))) {
      return "an explanation that is no JSON";
    }
  }
  return "";
}

// --- Messages ---

constexpr size_t kHeadBytes = 17;  // the size of the body, the number, the kind

std::vector<std::string> BodiesOf(std::string_view bytes) {
  std::vector<std::string> bodies;
  while (bytes.size() >= kHeadBytes) {
    uint64_t size = 0;
    std::memcpy(&size, bytes.data(), sizeof(size));
    if (size > WorkerChannel::kMessageBytesMax || size > bytes.size() - kHeadBytes) break;
    bodies.emplace_back(bytes.substr(kHeadBytes, size));
    bytes.remove_prefix(kHeadBytes + size);
  }
  return bodies;
}

// Whether the other end gets what is sent there.
bool GivesBack(const WorkerMessage& message, WorkerChannel& channel, int worker) {
  if (!channel.Send(message)) return false;
  std::string bytes(kHeadBytes + message.body.size(), '\0');
  const ssize_t got = recv(worker, bytes.data(), bytes.size(), MSG_WAITALL);
  return got == static_cast<ssize_t>(bytes.size()) &&
         BodiesOf(bytes) == std::vector<std::string>{message.body};
}

std::string ReadChannel(Choices& choices) {
  const size_t piece = 1 + choices.Next(256);
  const bool answers = choices.Next(2) == 0;
  const std::string bytes = choices.Rest();
  std::array<int, 2> ends;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) return "no sockets";
  const OwnedFd worker(ends[1]);
  WorkerChannel channel(ends[0]);
  std::vector<std::string> bodies;
  bool open = true;
  for (size_t at = 0; at < bytes.size() && open; at += piece) {
    const std::string_view part = std::string_view(bytes).substr(at, piece);
    if (send(worker.get(), part.data(), part.size(), MSG_NOSIGNAL) < 0) break;
    open = channel.Read();
    while (auto message = channel.Take()) {
      if (answers && !GivesBack(*message, channel, worker.get())) {
        return "a message is another one on its way back";
      }
      bodies.push_back(std::move(message->body));
    }
  }
  return bodies == BodiesOf(bytes) ? "" : "the messages of a channel differ";
}

// --- The table of hooks ---

HookTable* SharedTable() {
  static HookTable* const table = [] {
    static const OwnedFd* const file = new OwnedFd(*HookTable::MakeFile());
    return *HookTable::Share(file->get());
  }();
  return table;
}

std::string ReadTable(Choices& choices) {
  HookTable* const table = SharedTable();
  auto* const memory = reinterpret_cast<unsigned char*>(table);
  while (!choices.empty()) {
    const size_t at = (choices.Next(256) * 65536 + choices.Next(256) * 256 + choices.Next(256)) %
                      sizeof(HookTable);
    const size_t size = std::min<size_t>(1 + choices.Next(200), sizeof(HookTable) - at);
    std::memset(memory + at, static_cast<int>(choices.Next(256)), size);
  }
  for (const HookTable::Running& running : table->ListRunning()) {
    if (table->PluginName(running.place.plugin).size() > HookTable::kNameBytesMax) {
      return "a name is longer than its limit";
    }
    (void)HookName(running.place.hook);
  }
  if (const std::optional<HookPlace> crash = table->CrashPlace()) {
    (void)table->PluginName(crash->plugin);
    (void)HookName(crash->hook);
    (void)IsHook(crash->hook);
  }
  if (table->FindOrAddPlugin("added") > HookTable::kPluginsMax) return "an index beyond the table";
  table->Clear();
  if (!table->ListRunning().empty() || table->CrashPlace().has_value()) {
    return "something is left in a table that was cleared";
  }
  return table->FindOrAddPlugin("first") == 1 ? "" : "a table that was cleared is not empty";
}

FUZZ_TARGET(worker, .rounds = 10000, .bytes = 40) {
  switch (choices.Next(4)) {
    case 0:
      return ReadChannel(choices);
    case 1:
      return ReadTable(choices);
    case 2:
      return ReadBody(AnyValue(choices));
    default:
      return ReadBody(choices.Rest());
  }
}

}  // namespace
}  // namespace callout::host
