// SPDX-License-Identifier: Apache-2.0

// Drives one TCP connection through a chain by the decisions that the input stands for: bytes of
// both directions in any order, plugins that replace them, close the connection, fail or defer.
// What comes out is held to a model of Envoy: a response for each message in the order of its
// direction, with its own end and with the bytes that the plugins left, and nothing after a close.
//
// Readers: host/l4/data_stream.cc
#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "envoy/service/network_ext_proc/v3/network_external_processor.pb.h"
#include "host/l4/data_stream.h"
#include "host/plugin/services.h"
#include "tests/fuzz/fuzz_instance.h"
#include "tests/fuzz/fuzz_rpc_context.h"
#include "tests/fuzz/target.h"

namespace callout::host {
namespace {

namespace network = envoy::service::network_ext_proc::v3;
using Response = network::ProcessingResponse;

// What all hooks of the run share: one run at a time.
struct Run {
  Choices choices;
  std::vector<callout_call_t*> deferred = {};
  std::array<bool, 2> touched = {};  // by direction: bytes may have been replaced
  bool ends = false;                 // a hook that was not deferred has ended the connection
};
Run* g_run = nullptr;

size_t Line(callout_phase_t phase) { return phase == CALLOUT_WRITE_DATA ? 1 : 0; }

void Respond(callout_call_t* call, callout_field_t field, const std::string& bytes) {
  const callout_bytes_t part = ToBytes(bytes);
  (void)call->host->respond(call, field, &part, 1);
}

// Whether it is sure that the connection ends by it, unless a later response takes its place.
bool Say(callout_call_t* call, Choices* choices) {
  const bool is_data = call->phase != CALLOUT_CONNECTION;
  Response response;
  switch (choices->Next(8)) {
    case 0:
    case 1:
    case 2: {
      network::Data data;
      data.set_data(choices->Bytes(6));
      data.set_end_of_stream(choices->OneIn(4));  // which is not the plugin's to say
      if (is_data) g_run->touched[Line(call->phase)] = true;
      Respond(call,
              call->phase == CALLOUT_WRITE_DATA ? CALLOUT_WRITE_DATA_RESPONSE
                                                : CALLOUT_READ_DATA_RESPONSE,
              data.SerializeAsString());
      return false;
    }
    case 3: {
      // The last one does not exist, which is a fault.
      const unsigned status = 1 + choices->Next(3);
      response.set_connection_status(static_cast<Response::ConnectionStatus>(status));
      Respond(call, CALLOUT_WHOLE_RESPONSE, response.SerializeAsString());
      return status <= 2;
    }
    case 4: {
      auto& fields = *response.mutable_dynamic_metadata()->mutable_fields();
      fields["ns"].set_string_value(choices->Next(2) == 0 ? "v" : "a\r\nb");
      response.set_close_stream_to_ext_proc_server(choices->Next(2) == 0);
      Respond(call, CALLOUT_WHOLE_RESPONSE, response.SerializeAsString());
      return false;
    }
    case 5:
      g_run->touched = {true, true};
      Respond(call, choices->Next(5), choices->Bytes(12));
      return false;
    default:
      return false;
  }
}

callout_status_t AnyStatus(Choices* choices) {
  constexpr callout_status_t kStatuses[] = {
      CALLOUT_OK, CALLOUT_OK,       CALLOUT_OK,          CALLOUT_OK,
      CALLOUT_OK, CALLOUT_INTERNAL, CALLOUT_NO_RESPONSE, CALLOUT_PERMISSION_DENIED};
  return kStatuses[choices->Next(8)];
}

callout_status_t Hook(callout_call_t* call) {
  Choices* const choices = &g_run->choices;
  const bool ends = choices->Next(2) == 0 && Say(call, choices);
  if (choices->OneIn(5)) {
    g_run->deferred.push_back(call);
    return CALLOUT_DEFERRED;
  }
  const callout_status_t status = AnyStatus(choices);
  if (ends || status == CALLOUT_PERMISSION_DENIED) g_run->ends = true;
  return status;
}

class Driver {
 public:
  explicit Driver(Run* run) : run_(run), choices_(&run->choices) {
    std::vector<std::shared_ptr<Instance>> instances;
    for (unsigned i = choices_->Next(4); i > 0; --i) instances.push_back(MakeInstance(i));
    chains_ = std::make_unique<ChainSource>(std::make_shared<Chain>(std::move(instances)));
    limits_.queued_messages_max = 1 + choices_->Next(6);
    environment_ = *StreamEnvironment::Create(limits_, chains_.get(), &FuzzMetrics());
    connection_.emplace(environment_.get(), &context_);
  }

  std::string Go() {
    for (int step = 0; step < 60 && error_.empty() && is_open(); ++step) Step();
    while (error_.empty() && is_open() && !run_->deferred.empty()) FinishOne();
    if (error_.empty() && is_open()) CheckAllIsAnswered();
    if (is_open()) {
      connection_->OnHalfClose();
      Look();
    }
    if (is_open()) Complain("it does not end with Envoy's half");
    while (!run_->deferred.empty()) FinishOne();
    context_.Deliver(&*connection_, [this] { Look(); });
    if (!connection_->closed()) Complain("it never closes");
    return error_;
  }

 private:
  struct Sent {
    std::string data;
    bool end_of_stream;
  };

  std::shared_ptr<Instance> MakeInstance(unsigned number) {
    Hooks hooks;
    for (const callout_phase_t phase :
         {CALLOUT_READ_DATA, CALLOUT_WRITE_DATA, CALLOUT_CONNECTION}) {
      if (choices_->Next(3) != 0) hooks.phases[PhaseSlot(phase)] = Hook;
    }
    return MakeFuzzInstance(hooks, number, choices_);
  }

  bool is_open() const { return !connection_->end().has_value(); }

  void Step() {
    if (!connection_->wants_message()) {
      if (run_->deferred.empty()) return Complain("it takes no message, and no call is at work");
      return FinishOne();
    }
    switch (choices_->Next(16)) {
      case 10:
        if (choices_->OneIn(4)) connection_->OnCancel();
        break;
      case 11:
        // That of one direction, or of both.
        connection_->OnDeadline(choices_->Next(2) == 0 ? connection_->deadline_ns() : UINT64_MAX);
        break;
      case 12:
        if (choices_->OneIn(4)) connection_->OnDrainDeadline();
        break;
      case 13:
        if (choices_->OneIn(4)) Feed(choices_->Bytes(12));
        break;
      case 14:
      case 15:
        if (!run_->deferred.empty()) return FinishOne();
        break;
      default:
        return SendData(choices_->OneIn(3) ? 1 : 0);
    }
    Look();
  }

  void SendData(size_t line) {
    if (ended_[line]) return;
    const Sent sent{std::string(choices_->Next(6), static_cast<char>('a' + choices_->Next(26))),
                    choices_->OneIn(8)};
    ended_[line] = sent.end_of_stream;
    network::ProcessingRequest request;
    network::Data* const data =
        line == 0 ? request.mutable_read_data() : request.mutable_write_data();
    data->set_data(sent.data);
    data->set_end_of_stream(sent.end_of_stream);
    if (choices_->OneIn(8)) {
      (*request.mutable_attributes())["a"].mutable_fields()->insert({"source.port", {}});
      (*request.mutable_metadata()->mutable_filter_metadata())["m"] = {};
    }
    sent_[line].push_back(sent);
    context_.message = nullptr;
    const auto bytes = std::make_unique<std::string>(request.SerializeAsString());
    connection_->OnMessage(*bytes);
    Look();
  }

  // What no Envoy of today sends: the connection may end, and its responses prove nothing.
  void Feed(const std::string& bytes) {
    is_strange_ = true;
    const auto copy = std::make_unique<std::string>(bytes);
    connection_->OnMessage(*copy);
  }

  void FinishOne() {
    callout_call_t* const call = run_->deferred.back();
    run_->deferred.pop_back();
    if (choices_->Next(2) == 0) (void)Say(call, choices_);
    (void)call->host->finish(call, AnyStatus(choices_));
    context_.Deliver(&*connection_, [this] { Look(); });
    Look();
  }

  void Look() {
    LiveRpc described;
    connection_->Describe(&described);
    if (described.state.empty()) return Complain("its state has no name");
    for (const std::string& bytes : connection_->TakeOutput()) {
      Response response;
      if (!response.ParseFromString(bytes)) return Complain("a response cannot be parsed");
      if (is_shut_) return Complain("a response after the connection was closed");
      if (response.close_stream_to_ext_proc_server()) {
        return Complain("the rest of a connection is let pass unseen");
      }
      if (response.connection_status() != Response::CONTINUE) {
        is_shut_ = true;
        continue;
      }
      if (!is_strange_) CheckResponse(response);
    }
    if (run_->ends && is_open() && !is_shut_) Complain("a plugin's end of a connection is lost");
  }

  void CheckResponse(const Response& response) {
    if (response.has_read_data() == response.has_write_data()) {
      return Complain("a response has not one direction");
    }
    const size_t line = response.has_read_data() ? 0 : 1;
    if (sent_[line].empty()) return Complain("a response without a message");
    const Sent sent = std::move(sent_[line].front());
    sent_[line].pop_front();
    const network::Data& data = line == 0 ? response.read_data() : response.write_data();
    if (data.end_of_stream() != sent.end_of_stream) return Complain("the end of a direction");
    if (!run_->touched[line] && data.data() != sent.data)
      return Complain("bytes that nobody touched");
    const bool is_modified = response.data_processing_status() == Response::MODIFIED;
    if (!is_modified && data.data() != sent.data)
      Complain("changed bytes that are called the same");
  }

  void CheckAllIsAnswered() {
    if (is_shut_ || is_strange_) return;
    if (!sent_[0].empty() || !sent_[1].empty()) Complain("a message has no response");
    if (!connection_->idle()) Complain("nothing is left to do, and it is not idle");
  }

  void Complain(const char* what) {
    if (error_.empty()) error_ = what;
  }

  Run* const run_;
  Choices* const choices_;
  StreamLimits limits_;
  std::unique_ptr<ChainSource> chains_;
  std::unique_ptr<StreamEnvironment> environment_;
  FuzzRpcContext context_;
  std::optional<DataStream> connection_;
  std::array<std::deque<Sent>, 2> sent_;  // by direction, without a response
  std::array<bool, 2> ended_ = {};
  bool is_shut_ = false;
  bool is_strange_ = false;
  std::string error_;
};

FUZZ_TARGET(data_stream, .rounds = 10000, .bytes = 60) {
  Run run{choices};
  g_run = &run;
  std::string error = Driver(&run).Go();
  g_run = nullptr;
  return error;
}

}  // namespace
}  // namespace callout::host
