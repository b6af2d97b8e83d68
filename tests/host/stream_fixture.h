// SPDX-License-Identifier: Apache-2.0

// Helpers for stream tests: a plugin made of lambdas, an RpcContext that records posted events, and
// messages built with the generated classes.
//
// A message's bytes are freed as soon as the stream does not need them, so that AddressSanitizer
// finds late readers.
#ifndef CALLOUT_TESTS_HOST_STREAM_FIXTURE_H_
#define CALLOUT_TESTS_HOST_STREAM_FIXTURE_H_

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "host/plugin/hook_table.h"
#include "host/plugin/services.h"
#include "host/stream/guard.h"
#include "host/stream/stream.h"

// Envoy 1.40 obeys only the deprecated HeaderValueOption.append.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace callout::host {

using envoy::service::ext_proc::v3::ProcessingRequest;
using envoy::service::ext_proc::v3::ProcessingResponse;

using Pairs = std::vector<std::pair<std::string, std::string>>;

// The body modes, for WithModes.
inline constexpr int kNone = CALLOUT_BODY_NONE;
inline constexpr int kStreamed = CALLOUT_BODY_STREAMED;
inline constexpr int kBuffered = CALLOUT_BODY_BUFFERED;
inline constexpr int kPartial = CALLOUT_BODY_BUFFERED_PARTIAL;
inline constexpr int kDuplex = CALLOUT_BODY_FULL_DUPLEX_STREAMED;

// The behaviour of one fake plugin. Hooks are C functions without a closure, so
// each finds its behaviour through call->plugin.
struct FakePlugin {
  using Hook = std::function<callout_status_t(callout_call_t*)>;
  Hook process, open;
  std::function<void(callout_call_t*)> close, cancel;
  std::map<callout_phase_t, Hook> phases;
  std::function<void(callout_create_args_t*)> create;
  std::shared_ptr<const Plugin> stand_in;  // serves in its place
  std::atomic<int> opened{0};              // blocking instances are opened on other threads
  std::atomic<int> closed{0};
  int destroyed = 0;
  callout_destroy_reason_t destroy_reason = CALLOUT_DESTROY_UNKNOWN;  // of the last one

  static FakePlugin* From(const callout_call_t* call) {
    return static_cast<FakePlugin*>(call->plugin);
  }
  static callout_status_t OnProcess(callout_call_t* call) { return From(call)->process(call); }
  static callout_status_t OnOpen(callout_call_t* call) {
    ++From(call)->opened;
    return From(call)->open ? From(call)->open(call) : CALLOUT_OK;
  }
  static void OnClose(callout_call_t* call) {
    ++From(call)->closed;
    if (From(call)->close) From(call)->close(call);
  }
  static void OnCancel(callout_call_t* call) { From(call)->cancel(call); }
  static callout_status_t OnPhase(callout_call_t* call) {
    return From(call)->phases.at(call->phase)(call);
  }
  static void OnDestroy(const callout_destroy_args_t* args) {
    auto* const plugin = static_cast<FakePlugin*>(args->plugin);
    ++plugin->destroyed;
    plugin->destroy_reason = args->reason;
  }
  // The plugin that the create call in progress is for; tests run one at a time.
  static inline FakePlugin* creating = nullptr;
  static callout_status_t OnCreate(callout_create_args_t* args) {
    args->plugin = creating;
    if (creating->create) creating->create(args);
    return CALLOUT_OK;
  }

  std::shared_ptr<const Plugin> Load() const {
    if (stand_in != nullptr) return stand_in;
    Hooks hooks;
    if (process) hooks.on_process = OnProcess;
    hooks.stream_open = OnOpen;
    hooks.stream_close = OnClose;
    if (cancel) hooks.stream_cancel = OnCancel;
    for (const auto& [phase, hook] : phases) {
      hooks.phases[PhaseSlot(phase)] = OnPhase;
    }
    hooks.plugin_create = OnCreate;
    hooks.plugin_destroy_with = OnDestroy;
    Plugin::Fields fields;
    fields.path = "fake.so";
    fields.name = "fake";
    fields.hooks = hooks;
    return std::make_shared<Plugin>(std::move(fields));
  }
};

class FakeRpcContext final : public RpcContext {
 public:
  void Post(CallState* call, Event event) override {
    // The stream may be deleted once the lock is released.
    std::lock_guard<std::mutex> lock(mutex_);
    posted_.emplace_back(call, event);
    wake_.notify_all();
  }
  // The fixture's message; the stream takes over its bytes.
  std::shared_ptr<const void> KeepMessage() override {
    if (message == nullptr) return nullptr;  // its bytes stay valid anyway
    auto kept = std::make_shared<std::vector<char>>(std::move(*message));
    message->clear();
    return kept;
  }
  size_t unsent_bytes() const override { return unsent; }
  std::vector<char>* message = nullptr;
  size_t unsent = 0;
  // Delivers posted events to the stream, or to its holder, like a transport's thread.
  template <class Handler>
  size_t Deliver(Handler* stream) {
    std::vector<std::pair<CallState*, Event>> posted;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      posted.swap(posted_);
    }
    for (auto [call, event] : posted) stream->OnPosted(call, event);
    return posted.size();
  }
  // Waits until an event is posted and delivers it. The limit only makes a hanging test fail.
  template <class Handler>
  void WaitAndDeliver(Handler* stream) {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      ASSERT_TRUE(wake_.wait_for(lock, std::chrono::seconds(60), [&] { return !posted_.empty(); }))
          << "nothing was posted";
    }
    Deliver(stream);
  }
  std::string_view peer() const override { return "ipv4:192.0.2.1:4711"; }
  std::string_view listener() const override { return "plaintext"; }
  std::string_view peer_identity() const override { return ""; }
  // Of one value each.
  std::map<std::string, std::string, std::less<>> metadata = {{"x-tenant", "blue"}};
  bool GetMetadata(std::string_view key, uint32_t index, std::string_view* value) const override {
    const auto found = metadata.find(key);
    if (found == metadata.end() || index > 0) return false;
    *value = found->second;
    return true;
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::pair<CallState*, Event>> posted_;
};

// --- Hooks with simple responses, for any phase --------------------------------

using CommonResponse = envoy::service::ext_proc::v3::CommonResponse;

// `common` as the response to the phase of `call`; for trailers its header mutation.
inline callout_status_t RespondCommon(callout_call_t* call, const CommonResponse& common) {
  std::string payload;
  if (IsTrailersPhase(call->phase)) {
    envoy::service::ext_proc::v3::TrailersResponse answer;
    *answer.mutable_header_mutation() = common.header_mutation();
    payload = answer.SerializeAsString();
  } else {
    envoy::service::ext_proc::v3::BodyResponse answer;  // on the wire as HeadersResponse
    *answer.mutable_response() = common;
    payload = answer.SerializeAsString();
  }
  const callout_bytes_t part = ToBytes(payload);
  return call->host->respond(call, call->phase - 1, &part, 1);
}

inline FakePlugin::Hook Answers(std::function<void(CommonResponse*)> fill) {
  return [fill = std::move(fill)](callout_call_t* call) {
    CommonResponse common;
    fill(&common);
    return RespondCommon(call, common);
  };
}

inline void AddSet(CommonResponse* common, const std::string& key, const std::string& value,
                   bool append = false) {
  auto* option = common->mutable_header_mutation()->add_set_headers();
  option->mutable_header()->set_key(key);
  option->mutable_header()->set_raw_value(value);
  if (append) option->mutable_append()->set_value(true);
}

inline FakePlugin::Hook SetsHeader(const std::string& key, const std::string& value,
                                   bool append = false) {
  return Answers([=](CommonResponse* common) { AddSet(common, key, value, append); });
}

inline FakePlugin::Hook RemovesHeader(const std::string& key) {
  return Answers(
      [=](CommonResponse* common) { common->mutable_header_mutation()->add_remove_headers(key); });
}

inline FakePlugin::Hook ReplacesBody(const std::string& body) {
  return Answers([=](CommonResponse* common) { common->mutable_body_mutation()->set_body(body); });
}

// CONTINUE_AND_REPLACE: headers that bring another body.
inline FakePlugin::Hook ReplacesMessage(const std::string& body) {
  return Answers([=](CommonResponse* common) {
    common->set_status(CommonResponse::CONTINUE_AND_REPLACE);
    common->mutable_body_mutation()->set_body(body);
  });
}

inline FakePlugin::Hook ClearsBody() {
  return Answers(
      [](CommonResponse* common) { common->mutable_body_mutation()->set_clear_body(true); });
}

inline FakePlugin::Hook Returns(callout_status_t status) {
  return [status](callout_call_t*) { return status; };
}

inline FakePlugin::Hook RepliesAtOnce(int http_status) {
  return [http_status](callout_call_t* call) {
    envoy::service::ext_proc::v3::ImmediateResponse answer;
    answer.mutable_status()->set_code(static_cast<envoy::type::v3::StatusCode>(http_status));
    const std::string payload = answer.SerializeAsString();
    const callout_bytes_t part = ToBytes(payload);
    return call->host->respond(call, CALLOUT_IMMEDIATE_RESPONSE, &part, 1);
  };
}

// Sends a streamed body response ahead of the last one of the call.
inline callout_status_t SendChunk(callout_call_t* call, const std::string& body,
                                  bool end_of_stream = false) {
  envoy::service::ext_proc::v3::BodyResponse answer;
  auto* streamed = answer.mutable_response()->mutable_body_mutation()->mutable_streamed_response();
  streamed->set_body(body);
  streamed->set_end_of_stream(end_of_stream);
  const std::string payload = answer.SerializeAsString();
  const callout_bytes_t part = ToBytes(payload);
  const bool request = IsRequestPhase(call->phase);
  return call->host->send(
      call, request ? CALLOUT_REQUEST_BODY_RESPONSE : CALLOUT_RESPONSE_BODY_RESPONSE, &part, 1);
}

// --- What a hook gets ---------------------------------------------------------

// The headers or trailers of a call. Checks that its ProcessingRequest has the same message.
inline Pairs HeadersShown(const callout_call_t* call) {
  envoy::service::ext_proc::v3::HttpHeaders message;  // HttpTrailers is the same on the wire
  EXPECT_TRUE(message.ParseFromArray(call->message.data, static_cast<int>(call->message.size)));
  ProcessingRequest request;
  EXPECT_TRUE(request.ParseFromArray(call->request.data, static_cast<int>(call->request.size)));
  const google::protobuf::Reflection* reflection = request.GetReflection();
  const auto* field = request.GetDescriptor()->FindFieldByNumber(static_cast<int>(call->phase));
  EXPECT_TRUE(reflection->HasField(request, field)) << request.DebugString();
  // Not by their bytes: their fields may stand in any order.
  const google::protobuf::Message& inner = reflection->GetMessage(request, field);
  const std::unique_ptr<google::protobuf::Message> same(inner.New());
  EXPECT_TRUE(same->ParseFromArray(call->message.data, static_cast<int>(call->message.size)));
  EXPECT_EQ(inner.SerializeAsString(), same->SerializeAsString());
  Pairs headers;
  for (const auto& header : message.headers().headers()) {
    headers.emplace_back(header.key(), header.raw_value());
  }
  return headers;
}

// The body of a call, checked in the same way; a dot stands for the end of the stream.
inline std::string BodyShown(const callout_call_t* call) {
  envoy::service::ext_proc::v3::HttpBody message;
  EXPECT_TRUE(message.ParseFromArray(call->message.data, static_cast<int>(call->message.size)));
  ProcessingRequest request;
  EXPECT_TRUE(request.ParseFromArray(call->request.data, static_cast<int>(call->request.size)));
  const auto& inside =
      call->phase == CALLOUT_REQUEST_BODY ? request.request_body() : request.response_body();
  EXPECT_EQ(inside.SerializeAsString(), message.SerializeAsString());
  EXPECT_EQ((call->flags & CALLOUT_CALL_LAST) != 0, message.end_of_stream());
  return message.body() + (message.end_of_stream() ? "." : "");
}

// --- What Envoy gets ----------------------------------------------------------

// "set key=value", "append key=value" and "remove key", in order.
inline std::vector<std::string> Mutations(
    const envoy::service::ext_proc::v3::HeaderMutation& mutation) {
  std::vector<std::string> out;
  for (const auto& option : mutation.set_headers()) {
    out.push_back((option.append().value() ? "append " : "set ") + option.header().key() + "=" +
                  option.header().raw_value());
  }
  for (const auto& name : mutation.remove_headers()) out.push_back("remove " + name);
  return out;
}

// A text for body responses: streamed chunks end with "|", the last one with "."; others are
// "=body", "clear", or "-" for no change.
inline std::string BodyTold(const std::vector<ProcessingResponse>& responses) {
  std::string told;
  for (const ProcessingResponse& response : responses) {
    if (!response.has_request_body() && !response.has_response_body()) {
      told += "?";
      continue;
    }
    const auto& mutation = response.has_request_body()
                               ? response.request_body().response().body_mutation()
                               : response.response_body().response().body_mutation();
    if (mutation.has_streamed_response()) {
      const auto& streamed = mutation.streamed_response();
      told += streamed.body() + (streamed.end_of_stream() ? "." : "|");
    } else if (mutation.has_body()) {
      told += "=" + mutation.body();
    } else {
      told += mutation.clear_body() ? "clear" : "-";
    }
  }
  return told;
}

// Whether the watchdog lets the hook wait that runs on this thread.
inline bool ThisHookMayWait() {
  for (const HookTable::Running& running : HookTable::InUse()->ListRunning()) {
    if (running.thread == gettid()) return running.place.may_wait;
  }
  ADD_FAILURE() << "no hook runs on this thread";
  return false;
}

class StreamTest : public testing::Test {
 protected:
  // Every plugin of the chain first, then Begin().
  FakePlugin* AddPlugin(const InstanceSettings& settings = InstanceSettings()) {
    plugins_.push_back(std::make_unique<FakePlugin>());
    settings_.push_back(settings);
    return plugins_.back().get();
  }

  FakePlugin* AddPlugin(ErrorPolicy::Action action, int http_status = 500) {
    InstanceSettings settings;
    settings.policy = ErrorPolicy{action, http_status};
    return AddPlugin(settings);
  }

  // An instance whose body hooks get whole bodies of up to `bytes_max`.
  FakePlugin* AddGatherer(uint64_t bytes_max, InstanceSettings settings = InstanceSettings()) {
    settings.whole_body_bytes_max = bytes_max;
    return AddPlugin(settings);
  }

  FakePlugin* AddBlocking(InstanceSettings settings = InstanceSettings()) {
    settings.blocking = kAllPhases;
    return AddPlugin(settings);
  }

  ~StreamTest() override {
    // The pool's jobs use the stream.
    if (stream_ != nullptr && !stream_->closed()) {
      stream_->OnCancel();
      while (!stream_->closed() && !HasFatalFailure()) rpc_.WaitAndDeliver(stream_.get());
    }
  }

  // For another round with other plugins; metrics continue.
  void Reset() {
    stream_.reset();
    environment_.reset();
    chains_.reset();
    plugins_.clear();
    settings_.clear();
  }

  void Begin() {
    std::vector<std::shared_ptr<Instance>> instances;
    for (size_t i = 0; i < plugins_.size(); ++i) {
      FakePlugin::creating = plugins_[i].get();
      absl::StatusOr<std::shared_ptr<Instance>> instance = Instance::Create(
          plugins_[i]->Load(), name_prefix_ + std::to_string(i), "", settings_[i],
          {.metrics = &metrics_, .message_bytes_max = message_bytes_max_, .strict = strict_});
      ASSERT_TRUE(instance.ok()) << instance.status();
      instances.push_back(*std::move(instance));
      made_.push_back(instances.back());
    }
    chains_ = std::make_unique<ChainSource>(std::make_shared<Chain>(std::move(instances)));
    absl::StatusOr<std::unique_ptr<StreamEnvironment>> environment =
        StreamEnvironment::Create(limits_, chains_.get(), &metrics_);
    ASSERT_TRUE(environment.ok()) << environment.status();
    environment_ = *std::move(environment);
    stream_ = std::make_unique<Stream>(environment_.get(), &rpc_);
  }

  void Feed(const ProcessingRequest& request) { FeedBytes(request.SerializeAsString()); }

  // Feeds one message. Its bytes have a block of their own.
  void FeedBytes(const std::string& bytes) {
    ASSERT_TRUE(stream_->wants_message());
    message_.assign(bytes.begin(), bytes.end());
    message_.shrink_to_fit();
    rpc_.message = &message_;
    stream_->OnMessage({message_.data(), message_.size()});
    // The stream does not need what it has not taken over.
    std::fill(message_.begin(), message_.end(), '\xdd');
    std::vector<char>().swap(message_);
  }

  void Deliver() { rpc_.Deliver(stream_.get()); }

  void WaitAndDeliver() { rpc_.WaitAndDeliver(stream_.get()); }

  // Lets the stream's next deadline pass.
  void PassDeadline() {
    ASSERT_NE(stream_->deadline_ns(), 0u);
    stream_->OnDeadline(stream_->deadline_ns());
  }

  // The responses since the last call.
  std::vector<ProcessingResponse> Take() {
    std::vector<ProcessingResponse> responses;
    for (const std::string& bytes : stream_->TakeOutput()) {
      ProcessingResponse response;
      EXPECT_TRUE(response.ParseFromString(bytes));
      responses.push_back(response);
    }
    return responses;
  }

  // Feeds one message and expects one response.
  ProcessingResponse Exchange(const ProcessingRequest& request) {
    Feed(request);
    std::vector<ProcessingResponse> responses = Take();
    EXPECT_EQ(responses.size(), 1u);
    return responses.empty() ? ProcessingResponse() : responses.front();
  }

  static ProcessingRequest Headers(callout_phase_t phase, bool end_of_stream = false,
                                   const Pairs& headers = {{":path", "/"}}) {
    ProcessingRequest request;
    auto* message = phase == CALLOUT_REQUEST_HEADERS ? request.mutable_request_headers()
                                                     : request.mutable_response_headers();
    for (const auto& [key, value] : headers) {
      auto* header = message->mutable_headers()->add_headers();
      header->set_key(key);
      header->set_raw_value(value);
    }
    message->set_end_of_stream(end_of_stream);
    return request;
  }

  static ProcessingRequest Body(callout_phase_t phase, const std::string& body,
                                bool end_of_stream) {
    ProcessingRequest request;
    auto* message = phase == CALLOUT_REQUEST_BODY ? request.mutable_request_body()
                                                  : request.mutable_response_body();
    message->set_body(body);
    message->set_end_of_stream(end_of_stream);
    return request;
  }

  static ProcessingRequest Trailers(callout_phase_t phase, const Pairs& trailers = {}) {
    ProcessingRequest request;
    auto* message = phase == CALLOUT_REQUEST_TRAILERS ? request.mutable_request_trailers()
                                                      : request.mutable_response_trailers();
    for (const auto& [key, value] : trailers) {
      auto* header = message->mutable_trailers()->add_headers();
      header->set_key(key);
      header->set_raw_value(value);
    }
    return request;
  }

  // The first message of a stream with these body modes.
  static ProcessingRequest WithModes(ProcessingRequest request, int request_mode,
                                     int response_mode) {
    using Mode = envoy::extensions::filters::http::ext_proc::v3::ProcessingMode;
    auto* config = request.mutable_protocol_config();
    config->set_request_body_mode(static_cast<Mode::BodySendMode>(request_mode));
    config->set_response_body_mode(static_cast<Mode::BodySendMode>(response_mode));
    return request;
  }

  // Responds to `call` with `message` as the field of ProcessingResponse.
  template <class Message>
  static callout_status_t Respond(callout_call_t* call, callout_field_t field,
                                  const Message& message) {
    const std::string bytes = message.SerializeAsString();
    const callout_bytes_t part = ToBytes(bytes);
    return call->host->respond(call, field, &part, 1);
  }

  double FaultCount(const std::string& kind, const std::string& plugin = "fake0") const {
    const std::string text = metrics_.Text();
    for (const std::string& labels : {"kind=\"" + kind + "\",plugin=\"" + plugin + "\"",
                                      "plugin=\"" + plugin + "\",kind=\"" + kind + "\""}) {
      const std::string name = "callout_plugin_faults_total{" + labels + "} ";
      const size_t at = text.find(name);
      if (at != std::string::npos) return std::stod(text.substr(at + name.size()));
    }
    ADD_FAILURE() << "no such metric: " << kind << " in\n" << text;
    return -1;
  }

  Metrics metrics_;
  StreamLimits limits_;
  // Instances are called fake0, fake1, … The log writes a line for a name and kind of
  // fault once a minute.
  std::string name_prefix_ = "fake";
  size_t message_bytes_max_ = 1 << 20;
  bool strict_ = false;
  std::vector<std::unique_ptr<FakePlugin>> plugins_;
  std::vector<InstanceSettings> settings_;
  std::vector<std::weak_ptr<Instance>> made_;  // of plugins_, by Begin
  std::unique_ptr<ChainSource> chains_;
  std::unique_ptr<StreamEnvironment> environment_;
  FakeRpcContext rpc_;
  std::unique_ptr<Stream> stream_;
  std::vector<char> message_;  // the stream's current one
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_STREAM_FIXTURE_H_
