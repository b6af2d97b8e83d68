// SPDX-License-Identifier: Apache-2.0

// What a worker tells its supervisor: a plugin that has run wild may have written all of
// it. Messages of the channel, in any pieces; what is in them; the shared table of hooks.
//
// Readers: host/workers/worker_channel.cc host/workers/worker_messages.cc host/plugin/hook_table.cc
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

std::string ReadBody(Choices& choices) {
  const std::string bytes = choices.Rest();
  const bool good = IsOneToOne<Families>(bytes) && IsOneToOne<GenerationTarget::Usage>(bytes) &&
                    IsOneToOne<std::vector<GenerationId>>(bytes) &&
                    IsOneToOne<GenerationFacts>(bytes) && IsOneToOne<PrepareOrder>(bytes) &&
                    IsOneToOne<CertificatePem>(bytes) && IsOneToOne<WorkerReply>(bytes) &&
                    IsOneToOne<WatchSettings>(bytes) && IsOneToOne<std::vector<Explained>>(bytes) &&
                    IsOneToOne<std::vector<Exemplar>>(bytes);
  if (!good) return "bytes are taken for a value that is written in other ones";
  if (auto reply = Decode<WorkerReply>(bytes)) {
    const bool says_ok = reply->code == 0;
    if (BodyOf(*std::move(reply)).ok() != says_ok) return "an error is taken for a response";
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

std::string ReadChannel(Choices& choices) {
  const size_t piece = 1 + choices.Next(256);
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
    while (auto message = channel.Take()) bodies.push_back(std::move(message->body));
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
    default:
      return ReadBody(choices);
  }
}

}  // namespace
}  // namespace callout::host
