// SPDX-License-Identifier: Apache-2.0

// callout/data.hpp - network ext_proc in C++: the calls of a TCP connection. Include
// <callout/plugin.hpp>.
//
//     CALLOUT_ON_READ_DATA(call) {
//       if (call.data().find("DROP TABLE") != call.data().npos) return call.close();
//       call.replace("> " + std::string(call.data()));
//     }
//
// A hook that says nothing passes the bytes on as they came. What is said last counts, but after
// close() and reset() nothing does, and the host's log says what that was.
#ifndef CALLOUT_DATA_HPP_
#define CALLOUT_DATA_HPP_

#include <callout/data.h>

#include <callout/call.hpp>
#include <string>
#include <string_view>

namespace callout {

namespace internal {

// What a hook of a connection has said so far. The host has the answer.
class DataState : public HookState {
 public:
  using HookState::HookState;

  void end(uint32_t how, const char* step) {
    if (!may_go_on_unless(is_ended, step)) return;
    is_ended = true;
    const callout_status_t status = callout_end_connection(call, how);
    if (status < 0) fail(status, "the host refused to end the connection");
  }
  void replace(std::string_view bytes, const char* step) {
    if (!may_go_on_unless(is_ended, step)) return;
    const callout_status_t status = callout_replace_data(call, to_bytes(bytes));
    if (status < 0) fail(status, "the host refused the data");
  }

  // What the hook is to return.
  callout_status_t settle() noexcept {
    if (call == nullptr) return settle_deferred();
    report_late_step("close() or reset()", "the hook after them");
    return is_ended ? settle_refusal(CALLOUT_OK) : settle_outcome();
  }

  bool is_ended = false;
};

// What calls of a connection have in common.
template <class Derived>
class OfConnection : public CallFacts<Derived> {
 public:
  using State = DataState;
  explicit OfConnection(DataState* state) : state_(state) {}
  OfConnection(const OfConnection&) = delete;
  OfConnection& operator=(const OfConnection&) = delete;

  // An attribute that Envoy was told to send (connection_attributes): "source.address", ...
  Value attribute(std::string_view name) const {
    callout_value_t value;
    const bool found = callout_find_attribute(raw()->attributes, to_bytes(name), &value) != 0;
    return found ? Value(value) : Value();
  }

  // Closes the connection as one that is over (FIN), without the bytes of this call.
  void close() const { state_->end(1, "close"); }
  // Resets it (RST): no peer takes what it has got for all there was.
  void reset() const { state_->end(2, "reset"); }
  // Ends the call as an error of the plugin: the operator's policy decides.
  void fail(std::string_view text, callout_status_t status = CALLOUT_INTERNAL) const {
    state_->fail(status, text);
  }
  // For later filters, where Envoy is told to take it (receiving_namespaces): only Structs under
  // names of namespaces.
  void set_metadata(const StructWriter& metadata) const {
    state_->set_metadata(CALLOUT_DATA_DYNAMIC_METADATA, metadata);
  }

  // The hook returns at once and the call goes on elsewhere; `*this` must not be used any
  // more.
  Deferred<Derived> defer() const { return static_cast<const Derived*>(this)->make_deferred(); }

  callout_call_t* raw() const { return state_->call; }
  // For whoever extends this layer.
  DataState* state() const { return state_; }

 private:
  DataState* state_;
};

}  // namespace internal

// Before the first bytes of a connection, in either direction.
class ConnectionCall : public internal::OfConnection<ConnectionCall> {
 public:
  using OfConnection::OfConnection;

 private:
  friend class internal::OfConnection<ConnectionCall>;
  Deferred<ConnectionCall> make_deferred() const { return Deferred<ConnectionCall>(state()); }
};

// Bytes of one direction, in pieces as they come.
class DataCall : public internal::OfConnection<DataCall> {
 public:
  using OfConnection::OfConnection;

  // From the client; else to it.
  bool is_read() const { return raw()->phase == CALLOUT_READ_DATA; }
  // May be empty: the end of a direction comes alone.
  std::string_view data() const { return to_view(get().bytes); }
  // Nothing more follows in this direction.
  bool is_last() const { return get().end_of_stream != 0; }
  // How many bytes of the direction came before.
  uint64_t offset() const { return raw()->body_offset; }

  // The bytes go on as they came: so they do if nothing is said.
  void pass() const { state()->replace(data(), "pass"); }
  // These go on in their place; none if it is empty.
  void replace(std::string_view bytes) const { state()->replace(bytes, "replace"); }

 private:
  friend class internal::OfConnection<DataCall>;
  Deferred<DataCall> make_deferred() const { return Deferred<DataCall>(state()); }
  callout_data_t get() const {
    callout_data_t data;
    callout_get_data(raw(), &data);
    return data;
  }
};

}  // namespace callout

#endif  // CALLOUT_DATA_HPP_
