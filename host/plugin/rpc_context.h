// SPDX-License-Identifier: Apache-2.0

// A transport as a stream sees it: the facts of the RPC, and a way for other threads to reach the
// stream's thread.
//
// Tested by tests/host/transport/h2/h2_connection_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_RPC_CONTEXT_H_
#define CALLOUT_HOST_PLUGIN_RPC_CONTEXT_H_

#include <cstdint>
#include <memory>
#include <string_view>

namespace callout::host {

struct CallState;

class RpcContext {
 public:
  // The events that another thread posts to the stream.
  enum class Event : uint8_t {
    kSent,      // send() has put a response into call->sent
    kFinished,  // the call is finished; posted once for each deferred call
    kClosed,    // a blocking instance has closed its part of the stream
  };

  // Makes the transport call Stream::OnPosted(call, event) on the stream's thread, in the order of
  // posting. The stream lives until it has got every kFinished and kClosed. Any thread.
  virtual void Post(CallState* call, Event event) = 0;

  // Gives the stream shared ownership of the bytes of the current message. The last owner may
  // release them on any thread. Only within Stream::OnMessage, at most once per message; the
  // stream's thread.
  virtual std::shared_ptr<const void> KeepMessage() = 0;

  // Bytes of responses that the client has not taken yet. The stream's thread.
  virtual size_t unsent_bytes() const { return 0; }

  // Facts of the RPC. The views live as long as the stream. Any thread.
  // "ipv4:10.0.0.7:41312", "ipv6:[::1]:41312" or "unix:/path".
  virtual std::string_view peer() const = 0;
  // "secure" or "plaintext".
  virtual std::string_view listener() const = 0;
  // See CALLOUT_PEER_IDENTITY; empty without a client certificate.
  virtual std::string_view peer_identity() const = 0;
  // The `index`th value of request metadata `key`; false past the last.
  virtual bool GetMetadata(std::string_view key, uint32_t index, std::string_view* value) const = 0;
  // The `index`th entry of all request metadata; false past the last.
  virtual bool GetMetadataAt(uint32_t index, std::string_view* key, std::string_view* value) const {
    static_cast<void>(index), static_cast<void>(key), static_cast<void>(value);
    return false;  // a transport without metadata
  }

 protected:
  ~RpcContext() = default;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_RPC_CONTEXT_H_
