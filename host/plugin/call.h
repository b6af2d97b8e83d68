// SPDX-License-Identifier: Apache-2.0

// One call: a message of a stream on its way through a hook of one instance.
//
// A CallState belongs to one instance's part of one stream and is used again for that
// stream's next call. The plugin sees its slot only, which is another one for each call.
// While a hook runs, or a deferred call is worked on, the plugin's side (services.cc)
// writes the members marked [plugin]; the stream reads them only after the handshake
// has told it that the call is finished, so no lock is needed.
//
// Tested by tests/host/stream/deferral_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_CALL_H_
#define CALLOUT_HOST_PLUGIN_CALL_H_

#include <callout/plugin.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "host/plugin/call_observer.h"
#include "host/plugin/call_slot.h"
#include "host/wire/envelope.h"

namespace callout::host {

struct ChainMessage;
class Instance;
class RpcContext;

// Why a response cannot be used, beyond what the guard finds when it reads the response. These
// names are also those of the metric.
enum class ResponseFault : uint8_t { kNone, kSecondResponse, kMalformed, kTooLarge };

// Whether what a call has said refuses the request (host/wire/refusal.h).
enum class Refusal : uint8_t {
  kNone,
  kBegun,   // by a reply in pieces, which may go on
  kStands,  // taken or not: nothing that comes after it counts
};

struct CallState {
  CallSlot* slot = nullptr;  // of the call in progress; null: none is
  Instance* instance = nullptr;
  RpcContext* rpc = nullptr;
  const std::atomic<bool>* cancelled = nullptr;  // of the stream
  uint64_t stream_id = 0;
  size_t part = 0;                  // the instance's place in the stream
  ChainMessage* message = nullptr;  // that waits for this call; null: none does
  bool at_work = false;             // deferred or on a blocking thread, and not finished yet
  bool late = false;                // the policy has answered; what comes is ignored
  bool opens = false;               // dispatched before the instance's part was open
  void* stream_then = nullptr;      // call.stream when the phase's hook was called
  char stream_id_text[21] = {};     // [plugin] decimal, made when asked for
  const char* misuse = nullptr;     // [plugin] the answer it tried to give at open
  uint64_t instance_ns = 0;         // in hooks and deferred, summed over all calls
  uint64_t hook_end_ns = 0;         // when the phase's hook returned
  uint64_t begin_ns = 0;            // of the call; CallRecord has these two
  uint64_t hook_ns = 0;
  CallResult result;                           // by the stream
  bool told = false;                           // its end was counted, and told to the observers
  RpcObservers* observers = nullptr;           // of the RPC; null: nobody watches it
  callout_status_t status = 0;                 // that settles the call
  Response response;                           // [plugin]
  ResponseFault fault = ResponseFault::kNone;  // [plugin]
  bool fault_is_of_respond = false;            // [plugin] the next respond() clears it
  // [plugin] The stream reads it at the deadline, when the plugin still has the call.
  std::atomic<Refusal> refusal{Refusal::kNone};
  std::string annotations;                 // [plugin] records beside the response
  size_t whole_begin = 0, whole_size = 0;  // [plugin] those of them from respond()
  std::string error;                       // [plugin] set_error's text
  // [plugin] from override_message_timeout; used when the call is deferred.
  std::atomic<uint64_t> timeout_ms{0};
  // Bytes that send() may queue before the client takes them.
  size_t sent_bytes_max = SIZE_MAX;
  std::atomic<size_t> unsent_bytes{0};  // taken by the stream and not written yet
  // [plugin] The stream is to count those again, which it has not done yet.
  std::atomic<bool> recount_asked{false};
  std::mutex sent_mutex;
  std::vector<Response> sent;  // responses ahead of the last one, under sent_mutex
  size_t sent_bytes = 0;       // of `sent`
  // False while `sent` is empty, so that most calls take no lock.
  std::atomic<bool> has_sent{false};
  // Of a call at work: keeps what its plugin may still read, whatever the stream does meanwhile.
  std::vector<std::shared_ptr<const void>> retained;

  CallHandshake& handshake() const { return slot->handshake; }
  bool refuses() const { return refusal.load(std::memory_order_relaxed) != Refusal::kNone; }

  void Begin(uint64_t now_ns) {
    status = CALLOUT_OK;
    begin_ns = now_ns;
    hook_ns = hook_end_ns = 0;
    result = {};
    told = false;
    response.Clear();
    misuse = nullptr;
    fault = ResponseFault::kNone;
    fault_is_of_respond = false;
    refusal.store(Refusal::kNone, std::memory_order_relaxed);
    annotations.clear();
    whole_begin = whole_size = 0;
    error.clear();
    timeout_ms.store(0, std::memory_order_relaxed);
    sent.clear();
    sent_bytes = 0;
  }
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_CALL_H_
