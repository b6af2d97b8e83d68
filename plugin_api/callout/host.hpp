// SPDX-License-Identifier: Apache-2.0

// callout/host.hpp - what the host does for a plugin: logging, metrics, and the making
// of an instance. Include <callout/plugin.hpp>.
//
// Thread: Host and the metrics can be used from any thread while the instance lives;
// Setup only while the instance is being made.
#ifndef CALLOUT_HOST_HPP_
#define CALLOUT_HOST_HPP_

#include <callout/view.hpp>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <type_traits>

namespace callout {

namespace internal {

// Appends one part of a log line. Numbers by snprintf: std::to_chars brings a GNU_UNIQUE
// table of digits into every plugin.
template <class Part>
void append_part(callout_writer_t* writer, const Part& part) {
  char text[32];
  int size = 0;
  if constexpr (std::is_same_v<Part, bool>) {
    callout_write_raw(writer, to_bytes(part ? "true" : "false"));
  } else if constexpr (std::is_same_v<Part, char>) {
    callout_write_raw(writer, callout_make_bytes(&part, 1));
  } else if constexpr (std::is_integral_v<Part> && std::is_unsigned_v<Part>) {
    size = std::snprintf(text, sizeof(text), "%ju", static_cast<uintmax_t>(part));
  } else if constexpr (std::is_integral_v<Part>) {
    size = std::snprintf(text, sizeof(text), "%jd", static_cast<intmax_t>(part));
  } else if constexpr (std::is_floating_point_v<Part>) {
    size = std::snprintf(text, sizeof(text), "%g", static_cast<double>(part));
  } else {
    callout_write_raw(writer, to_bytes(std::string_view(part)));
  }
  if (size > 0) callout_write_raw(writer, callout_make_bytes(text, static_cast<size_t>(size)));
}

}  // namespace internal

// The host's log: each call writes one line under the instance's name. The parts are
// put together only if the level is on, and up to 512 bytes without an allocation:
//     call.host().info("saw ", count, " headers from ", call.peer());
class Host {
 public:
  explicit Host(const callout_host_t* host) : host_(host) {}

  template <class... Parts>
  void debug(const Parts&... parts) const {
    log(CALLOUT_LOG_DEBUG, parts...);
  }
  template <class... Parts>
  void info(const Parts&... parts) const {
    log(CALLOUT_LOG_INFO, parts...);
  }
  template <class... Parts>
  void warning(const Parts&... parts) const {
    log(CALLOUT_LOG_WARNING, parts...);
  }
  template <class... Parts>
  void error(const Parts&... parts) const {
    log(CALLOUT_LOG_ERROR, parts...);
  }

  template <class... Parts>
  void log(callout_log_level_t level, const Parts&... parts) const {
    if (!host_->log_enabled(host_, level)) return;
    char buffer[512];
    callout_writer_t writer;
    callout_writer_init(&writer, buffer, sizeof(buffer));
    (internal::append_part(&writer, parts), ...);
    // Without memory the beginning of the line is still worth having.
    host_->log(host_, level, callout_make_bytes(writer.data, writer.size));
    callout_writer_free(&writer);
  }

  std::string_view name() const { return host_->name; }  // "callout-host/1.4.0"
  const callout_host_t* raw() const { return host_; }

 private:
  const callout_host_t* host_;
};

// Metrics, served at /metrics. Made by Setup, cheap to copy; one that was never
// made counts nothing.
class Metric {
 public:
  Metric() = default;
  Metric(const callout_host_t* host, uint32_t id) : host_(host), id_(id) {}

 protected:
  void record(double value) const {
    if (host_ != nullptr) host_->metric_record(host_, id_, value);
  }

 private:
  const callout_host_t* host_ = nullptr;
  uint32_t id_ = 0;
};
class Counter : public Metric {
 public:
  using Metric::Metric;
  void add(double amount = 1) const { record(amount); }  // not below 0
};
class Gauge : public Metric {
 public:
  using Metric::Metric;
  void set(double value) const { record(value); }
};
class UpDown : public Metric {
 public:
  using Metric::Metric;
  void add(double amount = 1) const { record(amount); }
  void subtract(double amount = 1) const { record(-amount); }
};
class Histogram : public Metric {
 public:
  using Metric::Metric;
  void observe(double value) const { record(value); }
};

// A spec to be filled further, for Setup. Its views must live until it is used.
inline callout_metric_spec_t metric_spec(std::string_view name, std::string_view help) {
  callout_metric_spec_t spec = {};
  spec.struct_size = sizeof(spec);
  spec.name = to_bytes(name);
  spec.help = to_bytes(help);
  return spec;
}

// How an instance is made: what it is told, and what it asks for. Given to the constructor
// of a plugin class (CALLOUT_PLUGIN_CLASS).
class Setup {
 public:
  explicit Setup(callout_create_args_t* args) : args_(args) {}
  Setup(const Setup&) = delete;
  Setup& operator=(const Setup&) = delete;

  // The configuration text; valid until the constructor has returned.
  std::string_view config() const { return to_view(args_->config); }
  std::string_view instance() const { return args_->instance; }
  Host host() const { return Host(args_->host); }

  // `name` is [a-zA-Z_:][a-zA-Z0-9_:]*; up to 64 in an instance.
  Counter counter(std::string_view name, std::string_view help) {
    return define<Counter>(CALLOUT_METRIC_COUNTER, name, help);
  }
  Gauge gauge(std::string_view name, std::string_view help) {
    return define<Gauge>(CALLOUT_METRIC_GAUGE, name, help);
  }
  Histogram histogram(std::string_view name, std::string_view help) {
    return define<Histogram>(CALLOUT_METRIC_HISTOGRAM, name, help);
  }

  // With labels beside plugin="INSTANCE", a unit, and buckets of a histogram's own:
  //     callout_metric_spec_t spec = callout::metric_spec("cache_age", "Age of what was found");
  //     spec.unit = callout_text("seconds");
  //     age_ = setup.histogram(spec);
  Counter counter(callout_metric_spec_t spec) {
    return define<Counter>(CALLOUT_METRIC_COUNTER, &spec);
  }
  Gauge gauge(callout_metric_spec_t spec) { return define<Gauge>(CALLOUT_METRIC_GAUGE, &spec); }
  Histogram histogram(callout_metric_spec_t spec) {
    return define<Histogram>(CALLOUT_METRIC_HISTOGRAM, &spec);
  }
  UpDown up_down(std::string_view name, std::string_view help) {
    return define<UpDown>(CALLOUT_METRIC_UP_DOWN, name, help);
  }
  UpDown up_down(callout_metric_spec_t spec) {
    return define<UpDown>(CALLOUT_METRIC_UP_DOWN, &spec);
  }

  // A change of this file (an absolute path) makes a new generation of the instance. Call it
  // before reading the file.
  void follow_file(std::string_view path) {
    const callout_status_t status = args_->host->follow_file(args_->host, to_bytes(path));
    if (status != CALLOUT_OK) fail(std::string("cannot follow the file ").append(path), status);
  }
  // callout_call.request_headers in response phases.
  void want_request_headers() { want(CALLOUT_WANT_REQUEST_HEADERS); }
  // The stream is not ended before the exchange is over.
  void want_real_end() { want(CALLOUT_WANT_REAL_END); }
  // Calls of both directions may be under way at once: what they share is for the class to
  // guard.
  void want_both_directions() { want(CALLOUT_WANT_BOTH_DIRECTIONS); }

  // Body hooks get whole bodies of up to so many bytes instead of chunks.
  void want_whole_bodies(uint64_t bytes_max) { args_->whole_body_bytes_max = bytes_max; }
  // Hooks wait for something: the host runs them on threads kept for that.
  void set_blocking() { args_->blocking = 1; }
  // Only those of `phase` do; 0: on_stream_open and the end of a stream.
  void set_blocking(callout_phase_t phase) { args_->blocking_phases |= CALLOUT_PHASE_BIT(phase); }
  // This configuration has no use for the hook of `phase`; 0 is on_process.
  void skip(callout_phase_t phase) { args_->phases &= ~CALLOUT_PHASE_BIT(phase); }

  // The instance cannot be made. The reason goes to the log. An exception thrown by the
  // constructor does the same.
  void fail(std::string_view reason, callout_status_t status = CALLOUT_INVALID_ARGUMENT) {
    if (status_ == CALLOUT_OK) host().error(reason);
    if (status_ == CALLOUT_OK) status_ = status;
  }
  callout_status_t status() const { return status_; }
  callout_create_args_t* raw() const { return args_; }

 private:
  void want(uint64_t bit) {
    if ((args_->grants & bit) == 0) {
      host().warning("this host does not grant the wish ", bit, " of callout_create_args.wants");
    }
    args_->wants |= bit;
  }

  template <class Kind>
  Kind define(callout_metric_kind_t kind, std::string_view name, std::string_view help) {
    callout_metric_spec_t spec = metric_spec(name, help);
    return define<Kind>(kind, &spec);
  }
  template <class Kind>
  Kind define(callout_metric_kind_t kind, callout_metric_spec_t* spec) {
    uint32_t id = 0;
    spec->kind = kind;
    const callout_status_t status = args_->host->define_metric(args_->host, spec, &id);
    if (status != CALLOUT_OK) {
      fail(std::string("cannot define the metric ").append(to_view(spec->name)), status);
      return Kind();
    }
    return Kind(args_->host, id);
  }

  callout_create_args_t* args_;
  callout_status_t status_ = CALLOUT_OK;
};

}  // namespace callout

#endif  // CALLOUT_HOST_HPP_
