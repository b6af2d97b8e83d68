// SPDX-License-Identifier: Apache-2.0

// Hooks of a connection that do what its bytes say, for data_test.cc.
#include <callout/plugin.hpp>
#include <stdexcept>
#include <string>
#include <thread>

namespace {

class DataPlugin {
 public:
  struct Stream {
    std::string source;
  };

  void on_connection(callout::ConnectionCall& call, Stream& stream) const {
    stream.source = call.attribute("source.address").text();
    if (stream.source == "192.0.2.66:1") call.reset();
  }
  void on_read_data(callout::DataCall& call, Stream& stream) const { Act(call, stream); }
  void on_write_data(callout::DataCall& call, Stream& stream) const { Act(call, stream); }

 private:
  static void Act(const callout::DataCall& call, const Stream& stream) {
    const std::string_view deed = call.data();
    if (deed == "facts") {
      call.replace(std::string(call.is_read() ? "read " : "write ") + stream.source + " " +
                   std::to_string(call.offset()) + (call.is_last() ? " last" : ""));
    } else if (deed == "drop") {
      call.replace("");
    } else if (deed == "pass") {
      call.replace("x");
      call.pass();
    } else if (deed == "close") {
      call.close();
      call.reset();
      call.replace("x");
    } else if (deed == "close and throw") {
      call.close();
      throw std::runtime_error("thrown");
    } else if (deed == "replace and close") {
      call.replace("x");
      call.close();
    } else if (deed == "throw") {
      throw std::runtime_error("thrown");
    } else if (deed == "metadata") {
      callout::StructWriter metadata;
      metadata.set("user", "ada");
      call.set_metadata(metadata);
    } else if (deed == "defer") {
      std::thread([deferred = call.defer()]() mutable {
        deferred.finish_with([](const callout::DataCall& later) { later.replace("later"); });
      }).detach();
    }
  }
};

}  // namespace

CALLOUT_PLUGIN_CLASS(DataPlugin, ("data", "1.0.0", "Does as it is told"), connection, read_data,
                     write_data);
