// What stream tests share: a plugin made of lambdas, a carrier that remembers
// what was posted, and messages built with the generated classes.
#ifndef CALLOUT_TESTS_HOST_STREAM_FIXTURE_H_
#define CALLOUT_TESTS_HOST_STREAM_FIXTURE_H_

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "host/services.h"
#include "host/stream.h"

namespace callout::host {

using envoy::service::ext_proc::v3::ProcessingRequest;
using envoy::service::ext_proc::v3::ProcessingResponse;

// The behaviour of one fake plugin. Hooks are C functions without a closure, so
// each finds its behaviour through call->plugin.
struct FakePlugin {
  using Hook = std::function<callout_status_t(callout_call_t*)>;
  Hook process, open;
  std::function<void(callout_call_t*)> close, cancel;
  std::map<callout_phase_t, Hook> phases;
  std::function<void(callout_create_args_t*)> create;
  int opened = 0;
  int closed = 0;
  int destroyed = 0;

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
  static void OnDestroy(void* plugin) { ++static_cast<FakePlugin*>(plugin)->destroyed; }
  // The plugin that the create call in progress is for; tests run one at a time.
  static inline FakePlugin* creating = nullptr;
  static callout_status_t OnCreate(callout_create_args_t* args) {
    args->plugin = creating;
    if (creating->create) creating->create(args);
    return CALLOUT_OK;
  }

  std::shared_ptr<const Plugin> Load() const {
    Hooks hooks;
    if (process) hooks.on_process = OnProcess;
    hooks.stream_open = OnOpen;
    hooks.stream_close = OnClose;
    if (cancel) hooks.stream_cancel = OnCancel;
    for (const auto& [phase, hook] : phases) hooks.phases[phase] = OnPhase;
    hooks.plugin_create = OnCreate;
    hooks.plugin_destroy = OnDestroy;
    Plugin::Fields fields;
    fields.path = "fake.so";
    fields.name = "fake";
    fields.hooks = hooks;
    return std::make_shared<Plugin>(std::move(fields));
  }
};

class FakeCarrier final : public StreamCarrier {
 public:
  void Post(CallState* call, Event event) override {
    std::lock_guard<std::mutex> lock(mutex_);
    posted_.emplace_back(call, event);
  }
  void RetainMessage() override { ++retained; }
  int retained = 0;
  // Hands what was posted to the stream, as a transport's thread would.
  size_t Deliver(Stream* stream) {
    std::vector<std::pair<CallState*, Event>> posted;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      posted.swap(posted_);
    }
    for (auto [call, event] : posted) stream->OnPosted(call, event);
    return posted.size();
  }
  std::string_view peer() const override { return "ipv4:192.0.2.1:4711"; }
  std::string_view listener() const override { return "plaintext"; }
  std::string_view peer_identity() const override { return ""; }
  bool GetMetadata(std::string_view key, uint32_t index, std::string_view* value) const override {
    if (key != "x-tenant" || index > 0) return false;
    *value = "blue";
    return true;
  }

 private:
  std::mutex mutex_;
  std::vector<std::pair<CallState*, Event>> posted_;
};

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

  // For another round with other plugins; the metrics go on counting.
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
      absl::StatusOr<std::shared_ptr<Instance>> instance =
          Instance::Create(plugins_[i]->Load(), "fake" + std::to_string(i), "", settings_[i],
                           {.metrics = &metrics_, .message_bytes_max = message_bytes_max_});
      ASSERT_TRUE(instance.ok()) << instance.status();
      instances.push_back(*std::move(instance));
    }
    chains_ = std::make_unique<ChainSource>(std::make_shared<Chain>(std::move(instances)));
    absl::StatusOr<std::unique_ptr<StreamEnvironment>> environment =
        StreamEnvironment::Create(limits_, chains_.get(), &metrics_);
    ASSERT_TRUE(environment.ok()) << environment.status();
    environment_ = *std::move(environment);
    stream_ = std::make_unique<Stream>(environment_.get(), &carrier_);
  }

  // Feeds one message; its bytes stay where they are until the next one.
  void Feed(const ProcessingRequest& request) {
    ASSERT_TRUE(stream_->wants_message());
    bytes_ = request.SerializeAsString();
    stream_->OnMessage(bytes_);
  }

  // The answers that came out since the last time.
  std::vector<ProcessingResponse> Take() {
    std::vector<ProcessingResponse> responses;
    for (const std::string& bytes : stream_->TakeOutput()) {
      ProcessingResponse response;
      EXPECT_TRUE(response.ParseFromString(bytes));
      responses.push_back(response);
    }
    return responses;
  }

  // Feeds one message and expects one answer to it.
  ProcessingResponse Exchange(const ProcessingRequest& request) {
    Feed(request);
    std::vector<ProcessingResponse> responses = Take();
    EXPECT_EQ(responses.size(), 1u);
    return responses.empty() ? ProcessingResponse() : responses.front();
  }

  static ProcessingRequest Headers(
      callout_phase_t phase, bool end_of_stream = false,
      const std::vector<std::pair<std::string, std::string>>& headers = {{":path", "/"}}) {
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

  static ProcessingRequest Trailers(callout_phase_t phase) {
    ProcessingRequest request;
    if (phase == CALLOUT_REQUEST_TRAILERS) {
      request.mutable_request_trailers();
    } else {
      request.mutable_response_trailers();
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

  // Answers `call` with `message` as the field of ProcessingResponse.
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
  size_t message_bytes_max_ = 1 << 20;
  std::vector<std::unique_ptr<FakePlugin>> plugins_;
  std::vector<InstanceSettings> settings_;
  std::unique_ptr<ChainSource> chains_;
  std::unique_ptr<StreamEnvironment> environment_;
  FakeCarrier carrier_;
  std::unique_ptr<Stream> stream_;
  std::string bytes_;
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_STREAM_FIXTURE_H_
