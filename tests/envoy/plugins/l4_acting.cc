// SPDX-License-Identifier: Apache-2.0

// Does with the bytes of a connection what they say, for tests/envoy/l4_test.cc. Bytes that begin
// with "!" are a command, in the direction of the configuration ("read" or "write"):
//
//   !up …      answered in capital letters
//   !drop …    answered without "!drop"
//   !close, !reset
//   !fail      CALLOUT_INTERNAL
//   !wrong     answered with data of the other direction
//   !late      deferred, and never finished in time
//   !defer     deferred, and finished soon
//
// All else passes. With "no connection" a connection from 127.0.0.1 is closed at once.
#include <callout/plugin.hpp>
#include <cctype>
#include <chrono>
#include <string>
#include <string_view>
#include <thread>

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
      const callout_bytes_t part = callout::to_bytes("\x0a\x05wrong");
      const callout_field_t other = call.is_read() ? callout_field_t{CALLOUT_WRITE_DATA_RESPONSE}
                                                   : callout_field_t{CALLOUT_READ_DATA_RESPONSE};
      std::string whole(1, static_cast<char>(other << 3 | 2));
      whole.append(1, '\x07').append(callout::to_view(part));
      const callout_bytes_t bytes = callout::to_bytes(whole);
      call.raw()->host->respond(call.raw(), CALLOUT_WHOLE_RESPONSE, &bytes, 1);
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
