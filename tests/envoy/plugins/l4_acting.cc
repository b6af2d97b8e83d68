// SPDX-License-Identifier: Apache-2.0

// Does with the bytes of a connection what they say, for tests/envoy/l4_test.cc. Bytes that begin
// with "!" are a command, in the direction of the configuration ("read" or "write"):
//
//   !up …      answered in capital letters
//   !drop …    answered without "!drop"
//   !close, !reset
//   !fail      CALLOUT_INTERNAL
//   !wrong     answered with data of the other direction
//   !both      answered with data of both directions
//   !end       answered with the end of the direction, which it is not
//   !leave     answered with the wish that Envoy end the stream
//   !large     answered with 6 MB
//   !replaced  answered with other bytes, and then CALLOUT_INTERNAL
//   !throw     the hook throws
//   !metadata  answered with metadata {"ns": {"k": "plain"}}; !evil: with a line's end in it
//   !late      deferred, and not finished in time
//   !never     deferred, and never finished
//   !defer     deferred, and finished soon
//
// All else passes. With "no connection" a connection from 127.0.0.1 is closed at once.
#include <callout/plugin.hpp>
#include <cctype>
#include <chrono>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

class L4Acting {
 public:
  explicit L4Acting(callout::Setup& setup)
      : acts_on_read_(setup.config() != "write"),
        refuses_connections_(setup.config() == "no connection") {}

  void on_connection(callout::ConnectionCall& call) const {
    const std::string_view source = call.attribute("source.address").text();
    if (refuses_connections_ && source.substr(0, 9) == "127.0.0.1") call.close();
  }
  void on_read_data(callout::DataCall& call) const {
    if (acts_on_read_) Act(call);
  }
  void on_write_data(callout::DataCall& call) const {
    if (!acts_on_read_) Act(call);
  }

 private:
  static void FinishLater(const callout::DataCall& call, int ms) {
    std::thread([deferred = call.defer(), ms]() mutable {
      std::this_thread::sleep_for(std::chrono::milliseconds(ms));
      deferred.finish();
    }).detach();
  }

  static constexpr char kCloseStream[] = "\x30\x01";  // close_stream_to_ext_proc_server: true

  // read_data or write_data of a ProcessingResponse, up to 100 bytes.
  static std::string DataRecord(bool is_read, const std::string& bytes, bool ends = false) {
    std::string data = std::string("\x0a") + static_cast<char>(bytes.size()) + bytes;
    if (ends) data += "\x10\x01";
    const callout_field_t field = is_read ? callout_field_t{CALLOUT_READ_DATA_RESPONSE}
                                          : callout_field_t{CALLOUT_WRITE_DATA_RESPONSE};
    return std::string(1, static_cast<char>(field << 3 | 2)) + static_cast<char>(data.size()) +
           data;
  }
  static void RespondWhole(const callout::DataCall& call, const std::string& response) {
    const callout_bytes_t part = callout::to_bytes(response);
    call.raw()->host->respond(call.raw(), CALLOUT_WHOLE_RESPONSE, &part, 1);
  }

  static void Act(const callout::DataCall& call) {
    const std::string_view data = call.data();
    const auto is = [&](std::string_view command) {
      return data.substr(0, command.size()) == command;
    };
    if (is("!up")) {
      std::string bytes(data);
      for (char& c : bytes) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
      call.replace(bytes);
    } else if (is("!drop")) {
      call.replace(data.substr(5));
    } else if (is("!close")) {
      call.close();
    } else if (is("!reset")) {
      call.reset();
    } else if (is("!fail")) {
      call.fail("failed");
    } else if (is("!wrong")) {
      RespondWhole(call, DataRecord(!call.is_read(), "wrong"));
    } else if (is("!both")) {
      RespondWhole(call, DataRecord(true, "one") + DataRecord(false, "two"));
    } else if (is("!end")) {
      RespondWhole(call, DataRecord(call.is_read(), std::string(data), true));
    } else if (is("!leave")) {
      RespondWhole(call, DataRecord(call.is_read(), std::string(data)) + kCloseStream);
    } else if (is("!large")) {
      call.replace(std::string(6000000, 'x'));
    } else if (is("!replaced")) {
      call.replace("other");
      call.fail("failed");
    } else if (is("!throw")) {
      throw std::runtime_error("thrown");
    } else if (is("!metadata") || is("!evil")) {
      callout::StructWriter metadata;
      metadata.open("ns").set("k", is("!evil") ? "a\r\nb" : "plain").close();
      call.set_metadata(metadata);
    } else if (is("!never")) {
      static std::mutex mutex;
      static std::vector<callout::Deferred<callout::DataCall>> held;
      const std::lock_guard<std::mutex> lock(mutex);
      held.push_back(call.defer());
    } else if (is("!late")) {
      FinishLater(call, 600);
    } else if (is("!defer")) {
      FinishLater(call, 20);
    }
  }

  const bool acts_on_read_;
  const bool refuses_connections_;
};

}  // namespace

CALLOUT_PLUGIN_CLASS(L4Acting, ("l4_acting", "1.0", "Acts as it is told"), connection, read_data,
                     write_data);
