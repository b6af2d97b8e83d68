// SPDX-License-Identifier: Apache-2.0

// Drives one host Stream by the decisions that the input stands for: a chain of
// plugins with settings and behaviours, a legal or illegal run of messages, calls
// finished late or never, a client that leaves, somebody who watches; and holds everything
// that comes out to EnvoyModel. What goes wrong is told with the messages that led to it.
// Hooks that block run on a thread while this one waits.
//
// Readers: host/stream/stream.cc host/stream/stream_pipeline.cc host/stream/stream_emit.cc
// host/stream/stream_bodies.cc host/stream/stream_settle.cc host/stream/exchange.cc
#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "host/plugin/services.h"
#include "host/stream/guard.h"
#include "host/stream/stream.h"
#include "tests/fuzz/choices.h"
#include "tests/fuzz/envoy_model.h"
#include "tests/fuzz/fuzz_environment.h"
#include "tests/fuzz/fuzz_rpc_context.h"
#include "tests/fuzz/target.h"

namespace callout::host {

namespace {

namespace ext_proc = envoy::service::ext_proc::v3;
using Request = ext_proc::ProcessingRequest;
using Response = ext_proc::ProcessingResponse;
using Mode = EnvoyModel::Mode;

// What all hooks of the run share: one run at a time.
struct Run {
  Choices choices;
  std::vector<callout_call_t*> deferred;
  // By direction: a plugin has changed or kept body bytes, or may have.
  bool touched[2] = {};
  std::string log;
};
Run* g_run = nullptr;

callout_status_t Respond(callout_call_t* call, callout_field_t field, const std::string& bytes,
                         bool send = false) {
  const callout_bytes_t part = ToBytes(bytes);
  return (send ? call->host->send : call->host->respond)(call, field, &part, 1);
}

std::string HeaderMutation(Choices* choices) {
  ext_proc::HeaderMutation mutation;
  const unsigned count = choices->OneIn(12) ? 60 : 1;
  for (unsigned i = 0; i < count; ++i) {
    auto* header = mutation.add_set_headers()->mutable_header();
    header->set_key("x-" + std::to_string(i + choices->Next(count)));
    header->set_raw_value(choices->OneIn(10) ? "bad\r\nvalue" : "v");
  }
  if (choices->OneIn(3)) mutation.add_remove_headers("x-removed");
  return mutation.SerializeAsString();
}

std::string CommonResponse(callout_call_t* call, Choices* choices) {
  ext_proc::BodyResponse answer;  // the same shape as HeadersResponse
  auto* common = answer.mutable_response();
  if (choices->Next(2) == 1) {
    common->mutable_header_mutation()->ParseFromString(HeaderMutation(choices));
  }
  const bool is_body = IsBodyPhase(call->phase);
  if (!is_body && choices->OneIn(6)) {
    common->set_status(ext_proc::CommonResponse::CONTINUE_AND_REPLACE);
  }
  switch (choices->Next(5)) {
    case 0:
    case 1:
      break;
    case 2:
      common->mutable_body_mutation()->set_body("replaced");
      break;
    case 3:
      common->mutable_body_mutation()->set_clear_body(true);
      break;
    default: {
      auto* streamed = common->mutable_body_mutation()->mutable_streamed_response();
      streamed->set_body("streamed");
      streamed->set_end_of_stream(choices->Next(2) == 1);
    }
  }
  if (common->has_body_mutation()) g_run->touched[call->phase % 2] = true;
  common->set_clear_route_cache(choices->Next(2) == 1);
  return answer.SerializeAsString();
}

std::string ReplyPiece(Choices* choices) {
  ext_proc::StreamedImmediateResponse piece;
  switch (choices->Next(3)) {
    case 0:
      piece.mutable_headers_response()->set_end_of_stream(choices->OneIn(3));
      break;
    case 1:
      piece.mutable_body_response()->set_end_of_stream(choices->OneIn(2));
      break;
    default:
      piece.mutable_trailers_response();
  }
  return piece.SerializeAsString();
}

void Annotate(callout_call_t* call, Choices* choices) {
  std::string bytes;
  callout_field_t field = CALLOUT_DYNAMIC_METADATA;
  if (choices->Next(2) == 0) {
    Mode mode;
    mode.set_request_body_mode(static_cast<Mode::BodySendMode>(choices->Next(4)));
    if (choices->Next(2) == 0) {
      mode.set_response_body_mode(static_cast<Mode::BodySendMode>(choices->Next(4)));
    }
    bytes = mode.SerializeAsString();
    field = CALLOUT_MODE_OVERRIDE;
  } else if (choices->Next(2) == 0) {
    bytes = "\x08\x01";
    field = CALLOUT_OVERRIDE_MESSAGE_TIMEOUT;
  } else {
    bytes.assign(choices->Next(4), static_cast<char>(choices->Next(255)));
  }
  const callout_bytes_t message = ToBytes(bytes);
  call->host->annotate(call, field, message);
}

void RandomResponse(callout_call_t* call, Choices* choices) {
  const callout_field_t own = call->phase - 1;
  switch (choices->Next(10)) {
    case 0:
    case 1:
    case 2:
    case 3:
      if (IsTrailersPhase(call->phase)) {
        ext_proc::TrailersResponse answer;
        answer.mutable_header_mutation()->ParseFromString(HeaderMutation(choices));
        Respond(call, own, answer.SerializeAsString());
      } else {
        Respond(call, own, CommonResponse(call, choices));
      }
      return;
    case 4: {
      // The last stands for the headers that a plugin holds until it has the body.
      const callout_field_t field = choices->Next(14);
      Respond(call, field == 13 && IsBodyPhase(call->phase) ? own - 2 : field,
              CommonResponse(call, choices));
      return;
    }
    case 5:
      Respond(call, own, std::string(1 + choices->Next(6), static_cast<char>(choices->Next(255))));
      return;
    case 6:
      g_run->touched[call->phase % 2] = true;
      Respond(call, own, CommonResponse(call, choices), true);
      return;
    case 7:
      if (choices->Next(2) == 0) Respond(call, CALLOUT_IMMEDIATE_RESPONSE, "");
      return;
    case 8:
      for (unsigned i = choices->Next(4); i > 0; --i) {
        Respond(call, CALLOUT_STREAMED_IMMEDIATE_RESPONSE, ReplyPiece(choices), i > 1);
      }
      return;
    default:
      Annotate(call, choices);
  }
}

callout_status_t SettlingStatus(callout_call_t* call, Choices* choices) {
  switch (choices->Next(12)) {
    case 8:
      g_run->touched[call->phase % 2] = true;
      return CALLOUT_NO_RESPONSE;
    case 9:
      return CALLOUT_INTERNAL;
    case 10:
      return choices->OneIn(3) ? CALLOUT_PERMISSION_DENIED : CALLOUT_OK;
    case 11:
      return 40 + static_cast<callout_status_t>(choices->Next(3));
    default:
      return CALLOUT_OK;
  }
}

callout_status_t HookOutcome(callout_call_t* call);

callout_status_t Hook(callout_call_t* call) {
  const callout_phase_t phase = call->phase;
  const callout_status_t status = HookOutcome(call);
  g_run->log +=
      "  hook of phase " + std::to_string(phase) + " returns " + std::to_string(status) + "\n";
  return status;
}

callout_status_t HookOutcome(callout_call_t* call) {
  Choices* choices = &g_run->choices;
  for (unsigned i = choices->Next(3); i > 0; --i) RandomResponse(call, choices);
  if (choices->OneIn(5)) {
    g_run->deferred.push_back(call);
    return CALLOUT_DEFERRED;
  }
  return SettlingStatus(call, choices);
}

void FinishOne() {
  callout_call_t* call = g_run->deferred.back();
  g_run->deferred.pop_back();
  if (g_run->choices.Next(2) == 1) RandomResponse(call, &g_run->choices);
  call->host->finish(call, SettlingStatus(call, &g_run->choices));
}

uint64_t g_whole_body_bytes = 0;
uint64_t g_wants = 0;
callout_status_t Create(callout_create_args_t* args) {
  args->whole_body_bytes_max = g_whole_body_bytes;
  args->wants = g_wants;
  return CALLOUT_OK;
}

callout_status_t OnOpen(callout_call_t*) {
  return g_run->choices.OneIn(8) ? CALLOUT_INTERNAL : CALLOUT_OK;
}

std::optional<ErrorPolicy> AnyPolicy(Choices* choices) {
  switch (choices->Next(4)) {
    case 0:
      return std::nullopt;
    case 1:
      return ErrorPolicy{ErrorPolicy::Action::kContinue, 0};
    case 2:
      return ErrorPolicy{ErrorPolicy::Action::kDeny, 503};
    default:
      return ErrorPolicy{ErrorPolicy::Action::kFail, 0};
  }
}

// Either all hooks of a run block or none, so that two never run at the same time.
std::shared_ptr<Instance> MakeInstance(Metrics* metrics, Choices* choices, int number,
                                       bool blocks) {
  Plugin::Fields fields;
  fields.path = fields.name = "fuzz";
  for (callout_phase_t phase = CALLOUT_REQUEST_HEADERS; phase <= CALLOUT_RESPONSE_TRAILERS;
       ++phase) {
    if (choices->Next(3) != 0) fields.hooks.phases[phase] = Hook;
  }
  fields.hooks.plugin_create = Create;
  InstanceSettings settings;
  if (choices->OneIn(4)) {
    fields.hooks.stream_open = OnOpen;
    fields.hooks.stream_close = fields.hooks.stream_cancel = [](callout_call_t*) {};
  }
  if (choices->OneIn(4)) {
    settings.leave_responses = {
        .content_types = {"text/*"}, .statuses = {"404", "5xx"}, .headers = {"x-leave"}};
  }
  if (blocks) settings.blocking = ~uint64_t{0};
  if (choices->OneIn(8)) settings.match.headers = {"content-type"};
  g_wants = choices->OneIn(4) ? choices->Next(8) : 0;
  settings.policy = AnyPolicy(choices);
  settings.drain_passes = choices->OneIn(2);
  settings.endless_body = static_cast<EndlessBody>(choices->Next(3));
  settings.too_large = AnyPolicy(choices).value_or(settings.too_large);
  g_whole_body_bytes = choices->OneIn(3) ? 1 + choices->Next(12) : 0;
  auto instance = Instance::Create(std::make_shared<const Plugin>(std::move(fields)),
                                   "fuzz" + std::to_string(number), "", settings,
                                   {.metrics = metrics, .message_bytes_max = 4096});
  return *std::move(instance);
}

// --- What Envoy sends -------------------------------------------------------

// One direction's next message, legal at this point.
class Sender {
 public:
  explicit Sender(bool response) : response_(response) {}

  bool finished() const { return ended_; }
  bool begun() const { return headers_sent_; }

  std::optional<Request> Next(Choices* choices, const EnvoyModel::Direction& way) {
    Request request;
    if (!headers_sent_) {
      headers_sent_ = true;
      auto* headers =
          response_ ? request.mutable_response_headers() : request.mutable_request_headers();
      ended_ = choices->OneIn(4);
      headers->set_end_of_stream(ended_);
      if (choices->Next(2) == 1) {
        auto* header = headers->mutable_headers()->add_headers();
        header->set_key("content-length");
        header->set_raw_value(std::to_string(choices->Next(8)));
      }
      for (unsigned i = choices->OneIn(3) ? choices->Next(4) : 0; i > 0; --i) {
        constexpr const char* kHeaders[][2] = {{"content-type", "text/event-stream"},
                                               {"content-type", "text/html; q=1"},
                                               {"content-encoding", "gzip"},
                                               {":status", "404"},
                                               {":status", "503"},
                                               {"upgrade", "websocket"},
                                               {"trailer", "x"},
                                               {":method", "CONNECT"},
                                               {"x-leave", "1"},
                                               {"content-type", "application/grpc"}};
        const auto& [name, value] = kHeaders[choices->Next(10)];
        auto* header = headers->mutable_headers()->add_headers();
        header->set_key(name);
        header->set_raw_value(value);
      }
      return request;
    }
    if (way.replaced) {
      ended_ = true;
      return std::nullopt;
    }
    // Envoy waits for the answer, but for chunks of a streamed body.
    const bool chunks_only =
        std::all_of(way.outstanding.begin(), way.outstanding.end(), [](const auto& message) {
          return message.first == Request::kRequestBody || message.first == Request::kResponseBody;
        });
    const bool duplex = way.mode == Mode::FULL_DUPLEX_STREAMED;
    if (!duplex && !chunks_only) return std::nullopt;
    const bool waits = !duplex && !way.outstanding.empty();
    if (waits && (way.mode != Mode::STREAMED || choices->OneIn(2))) return std::nullopt;
    if (way.mode == Mode::NONE) return End(choices);
    if (waits) return Chunk(choices);
    if (choices->OneIn(4)) return End(choices);
    const bool whole = way.mode == Mode::BUFFERED || way.mode == Mode::BUFFERED_PARTIAL;
    if (whole && body_sent_) return End(choices);
    return Chunk(choices);
  }

 private:
  std::optional<Request> Chunk(Choices* choices) {
    Request request;
    body_sent_ = true;
    auto* body = response_ ? request.mutable_response_body() : request.mutable_request_body();
    body->set_body(std::string(choices->Next(6), static_cast<char>('a' + choices->Next(26))));
    ended_ = choices->OneIn(4);
    body->set_end_of_stream(ended_);
    return request;
  }

  std::optional<Request> End(Choices* choices) {
    ended_ = true;
    if (choices->Next(2) == 0) return std::nullopt;
    Request request;
    response_ ? (void)request.mutable_response_trailers()
              : (void)request.mutable_request_trailers();
    return request;
  }

  const bool response_;
  bool headers_sent_ = false;
  bool body_sent_ = false;
  bool ended_ = false;
};

Mode::BodySendMode AnyMode(Choices* choices) {
  return static_cast<Mode::BodySendMode>(choices->Next(5));
}

class Driver {
 public:
  explicit Driver(Run* run)
      : run_(run),
        choices_(&run->choices),
        request_mode_(AnyMode(choices_)),
        response_mode_(AnyMode(choices_)),
        observability_(choices_->OneIn(10)),
        obeys_(choices_->Next(2) == 0),
        envoy_(request_mode_, response_mode_, observability_, obeys_) {
    if (choices_->OneIn(3)) {
      limits_.mode_override = obeys_ ? EnvoyModeOverride::kAllowed : EnvoyModeOverride::kIgnored;
    }
    limits_.early_end = choices_->Next(2) == 0;
    limits_.queued_messages_max = 1 + choices_->Next(4);
    limits_.defer_budget_ms = choices_->OneIn(3) ? 100 : 0;
    limits_.phase_pruning = choices_->Next(2) == 0;
    LimitForFuzzing(&limits_);
    if (choices_->OneIn(8)) limits_.deferred_max = choices_->Next(2);
    if (choices_->OneIn(8)) limits_.message_fields_max = 2 + choices_->Next(4);
    if (choices_->OneIn(8)) limits_.stream_memory_bytes_max = 1 + choices_->Next(100);
    if (choices_->OneIn(8)) limits_.header_count_max = 1 + choices_->Next(4);
    if (choices_->OneIn(8)) limits_.header_bytes_max = 1 + choices_->Next(60);
    blocks_ = choices_->OneIn(8);
    std::vector<std::shared_ptr<Instance>> instances;
    for (unsigned i = choices_->Next(4); i > 0; --i) {
      instances.push_back(MakeInstance(&Metrics_(), choices_, static_cast<int>(i), blocks_));
    }
    chains_ = std::make_unique<ChainSource>(std::make_shared<Chain>(std::move(instances)));
    environment_ = *StreamEnvironment::Create(limits_, chains_.get(), &Metrics_());
    if (choices_->OneIn(4)) watcher_.WatchIn(environment_.get());
    stream_ = std::make_unique<Stream>(environment_.get(), &rpc_);
  }

  std::string Go() {
    for (int step = 0; step < 60 && error_.empty() && !stream_->end().has_value(); ++step) Step();
    if (error_.empty() && !stream_->end().has_value()) {
      SettleCalls();
      HalfClose();
    }
    // Whatever is still deferred has to be finished before the stream can close.
    Deliver();
    while (!run_->deferred.empty()) {
      FinishOne();
      Deliver();
    }
    if (error_.empty() && !stream_->closed()) error_ = "the stream never closes";
    if (error_.empty() && watcher_.ends != watcher_.rpcs) error_ = "its end is not told once";
    if (error_.empty()) CheckBodies();
    return error_.empty() ? "" : error_ + "\n" + run_->log;
  }

 private:
  // One for all runs: defining metrics is dear.
  static Metrics& Metrics_() {
    static auto* const metrics = new Metrics;
    return *metrics;
  }

  void Step() {
    if (!stream_->wants_message()) return SettleCalls();
    if (!stream_->idle() && choices_->Next(2) == 0) return SettleCalls();
    if (choices_->OneIn(40)) return SendGarbage();
    if (choices_->OneIn(60)) return Drain();
    if (choices_->OneIn(60)) return Cancel();
    if (choices_->OneIn(60)) return SendUnknown();
    if (choices_->OneIn(60)) return SendMisplaced();
    const bool response = choices_->OneIn(3);
    Sender& sender = response ? response_ : request_;
    if (sender.finished()) {
      if (request_.finished() && response_.finished() && stream_->idle()) HalfClose();
      return;
    }
    std::optional<Request> request = sender.Next(choices_, envoy_.direction(response));
    if (request.has_value()) Send(*std::move(request));
  }

  void Send(Request request) {
    if (std::exchange(first_, false) && !observability_) {
      request.mutable_protocol_config()->set_request_body_mode(request_mode_);
      request.mutable_protocol_config()->set_response_body_mode(response_mode_);
    }
    request.set_observability_mode(observability_);
    if (choices_->OneIn(8)) {
      const std::string space(1, static_cast<char>('a' + choices_->Next(26)));
      (*request.mutable_attributes())[space].mutable_fields()->insert({"request.id", {}});
      (*request.mutable_metadata_context()->mutable_filter_metadata())[space] = {};
    }
    run_->log += "> " + request.ShortDebugString() + "\n";
    envoy_.Send(request);
    Feed(request.SerializeAsString());
  }

  void HalfClose() {
    half_closed_ = true;
    stream_->OnHalfClose();
    Rescan();
  }

  void Drain() {
    run_->log += "  drain\n";
    stream_->OnDrainDeadline();
    Rescan();
  }

  void Cancel() {
    run_->log += "  cancel\n";
    stream_->OnCancel();
    Rescan();
  }

  // Messages of a kind that is yet to be invented.
  void SendUnknown() {
    Request request;
    request.set_observability_mode(observability_);
    const std::string bytes = request.SerializeAsString() + std::string("\xfa\x7f\0", 3);
    for (unsigned i = choices_->Next(12); i > 0 && !stream_->end().has_value(); --i) Feed(bytes);
  }

  // What no Envoy sends at this point. All of it ends the RPC, but for what comes after a reply.
  void SendMisplaced() {
    Request request;
    request.set_observability_mode(observability_);
    const EnvoyModel::Direction& way = envoy_.direction(false);
    switch (choices_->Next(5)) {
      case 0:
        if (!request_.begun()) return;
        request.mutable_request_headers();
        break;
      case 1:
        if (!way.headers_ended && !way.body_ended) return;
        request.mutable_request_body()->set_body("late");
        break;
      case 2:
        return Feed(request.SerializeAsString() + std::string("\x12\x01\xff", 3));
      case 3:
        return Feed(request.SerializeAsString() + std::string("\x22\x01\xff", 3));
      default:
        // No message at all, or with more of attributes than a stream has.
        for (unsigned i = choices_->Next(2) * 300; i > 0; --i) {
          (*request.mutable_attributes())[std::to_string(i)];
        }
    }
    Feed(request.SerializeAsString());
  }

  void SendGarbage() {
    run_->log += "> garbage\n";
    Feed(std::string(1 + choices_->Next(4), static_cast<char>(0xff)));
  }

  // The bytes of the message before are no longer good, unless the stream said so.
  void Feed(std::string bytes) {
    rpc_.message = std::make_shared<std::string>(std::move(bytes));
    stream_->OnMessage(*rpc_.message);
    if (rpc_.message != nullptr) rpc_.message->assign(rpc_.message->size(), '\xee');
    Rescan();
  }

  // The stream waits for a deferred call: it is finished, or its time is up.
  void SettleCalls() {
    if (choices_->OneIn(4) && stream_->deadline_ns() != 0) {
      run_->log += "  deadline\n";
      stream_->OnDeadline(stream_->deadline_ns());
      if (blocks_) AwaitBlockingHooks(environment_.get());
      for (bool& touched : run_->touched) touched = true;
    } else if (!run_->deferred.empty()) {
      run_->log += "  finish\n";
      FinishOne();
    }
    Deliver();
    Rescan();
  }

  void Deliver() {
    do {
      Rescan();
    } while (rpc_.Deliver(stream_.get(), [this] { Rescan(); }));
  }

  void Rescan() {
    if (blocks_) AwaitBlockingHooks(environment_.get());
    LiveRpc described;
    stream_->Describe(&described);
    if (error_.empty() && described.state.empty()) error_ = "its state has no name";
    const bool may_speak = stream_->may_speak_unasked();
    if (!stream_->idle() && !may_speak && error_.empty()) {
      error_ = "a message waits, and it will say nothing";
    }
    for (const std::string& bytes : stream_->TakeOutput()) {
      Response response;
      response.ParseFromString(bytes);
      run_->log += "< " + response.ShortDebugString() + "\n";
      if (error_.empty()) error_ = envoy_.Take(bytes);
    }
    if (stream_->end().has_value() && !std::exchange(end_seen_, true)) {
      run_->log += "< " + stream_->end()->ToString() + "\n";
      if (error_.empty()) error_ = envoy_.End(*stream_->end(), half_closed_);
    } else if (error_.empty() && !end_seen_ && stream_->idle() && !Answered()) {
      error_ = "a message is not answered and none waits";
    } else if (error_.empty() && !end_seen_ && stream_->idle() && envoy_.stalled()) {
      error_ = "Envoy waits for ever, with all bytes of content-length but no end";
    }
  }

  bool Answered() const {
    if (envoy_.done() || observability_) return true;
    // Chunks of FULL_DUPLEX_STREAMED may be kept, to their end.
    for (bool response : {false, true}) {
      EnvoyModel::Direction way = const_cast<EnvoyModel&>(envoy_).direction(response);
      for (const auto& [field, chunk] : way.outstanding) {
        const bool body = field == Request::kRequestBody || field == Request::kResponseBody;
        const bool may_wait = body && way.mode == Mode::FULL_DUPLEX_STREAMED && !way.body_ended;
        if (!may_wait) return false;
      }
    }
    return true;
  }

  // A body that no plugin has touched arrives as it was sent.
  void CheckBodies() {
    const bool ended_well = stream_->end().has_value() && stream_->end()->ok();
    if (!ended_well || envoy_.done() || observability_) return;
    for (bool response : {false, true}) {
      const EnvoyModel::Direction& way = envoy_.direction(response);
      if (run_->touched[response ? 1 : 0] || way.replaced || !way.outstanding.empty()) continue;
      if (!way.body_ended && !way.answer_ended) continue;
      if (way.sent != way.received) {
        error_ = "a body of '" + way.sent + "' arrived as '" + way.received + "'";
      }
    }
  }

  Run* const run_;
  Choices* const choices_;
  const Mode::BodySendMode request_mode_, response_mode_;
  const bool observability_;
  const bool obeys_;
  EnvoyModel envoy_;
  StreamLimits limits_;
  std::unique_ptr<ChainSource> chains_;
  std::unique_ptr<StreamEnvironment> environment_;
  FuzzRpcContext rpc_;
  Sender request_{false};
  Sender response_{true};
  FuzzWatcher watcher_;
  bool blocks_ = false;
  bool first_ = true;
  bool end_seen_ = false;
  bool half_closed_ = false;
  std::string error_;
  std::unique_ptr<Stream> stream_;
};

FUZZ_TARGET(stream, .rounds = 20000, .bytes = 64) {
  Run run{.choices = choices, .deferred = {}, .touched = {}, .log = {}};
  g_run = &run;
  std::string error = Driver(&run).Go();
  g_run = nullptr;
  return error;
}

}  // namespace
}  // namespace callout::host
