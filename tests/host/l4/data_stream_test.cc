// SPDX-License-Identifier: Apache-2.0

#include "host/l4/data_stream.h"

#include <callout/data.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "envoy/service/network_ext_proc/v3/network_external_processor.pb.h"
#include "host/plugin/call_observer.h"
#include "host/plugin/quarantine_plugin.h"
#include "tests/host/notification.h"
#include "tests/host/stream_fixture.h"

namespace callout::host {
namespace {

namespace network = envoy::service::network_ext_proc::v3;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

callout_status_t Answer(callout_call_t* call, callout_field_t field, const std::string& payload) {
  const callout_bytes_t part = ToBytes(payload);
  return call->host->respond(call, field, &part, 1);
}

callout_status_t Replace(callout_call_t* call, const std::string& data) {
  network::Data message;
  message.set_data(data);
  return Answer(
      call,
      call->phase == CALLOUT_READ_DATA ? CALLOUT_READ_DATA_RESPONSE : CALLOUT_WRITE_DATA_RESPONSE,
      message.SerializeAsString());
}

network::Data Shown(const callout_call_t* call) {
  network::Data data;
  EXPECT_TRUE(data.ParseFromString(std::string(ToView(call->message))));
  network::ProcessingRequest request;
  EXPECT_TRUE(request.ParseFromString(std::string(ToView(call->request))));
  const bool is_read = call->phase == CALLOUT_READ_DATA;
  EXPECT_EQ(is_read, request.has_read_data());
  EXPECT_EQ((is_read ? request.read_data() : request.write_data()).SerializeAsString(),
            data.SerializeAsString());
  return data;
}

// Adds `mark` to what comes.
FakePlugin::Hook Marks(const std::string& mark) {
  return [mark](callout_call_t* call) { return Replace(call, Shown(call).data() + mark); };
}

FakePlugin::Hook Says(std::function<void(network::ProcessingResponse*)> fill) {
  return [fill = std::move(fill)](callout_call_t* call) {
    network::ProcessingResponse response;
    fill(&response);
    return Answer(call, CALLOUT_WHOLE_RESPONSE, response.SerializeAsString());
  };
}

FakePlugin::Hook Ends(network::ProcessingResponse::ConnectionStatus how) {
  return Says([how](network::ProcessingResponse* r) { r->set_connection_status(how); });
}

class DataStreamTest : public StreamTest {
 protected:
  ~DataStreamTest() override { Finish(); }

  void Open() {
    Finish();
    if (environment_ == nullptr) Begin();
    connection_ = std::make_unique<DataStream>(environment_.get(), &rpc_);
  }
  void SendBytes(const std::string& bytes) {
    if (connection_ == nullptr) Open();
    // Gone when it returns.
    const std::unique_ptr<std::string> copy = std::make_unique<std::string>(bytes);
    connection_->OnMessage(*copy);
  }
  void Send(const network::ProcessingRequest& request) { SendBytes(request.SerializeAsString()); }
  void Read(const std::string& data, bool end_of_stream = false) {
    network::ProcessingRequest request;
    request.mutable_read_data()->set_data(data);
    request.mutable_read_data()->set_end_of_stream(end_of_stream);
    Send(request);
  }
  void Write(const std::string& data, bool end_of_stream = false) {
    network::ProcessingRequest request;
    request.mutable_write_data()->set_data(data);
    request.mutable_write_data()->set_end_of_stream(end_of_stream);
    Send(request);
  }
  // "read abc", "write abc.", the dot for its end, "close", "reset"; "*" behind what is modified.
  std::vector<std::string> Told() {
    std::vector<std::string> told;
    for (const std::string& bytes : connection_->TakeOutput()) {
      network::ProcessingResponse response;
      EXPECT_TRUE(response.ParseFromString(bytes));
      EXPECT_FALSE(response.has_read_data() && response.has_write_data());
      EXPECT_FALSE(response.close_stream_to_ext_proc_server());
      if (response.connection_status() != network::ProcessingResponse::CONTINUE) {
        const network::Data& data =
            response.has_read_data() ? response.read_data() : response.write_data();
        EXPECT_EQ(data.data(), "");
        told.push_back(
            response.connection_status() == network::ProcessingResponse::CLOSE ? "close" : "reset");
        continue;
      }
      const bool is_read = response.has_read_data();
      if (!is_read && !response.has_write_data()) {
        told.push_back("nothing");
        continue;
      }
      const network::Data& data = is_read ? response.read_data() : response.write_data();
      const bool is_modified =
          response.data_processing_status() == network::ProcessingResponse::MODIFIED;
      EXPECT_NE(response.data_processing_status(), network::ProcessingResponse::UNKNOWN);
      told.push_back((is_read ? "read " : "write ") + data.data() +
                     (data.end_of_stream() ? "." : "") + (is_modified ? "*" : ""));
    }
    return told;
  }
  void Finish() {
    if (connection_ == nullptr) return;
    if (!connection_->closed()) {
      connection_->OnCancel();
      while (!connection_->closed() && !HasFatalFailure()) rpc_.WaitAndDeliver(connection_.get());
    }
    connection_.reset();
  }
  void StartAgain() {
    Finish();
    Reset();
  }
  void Deliver() { rpc_.Deliver(connection_.get()); }

  std::unique_ptr<DataStream> connection_;
};

TEST_F(DataStreamTest, WithoutAnInstanceBytesPass) {
  Read("a");
  Write("b");
  Read("", true);
  EXPECT_THAT(Told(), ElementsAre("read a", "write b", "read ."));
  connection_->OnHalfClose();
  EXPECT_EQ(*connection_->end(), absl::OkStatus());
  EXPECT_TRUE(connection_->closed());
}

TEST_F(DataStreamTest, InstancesSeeBytesAsTheOnesBeforeLeftThem) {
  for (const char* name : {"1", "2", "3"}) {
    FakePlugin* plugin = AddPlugin();
    plugin->phases[CALLOUT_READ_DATA] = Marks(name);
    plugin->phases[CALLOUT_WRITE_DATA] = Marks(name);
  }
  Read("r");
  Write("w", true);
  EXPECT_THAT(Told(), ElementsAre("read r123*", "write w321.*"));
}

TEST_F(DataStreamTest, AnInstanceIsOpenedOnceAndTold) {
  FakePlugin* plugin = AddPlugin();
  std::vector<std::string> calls;
  const auto note = [&](callout_call_t* call) {
    const network::Data data = Shown(call);
    calls.push_back(std::to_string(call->phase) + " " + data.data() + " " +
                    std::to_string(call->flags) + " " + std::to_string(call->body_offset));
    return CALLOUT_OK;
  };
  plugin->phases[CALLOUT_READ_DATA] = note;
  plugin->phases[CALLOUT_WRITE_DATA] = note;
  plugin->close = [&](callout_call_t* call) {
    EXPECT_EQ(call->end->outcome, uint32_t{CALLOUT_END_COMPLETED});
    EXPECT_EQ(call->end->request_body_bytes, 4u);
    EXPECT_EQ(call->end->response_body_bytes, 1u);
  };
  Read("abc");
  Write("x");
  Read("d");
  Read("", true);
  EXPECT_THAT(calls, ElementsAre("33 abc 1 0", "34 x 1 0", "33 d 0 3", "33  2 4"));
  EXPECT_THAT(Told(), ElementsAre("read abc", "write x", "read d", "read ."));
  EXPECT_EQ(plugin->opened, 1);
  connection_->OnHalfClose();
  EXPECT_EQ(plugin->closed, 1);
}

TEST_F(DataStreamTest, TheConnectionIsAnnouncedOnce) {
  FakePlugin* plugin = AddPlugin();
  int announced = 0;
  plugin->phases[CALLOUT_CONNECTION] = [&](callout_call_t* call) {
    ++announced;
    EXPECT_EQ(call->message.size, 0u);
    ProcessingRequest attributes;
    EXPECT_TRUE(attributes.ParseFromString(std::string(ToView(call->attributes))));
    EXPECT_EQ(attributes.attributes().size(), 1u);
    return CALLOUT_OK;
  };
  plugin->phases[CALLOUT_WRITE_DATA] = Marks("!");
  network::ProcessingRequest request;
  request.mutable_write_data()->set_data("w");
  (*(*request.mutable_attributes())["envoy.filters.network.ext_proc"]
        .mutable_fields())["source.address"]
      .set_string_value("192.0.2.1:4711");
  Send(request);
  Read("r");
  EXPECT_THAT(Told(), ElementsAre("write w!*", "read r"));
  EXPECT_EQ(announced, 1);
}

TEST_F(DataStreamTest, AMessageOfALaterEnvoyAnnouncesTheConnection) {
  AddPlugin()->phases[CALLOUT_CONNECTION] = Returns(CALLOUT_OK);
  SendBytes("\x2a\x01x");
  EXPECT_THAT(Told(), ElementsAre("nothing"));
  StartAgain();
  AddPlugin()->phases[CALLOUT_CONNECTION] = Ends(network::ProcessingResponse::CLOSE);
  SendBytes("\x2a\x01x");
  EXPECT_THAT(Told(), ElementsAre("close"));
}

TEST_F(DataStreamTest, MatchFindsTheAttributes) {
  for (const bool fits : {true, false}) {
    AddPlugin()->phases[CALLOUT_READ_DATA] = Marks("!");
    settings_[0].match.attributes = {{"source.address", fits ? "192.0.2.1:4711" : "192.0.2.2:1"}};
    network::ProcessingRequest request;
    request.mutable_read_data()->set_data("r");
    (*(*request.mutable_attributes())["envoy.filters.network.ext_proc"]
          .mutable_fields())["source.address"]
        .set_string_value("192.0.2.1:4711");
    Send(request);
    EXPECT_THAT(Told(), ElementsAre(fits ? "read r!*" : "read r"));
    StartAgain();
  }
}

TEST_F(DataStreamTest, MetadataGoesOutWithTheMessage) {
  for (const char* name : {"a", "b"}) {
    AddPlugin()->phases[CALLOUT_READ_DATA] = Says([name](network::ProcessingResponse* response) {
      (*response->mutable_dynamic_metadata()->mutable_fields())[name].set_bool_value(true);
    });
  }
  Read("r");
  network::ProcessingResponse response;
  ASSERT_TRUE(response.ParseFromString(connection_->TakeOutput().at(0)));
  EXPECT_EQ(response.dynamic_metadata().fields_size(), 2);
  EXPECT_EQ(response.read_data().data(), "r");
}

// --- The end of a connection ---

TEST_F(DataStreamTest, AfterTheEndNothingIsAnswered) {
  for (const auto how :
       {network::ProcessingResponse::CLOSE, network::ProcessingResponse::CLOSE_RST}) {
    AddPlugin()->phases[CALLOUT_READ_DATA] = Ends(how);
    FakePlugin* second = AddPlugin();
    int asked = 0;
    second->phases[CALLOUT_READ_DATA] = [&](callout_call_t*) {
      ++asked;
      return CALLOUT_OK;
    };
    Read("secret");
    Read("more");
    Write("more");
    EXPECT_THAT(Told(), ElementsAre(how == network::ProcessingResponse::CLOSE ? "close" : "reset"));
    EXPECT_EQ(asked, 0);
    EXPECT_FALSE(connection_->end().has_value()) << "what still comes is read, and dropped";
    EXPECT_TRUE(connection_->wants_message());
    connection_->OnHalfClose();
    EXPECT_EQ(*connection_->end(), absl::OkStatus());
    StartAgain();
  }
}

TEST_F(DataStreamTest, ThePolicyDecidesAboutAFault) {
  for (const ErrorPolicy::Action action :
       {ErrorPolicy::Action::kFail, ErrorPolicy::Action::kDeny, ErrorPolicy::Action::kContinue}) {
    AddPlugin(action, 503)->phases[CALLOUT_READ_DATA] = Returns(CALLOUT_INTERNAL);
    AddPlugin()->phases[CALLOUT_READ_DATA] = Marks("!");
    Read("r");
    EXPECT_THAT(Told(),
                ElementsAre(action == ErrorPolicy::Action::kContinue ? "read r!*" : "reset"));
    StartAgain();
  }
}

// It may have kept bytes that the next ones belong to.
TEST_F(DataStreamTest, NoPolicyLetsBytesPassBehindOnesThatAreChanged) {
  int calls = 0;
  FakePlugin* const plugin = AddPlugin(ErrorPolicy::Action::kContinue);
  plugin->phases[CALLOUT_READ_DATA] = [&](callout_call_t* call) {
    return ++calls == 1 ? Marks("!")(call) : callout_status_t{CALLOUT_INTERNAL};
  };
  Read("a");
  EXPECT_THAT(Told(), ElementsAre("read a!*"));
  Read("b");
  EXPECT_THAT(Told(), ElementsAre("reset"));
}

TEST_F(DataStreamTest, WhatIsInvalidIsAFault) {
  const std::map<std::string, FakePlugin::Hook> cases = {
      {"the other direction",
       Says([](network::ProcessingResponse* r) { r->mutable_write_data()->set_data("x"); })},
      {"both directions", Says([](network::ProcessingResponse* r) {
         r->mutable_read_data()->set_data("x");
         r->mutable_write_data()->set_data("x");
       })},
      {"malformed data",
       [](callout_call_t* call) { return Answer(call, CALLOUT_READ_DATA_RESPONSE, "\xff"); }},
      {"a line's end in metadata", Says([](network::ProcessingResponse* r) {
         auto& fields = *r->mutable_dynamic_metadata()->mutable_fields();
         (*fields["ns"].mutable_struct_value()->mutable_fields())["k"].set_string_value("a\r\nb");
       })},
      {"a status that has no place", Returns(CALLOUT_NO_RESPONSE)},
      {"send", [](callout_call_t* call) {
         const callout_bytes_t part = ToBytes(std::string_view("\x0a\x01x"));
         EXPECT_EQ(call->host->send(call, CALLOUT_READ_DATA_RESPONSE, &part, 1), CALLOUT_OK);
         return callout_status_t{CALLOUT_OK};
       }}};
  for (const auto& [name, hook] : cases) {
    AddPlugin()->phases[CALLOUT_READ_DATA] = hook;
    Read("r");
    EXPECT_THAT(Told(), ElementsAre("reset")) << name;
    StartAgain();
    AddPlugin(ErrorPolicy::Action::kContinue)->phases[CALLOUT_READ_DATA] = hook;
    Read("r");
    // Malformed bytes may have been the wish to close.
    EXPECT_THAT(Told(), ElementsAre(name == "malformed data" ? "reset" : "read r")) << name;
    StartAgain();
  }
}

// Envoy would half-close the direction, and let what comes later pass unseen.
TEST_F(DataStreamTest, APluginNeitherEndsADirectionNorTheStream) {
  AddPlugin()->phases[CALLOUT_READ_DATA] = Says([](network::ProcessingResponse* r) {
    r->mutable_read_data()->set_data("x");
    r->mutable_read_data()->set_end_of_stream(true);
    r->set_close_stream_to_ext_proc_server(true);
  });
  Read("r");
  Read("s", true);
  EXPECT_THAT(Told(), ElementsAre("read x*", "read x.*"));
  EXPECT_FALSE(connection_->end().has_value());
}

TEST_F(DataStreamTest, AnEndIsOneWhateverComesAfterIt) {
  const std::map<std::string, FakePlugin::Hook> cases = {
      {"denied", Returns(CALLOUT_PERMISSION_DENIED)},
      {"closed, and then an error",
       [](callout_call_t* call) {
         Ends(network::ProcessingResponse::CLOSE)(call);
         return callout_status_t{CALLOUT_INTERNAL};
       }},
      {"an unknown connection status", Says([](network::ProcessingResponse* r) {
         r->set_connection_status(static_cast<network::ProcessingResponse::ConnectionStatus>(3));
       })},
      {"closed, with data of the other direction", Says([](network::ProcessingResponse* r) {
         r->set_connection_status(network::ProcessingResponse::CLOSE);
         r->mutable_write_data()->set_data("x");
       })},
      {"a whole response that is malformed",
       [](callout_call_t* call) {
         Answer(call, CALLOUT_WHOLE_RESPONSE, "\x20\x01\xff");
         return callout_status_t{CALLOUT_OK};
       }},
      {"an end that is sent, where one response is all",
       [](callout_call_t* call) {
         const callout_bytes_t part = ToBytes("\x20\x01");
         call->host->send(call, CALLOUT_WHOLE_RESPONSE, &part, 1);
         return callout_status_t{CALLOUT_OK};
       }},
  };
  for (const auto& [name, hook] : cases) {
    AddPlugin(ErrorPolicy::Action::kContinue)->phases[CALLOUT_READ_DATA] = hook;
    Read("r");
    EXPECT_THAT(Told(), ElementsAre("reset")) << name;
    StartAgain();
  }
  const std::map<std::string, FakePlugin::Hook> closed = {
      {"closed, and then replaced",
       [](callout_call_t* call) {
         EXPECT_EQ(callout_close_connection(call), CALLOUT_OK);
         EXPECT_EQ(Replace(call, "x"), CALLOUT_FAILED_PRECONDITION);
         EXPECT_EQ(callout_reset_connection(call), CALLOUT_FAILED_PRECONDITION);
         return callout_status_t{CALLOUT_OK};
       }},
      {"replaced, and then closed",
       [](callout_call_t* call) {
         EXPECT_EQ(Replace(call, "x"), CALLOUT_OK);
         return callout_close_connection(call);
       }},
      {"closed, and then denied by status",
       [](callout_call_t* call) {
         EXPECT_EQ(callout_close_connection(call), CALLOUT_OK);
         return callout_status_t{CALLOUT_PERMISSION_DENIED};
       }},
  };
  for (const auto& [name, hook] : closed) {
    AddPlugin(ErrorPolicy::Action::kContinue)->phases[CALLOUT_READ_DATA] = hook;
    Read("r");
    EXPECT_THAT(Told(), ElementsAre("close")) << name;
    StartAgain();
  }
}

TEST_F(DataStreamTest, AStandInForAPluginWithoutAHookIsNobody) {
  AddPlugin(ErrorPolicy::Action::kFail)->stand_in =
      QuarantinePlugin(CALLOUT_PHASE_BIT(CALLOUT_REQUEST_HEADERS));
  Read("r");
  EXPECT_THAT(Told(), ElementsAre("read r"));
  StartAgain();
  AddPlugin(ErrorPolicy::Action::kFail)->stand_in =
      QuarantinePlugin(CALLOUT_PHASE_BIT(CALLOUT_READ_DATA));
  Read("r");
  EXPECT_THAT(Told(), ElementsAre("reset"));
}

TEST_F(DataStreamTest, AnOpenThatRefusesEndsTheConnection) {
  FakePlugin* plugin = AddPlugin();
  plugin->open = Returns(CALLOUT_PERMISSION_DENIED);
  plugin->phases[CALLOUT_READ_DATA] = Returns(CALLOUT_OK);
  Read("r");
  EXPECT_THAT(Told(), ElementsAre("reset"));
  connection_->OnHalfClose();
  EXPECT_EQ(plugin->closed, 0);
  StartAgain();
  plugin = AddPlugin(ErrorPolicy::Action::kContinue);
  plugin->open = Returns(CALLOUT_INTERNAL);
  plugin->phases[CALLOUT_CONNECTION] = Returns(CALLOUT_OK);
  plugin->phases[CALLOUT_READ_DATA] = Marks("!");
  Read("r");
  Read("s");
  EXPECT_THAT(Told(), ElementsAre("read r", "read s")) << "it takes no part in the connection";
  EXPECT_EQ(plugin->opened, 1);
}

TEST_F(DataStreamTest, WhatIsNoRequestIsAnError) {
  network::ProcessingRequest both;
  both.mutable_read_data()->set_data("r");
  both.mutable_write_data()->set_data("w");
  for (const std::string& bytes : {std::string("\xff"), both.SerializeAsString()}) {
    Open();
    SendBytes(bytes);
    EXPECT_EQ(connection_->end()->code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(Told(), IsEmpty());
    EXPECT_TRUE(connection_->closed());
  }
}

TEST_F(DataStreamTest, TheEndOfADrainIsAnError) {
  AddPlugin(ErrorPolicy::Action::kContinue)->phases[CALLOUT_READ_DATA] = Marks("!");
  Read("r");
  Told();
  connection_->OnDrainDeadline();
  EXPECT_EQ(connection_->end()->code(), absl::StatusCode::kUnavailable)
      << "with OK the rest would pass unseen";
}

// --- Calls that take longer ---

TEST_F(DataStreamTest, ADeferredCallDelaysItsDirectionOnly) {
  FakePlugin* slow = AddPlugin();
  callout_call_t* held = nullptr;
  slow->phases[CALLOUT_READ_DATA] = [&](callout_call_t* call) {
    held = call;
    return CALLOUT_DEFERRED;
  };
  FakePlugin* quick = AddPlugin();
  quick->phases[CALLOUT_WRITE_DATA] = Marks("!");
  Read("a");
  Read("b");
  Write("w");
  EXPECT_THAT(Told(), ElementsAre("write w!*"));
  EXPECT_FALSE(connection_->idle());
  EXPECT_NE(connection_->deadline_ns(), 0u);
  EXPECT_EQ(Shown(held).data(), "a") << "the views stay good";
  Replace(held, "A");
  callout_call_t* first = held;
  EXPECT_EQ(held->host->finish(held, CALLOUT_OK), CALLOUT_OK);
  Deliver();
  EXPECT_THAT(Told(), ElementsAre("read A*"));
  EXPECT_NE(held, first) << "the next one is called";
  held->host->finish(held, CALLOUT_OK);
  Deliver();
  EXPECT_THAT(Told(), ElementsAre("read b"));
  EXPECT_TRUE(connection_->idle());
}

// Envoy resets it; other clients wait for its end.
TEST_F(DataStreamTest, AHalfCloseEndsAlsoWhatIsShutLater) {
  for (const bool in_time : {true, false}) {
    StartAgain();
    callout_call_t* held = nullptr;
    AddPlugin()->phases[CALLOUT_READ_DATA] = [&](callout_call_t* call) {
      held = call;
      return CALLOUT_DEFERRED;
    };
    Read("a");
    connection_->OnHalfClose();
    EXPECT_FALSE(connection_->end().has_value());
    if (in_time) {
      held->host->finish(held, CALLOUT_PERMISSION_DENIED);
      Deliver();
    } else {
      connection_->OnDeadline(UINT64_MAX);
    }
    EXPECT_THAT(Told(), ElementsAre("reset"));
    ASSERT_TRUE(connection_->end().has_value());
    EXPECT_EQ(*connection_->end(), absl::OkStatus());
    if (!in_time) held->host->finish(held, CALLOUT_OK);
    Finish();
  }
}

TEST_F(DataStreamTest, SaysWhatItIsAt) {
  AddPlugin();
  FakePlugin* slow = AddPlugin();
  callout_call_t* held = nullptr;
  slow->phases[CALLOUT_CONNECTION] = slow->phases[CALLOUT_READ_DATA] = [&](callout_call_t* call) {
    held = call;
    return CALLOUT_DEFERRED;
  };
  slow->phases[CALLOUT_WRITE_DATA] = Ends(network::ProcessingResponse::CLOSE);
  const auto describe = [&] {
    LiveRpc rpc;
    connection_->Describe(&rpc);
    EXPECT_EQ(rpc.kind, "network_ext_proc");
    EXPECT_NE(rpc.stream_id, 0u);
    return rpc.state + ", " + rpc.phase + ", " + rpc.plugin;
  };
  Open();
  EXPECT_EQ(describe(), "waits for Envoy, , ");
  Read("a");
  const std::string name = environment_->chains().current()->instances[1]->name();
  EXPECT_EQ(describe(), "called, connection, " + name);
  held->host->finish(held, CALLOUT_OK);
  Deliver();
  EXPECT_EQ(describe(), "called, read_data, " + name);
  held->host->finish(held, CALLOUT_OK);
  Deliver();
  EXPECT_EQ(describe(), "waits for Envoy, , ");
  Read("b");
  held->host->finish(held, CALLOUT_OK);
  Write("c");
  EXPECT_EQ(describe(), "called, read_data, " + name);
  Deliver();
  EXPECT_EQ(describe(), "waits for the connection to end, , ");
}

TEST_F(DataStreamTest, HooksOfOneInstanceNeverOverlap) {
  FakePlugin* plugin = AddPlugin();
  callout_call_t* held = nullptr;
  plugin->phases[CALLOUT_READ_DATA] = [&](callout_call_t* call) {
    held = call;
    return CALLOUT_DEFERRED;
  };
  plugin->phases[CALLOUT_WRITE_DATA] = Marks("!");
  Read("r");
  Write("w");
  EXPECT_THAT(Told(), IsEmpty());
  held->host->finish(held, CALLOUT_OK);
  Deliver();
  EXPECT_THAT(Told(), UnorderedElementsAre("read r", "write w!*"));
}

TEST_F(DataStreamTest, TheDirectionThatWaitsForAnInstanceGetsItNext) {
  FakePlugin* plugin = AddPlugin();
  callout_call_t* held = nullptr;
  std::vector<std::string> calls;
  const auto defer = [&](callout_call_t* call) {
    held = call;
    calls.push_back(Shown(call).data());
    return CALLOUT_DEFERRED;
  };
  plugin->phases[CALLOUT_READ_DATA] = plugin->phases[CALLOUT_WRITE_DATA] = defer;
  for (const char* data : {"a", "b", "c"}) Read(data);
  for (const char* data : {"v", "w"}) Write(data);
  for (int i = 0; i < 5; ++i) {
    held->host->finish(held, CALLOUT_OK);
    Deliver();
  }
  EXPECT_THAT(calls, ElementsAre("a", "v", "b", "w", "c"));
  EXPECT_THAT(Told(), ElementsAre("read a", "write v", "read b", "write w", "read c"));
  StartAgain();
  plugin = AddPlugin();
  plugin->phases[CALLOUT_READ_DATA] = defer;
  plugin->phases[CALLOUT_WRITE_DATA] = Marks("!");
  Read("a");
  Read("b");
  Write("w");
  held->host->finish(held, CALLOUT_OK);
  Deliver();
  EXPECT_THAT(Told(), UnorderedElementsAre("read a", "write w!*"));
  EXPECT_EQ(Shown(held).data(), "b") << "it is called afterwards";
  held->host->finish(held, CALLOUT_OK);
  Deliver();
}

TEST_F(DataStreamTest, AfterTheDeadlineThePolicyAnswers) {
  for (const ErrorPolicy::Action action :
       {ErrorPolicy::Action::kFail, ErrorPolicy::Action::kContinue}) {
    FakePlugin* plugin = AddPlugin(action);
    callout_call_t* held = nullptr;
    plugin->phases[CALLOUT_READ_DATA] = [&](callout_call_t* call) {
      held = call;
      return CALLOUT_DEFERRED;
    };
    Read("r");
    connection_->OnDeadline(connection_->deadline_ns() - 1);
    EXPECT_THAT(Told(), IsEmpty());
    connection_->OnDeadline(connection_->deadline_ns());
    const bool passes = action == ErrorPolicy::Action::kContinue;
    EXPECT_THAT(Told(), ElementsAre(passes ? "read r" : "reset"));
    if (passes) {
      // The next message waits for the late call, with a deadline of its own.
      Read("s");
      EXPECT_NE(connection_->deadline_ns(), 0u);
      connection_->OnDeadline(connection_->deadline_ns());
      EXPECT_THAT(Told(), ElementsAre("read s"));
    }
    connection_->OnHalfClose();
    EXPECT_FALSE(connection_->closed()) << "the plugin still has the call";
    EXPECT_EQ(Shown(held).data(), "r") << "and what it was given";
    EXPECT_EQ(held->host->finish(held, CALLOUT_OK), CALLOUT_DEADLINE_EXCEEDED);
    Deliver();
    EXPECT_TRUE(connection_->closed());
    EXPECT_EQ(plugin->closed, 1);
    EXPECT_EQ(environment_->deferred(), 0u);
    StartAgain();
  }
}

TEST_F(DataStreamTest, AnEndStandsWhereTheCallIsNotFinished) {
  for (const callout_phase_t phase : {CALLOUT_CONNECTION, CALLOUT_READ_DATA}) {
    FakePlugin* plugin = AddPlugin(ErrorPolicy::Action::kContinue);
    callout_call_t* forgotten = nullptr;
    plugin->phases[phase] = [&](callout_call_t* call) {
      forgotten = call;
      EXPECT_EQ(callout_close_connection(call), CALLOUT_OK);
      return CALLOUT_DEFERRED;
    };
    Read("r");
    connection_->OnDeadline(connection_->deadline_ns());
    EXPECT_THAT(Told(), ElementsAre("reset"));
    forgotten->host->finish(forgotten, CALLOUT_OK);
    Deliver();
    StartAgain();
  }
}

TEST_F(DataStreamTest, ABlockingHookRunsElsewhere) {
  const std::thread::id own = std::this_thread::get_id();
  FakePlugin* plugin = AddBlocking();
  plugin->phases[CALLOUT_CONNECTION] = Returns(CALLOUT_OK);
  plugin->phases[CALLOUT_READ_DATA] = [&](callout_call_t* call) {
    EXPECT_NE(std::this_thread::get_id(), own);
    return Replace(call, "R");
  };
  Read("r");
  while (!connection_->idle()) rpc_.WaitAndDeliver(connection_.get());
  EXPECT_THAT(Told(), ElementsAre("read R*"));
  connection_->OnHalfClose();
  while (!connection_->closed()) rpc_.WaitAndDeliver(connection_.get());
  EXPECT_EQ(plugin->opened, 1);
  EXPECT_EQ(plugin->closed, 1);
}

TEST_F(DataStreamTest, AConnectionThatFoundNoThreadIsToldBeforeTheNextBytes) {
  limits_.blocking_threads_max = 1;
  limits_.hook_deadline_ms = 60'000;
  InstanceSettings settings;
  settings.policy = ErrorPolicy{ErrorPolicy::Action::kContinue, 0};
  FakePlugin* plugin = AddBlocking(settings);
  std::vector<std::string> calls;
  plugin->phases[CALLOUT_CONNECTION] = [&](callout_call_t*) {
    calls.emplace_back("connection");
    return CALLOUT_OK;
  };
  plugin->phases[CALLOUT_READ_DATA] = [&](callout_call_t* call) {
    calls.push_back("read " + Shown(call).data());
    return CALLOUT_OK;
  };
  Begin();
  Notification thread_is_free;
  environment_->blocking_pool().Submit([&] { thread_is_free.WaitForNotification(); });
  Read("a");
  connection_->OnDeadline(connection_->deadline_ns());
  EXPECT_THAT(Told(), ElementsAre("read a"));
  EXPECT_EQ(FaultCount("overload"), 1);
  thread_is_free.Notify();
  Read("b");
  while (!connection_->idle() && !HasFatalFailure()) rpc_.WaitAndDeliver(connection_.get());
  EXPECT_THAT(Told(), ElementsAre("read b"));
  EXPECT_THAT(calls, ElementsAre("connection", "read b"));
}

TEST_F(DataStreamTest, ACancelReachesTheCallUnderWay) {
  FakePlugin* plugin = AddPlugin();
  int cancelled = 0;
  plugin->cancel = [&](callout_call_t*) { ++cancelled; };
  callout_call_t* held = nullptr;
  plugin->phases[CALLOUT_READ_DATA] = [&](callout_call_t* call) {
    held = call;
    return CALLOUT_DEFERRED;
  };
  Read("r");
  connection_->OnCancel();
  EXPECT_EQ(cancelled, 1);
  EXPECT_EQ(held->host->finish(held, CALLOUT_OK), CALLOUT_CANCELLED);
  Deliver();
  EXPECT_TRUE(connection_->closed());
  EXPECT_EQ(plugin->closed, 1);
}

TEST_F(DataStreamTest, AtALimitNoFurtherMessageIsRead) {
  limits_.queued_messages_max = 2;
  limits_.queued_bytes_max = 1000;
  FakePlugin* plugin = AddPlugin();
  callout_call_t* held = nullptr;
  plugin->phases[CALLOUT_READ_DATA] = [&](callout_call_t* call) {
    held = call;
    return CALLOUT_DEFERRED;
  };
  Read("a");
  EXPECT_TRUE(connection_->wants_message());
  Read("b");
  EXPECT_FALSE(connection_->wants_message());
  for (int i = 0; i < 2; ++i) {
    held->host->finish(held, CALLOUT_OK);
    Deliver();
  }
  EXPECT_TRUE(connection_->wants_message());
  const size_t kept = connection_->kept_bytes();
  EXPECT_LT(kept, sizeof(DataStream) + 1000u);
  Read(std::string(1000, 'x'));
  EXPECT_FALSE(connection_->wants_message());
  EXPECT_GE(connection_->kept_bytes(), kept + 1000u);
  held->host->finish(held, CALLOUT_OK);
  Deliver();
  EXPECT_TRUE(connection_->wants_message());
  EXPECT_EQ(connection_->kept_bytes(), kept);
}

// Of one byte each.
TEST_F(DataStreamTest, AMessageThatWaitsIsCountedWithAllThatItTakes) {
  callout_call_t* held = nullptr;
  AddPlugin()->phases[CALLOUT_READ_DATA] = [&](callout_call_t* call) {
    held = call;
    return CALLOUT_DEFERRED;
  };
  Open();
  const size_t kept = connection_->kept_bytes();
  constexpr size_t kAttributes = 1000;
  network::ProcessingRequest request;
  request.mutable_read_data()->set_data("a");
  for (size_t i = 0; i < kAttributes; ++i) {
    (*request.mutable_attributes())[std::to_string(i)];
  }
  Send(request);
  EXPECT_GE(connection_->kept_bytes(),
            kept + request.ByteSizeLong() + kAttributes * sizeof(std::string_view));
  const size_t with_first = connection_->kept_bytes();
  Read("b");
  EXPECT_GE(connection_->kept_bytes(), with_first + 100) << "a message itself";
  held->host->finish(held, CALLOUT_OK);
  Deliver();
  held->host->finish(held, CALLOUT_OK);
  Deliver();
}

TEST_F(DataStreamTest, AChainIsCountedWithItsParts) {
  for (int i = 0; i < 10; ++i) AddPlugin()->phases[CALLOUT_READ_DATA] = Returns(CALLOUT_OK);
  Open();
  EXPECT_GE(connection_->kept_bytes(), sizeof(DataStream) + 10 * sizeof(CallState));
}

TEST_F(DataStreamTest, WhatWaitsIsFreedOnceTheConnectionIsShut) {
  callout_call_t* held = nullptr;
  AddPlugin()->phases[CALLOUT_READ_DATA] = [&](callout_call_t* call) {
    held = call;
    return CALLOUT_DEFERRED;
  };
  Open();
  const size_t kept = connection_->kept_bytes();
  for (int i = 0; i < 3; ++i) Read(std::string(1000, 'x'));
  EXPECT_GE(connection_->kept_bytes(), kept + 3000u);
  EXPECT_EQ(Ends(network::ProcessingResponse::CLOSE_RST)(held), CALLOUT_OK);
  held->host->finish(held, CALLOUT_OK);
  Deliver();
  EXPECT_THAT(Told(), ElementsAre("reset"));
  EXPECT_EQ(connection_->kept_bytes(), kept);
  EXPECT_TRUE(connection_->idle());
}

TEST_F(DataStreamTest, ALateCallStillKeepsItsMessage) {
  callout_call_t* held = nullptr;
  AddPlugin()->phases[CALLOUT_READ_DATA] = [&](callout_call_t* call) {
    held = call;
    return CALLOUT_DEFERRED;
  };
  Open();
  const size_t kept = connection_->kept_bytes();
  Read(std::string(1000, 'x'));
  connection_->OnDeadline(connection_->deadline_ns());
  EXPECT_THAT(Told(), ElementsAre("reset"));
  EXPECT_GE(connection_->kept_bytes(), kept + 1000u);
  held->host->finish(held, CALLOUT_OK);
  Deliver();
  EXPECT_EQ(connection_->kept_bytes(), kept);
}

TEST_F(DataStreamTest, CopiesForLaterInstancesCountAgainstTheLimit) {
  limits_.queued_bytes_max = 5000;
  constexpr int kChanges = 4;
  for (int i = 0; i < kChanges; ++i) AddPlugin()->phases[CALLOUT_READ_DATA] = Marks("!");
  FakePlugin* plugin = AddPlugin();
  callout_call_t* held = nullptr;
  plugin->phases[CALLOUT_READ_DATA] = [&](callout_call_t* call) {
    held = call;
    return CALLOUT_DEFERRED;
  };
  Open();
  const size_t kept = connection_->kept_bytes();
  Read(std::string(1000, 'x'));
  // What came and what it was changed to last; and for each instance behind one that has changed
  // it, a Data and a request.
  EXPECT_GE(connection_->kept_bytes(), kept + 1000u * (2 + 2 * kChanges));
  EXPECT_FALSE(connection_->wants_message());
  held->host->finish(held, CALLOUT_OK);
  Deliver();
  EXPECT_LT(connection_->kept_bytes(), kept + 1000u);
  EXPECT_TRUE(connection_->wants_message());
}

TEST_F(DataStreamTest, MetadataOfAMessageThatWaitsCountsAgainstTheLimit) {
  AddPlugin()->phases[CALLOUT_READ_DATA] = [](callout_call_t* call) {
    google::protobuf::Struct metadata;
    google::protobuf::Struct* space = (*metadata.mutable_fields())["space"].mutable_struct_value();
    (*space->mutable_fields())["key"].set_string_value(std::string(1000, 'm'));
    const std::string bytes = metadata.SerializeAsString();
    return call->host->annotate(call, CALLOUT_DATA_DYNAMIC_METADATA, ToBytes(bytes));
  };
  callout_call_t* held = nullptr;
  AddPlugin()->phases[CALLOUT_READ_DATA] = [&](callout_call_t* call) {
    held = call;
    return CALLOUT_DEFERRED;
  };
  Open();
  const size_t kept = connection_->kept_bytes();
  Read("a");
  EXPECT_GE(connection_->kept_bytes(), kept + 1000u);
  held->host->finish(held, CALLOUT_OK);
  Deliver();
  EXPECT_LT(connection_->kept_bytes(), kept + 1000u);
}

TEST_F(DataStreamTest, MoreDeferredCallsThanAllowedAreAFault) {
  limits_.deferred_max = 0;
  callout_call_t* held = nullptr;
  AddPlugin()->phases[CALLOUT_READ_DATA] = [&](callout_call_t* call) {
    held = call;
    return CALLOUT_DEFERRED;
  };
  Read("r");
  EXPECT_THAT(Told(), ElementsAre("reset"));
  held->host->finish(held, CALLOUT_OK);
  Deliver();
  EXPECT_EQ(environment_->deferred(), 0u);
}

// --- What those who watch are told ---

class Watcher final : public RpcWatcher {
 public:
  class Observer final : public RpcObserver {
   public:
    explicit Observer(std::vector<std::string>* told) : told_(told) {}
    void OnCall(const CallRecord& call) override {
      EXPECT_LE(call.begin_ns, call.end_ns);
      told_->push_back(std::string(PhaseName(call.phase)) + " " +
                       std::string(CallOutcomeName(call.result.outcome)));
    }
    void OnEnd(const RpcEnd&) override { told_->push_back("end"); }

   private:
    std::vector<std::string>* const told_;
  };
  std::unique_ptr<RpcObserver> Watch(const RpcStart& start) override {
    EXPECT_EQ(start.service, RpcService::kNetworkExtProc);
    return std::make_unique<Observer>(&told);
  }
  std::vector<std::string> told;
};

TEST_F(DataStreamTest, EachCallIsToldOnceWithWhatCameOfIt) {
  Watcher watcher;
  FakePlugin* plugin = AddPlugin(ErrorPolicy::Action::kContinue);
  callout_call_t* held = nullptr;
  plugin->phases[CALLOUT_CONNECTION] = Returns(CALLOUT_OK);
  plugin->phases[CALLOUT_READ_DATA] = [&](callout_call_t* call) -> callout_status_t {
    const std::string data = Shown(call).data();
    if (data == "replace") return Replace(call, "x");
    if (data == "fail") return CALLOUT_INTERNAL;
    if (data == "close") return Ends(network::ProcessingResponse::CLOSE)(call);
    if (data != "defer") return CALLOUT_OK;
    held = call;
    return CALLOUT_DEFERRED;
  };
  plugin->phases[CALLOUT_WRITE_DATA] = Returns(CALLOUT_OK);
  Begin();
  environment_->watchers().Add(&watcher);
  environment_->watchers().SetActive(&watcher, true);
  for (const char* data : {"pass", "fail", "defer"}) Read(data);
  Write("waits for the other call");
  // Both are overdue; the one that waits for its turn is no call.
  connection_->OnDeadline(UINT64_MAX);
  held->host->finish(held, CALLOUT_OK);
  Deliver();
  for (const char* data : {"replace", "close"}) Read(data);
  connection_->OnHalfClose();
  EXPECT_THAT(watcher.told,
              ElementsAre("connection unchanged", "read_data unchanged", "read_data fault",
                          "read_data fault", "read_data changed", "read_data immediate", "end"));
  Finish();
}

TEST_F(DataStreamTest, ACallThatIsFinishedAfterTheConnectionWasShutIsToldToo) {
  Watcher watcher;
  FakePlugin* plugin = AddPlugin();
  callout_call_t* held = nullptr;
  plugin->phases[CALLOUT_READ_DATA] = [&](callout_call_t* call) {
    held = call;
    return CALLOUT_DEFERRED;
  };
  AddPlugin()->phases[CALLOUT_WRITE_DATA] = Ends(network::ProcessingResponse::CLOSE);
  Begin();
  environment_->watchers().Add(&watcher);
  environment_->watchers().SetActive(&watcher, true);
  Read("a");
  Write("b");
  EXPECT_THAT(Told(), ElementsAre("close"));
  held->host->finish(held, CALLOUT_OK);
  Deliver();
  connection_->OnHalfClose();
  EXPECT_THAT(watcher.told, ElementsAre("write_data immediate", "read_data overruled", "end"));
  Finish();
}

}  // namespace
}  // namespace callout::host
