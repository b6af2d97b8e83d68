// SPDX-License-Identifier: Apache-2.0

// callout/rate_limit.hpp - rate limits in C++: the call that a rate limit hook is given. Include
// <callout/plugin.hpp>.
//
//     CALLOUT_ON_RATE_LIMIT(call) {
//       for (const callout::Descriptor& descriptor : call.descriptors()) {
//         const auto user = descriptor.get("user");
//         if (user && !take(*user, descriptor.hits())) return call.over_limit("slow down");
//       }
//     }
//
// A hook that says nothing lets the request pass. over_limit() stands, whatever comes after it.
// What Envoy would pass on unchecked (CR and LF in a header) makes the call a fault: see
// callout_on_rate_limit.
#ifndef CALLOUT_RATE_LIMIT_HPP_
#define CALLOUT_RATE_LIMIT_HPP_

#include <callout/rate_limit.h>

#include <callout/call.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace callout {

namespace internal {

// What a rate limit hook has said so far.
class RateLimitState : public HookState {
 public:
  explicit RateLimitState(callout_call_t* raw_call) : HookState(raw_call) {
    callout_rate_limit_within(&answer);
  }
  RateLimitState(RateLimitState&& other) noexcept
      : HookState(std::move(other)), answer(other.answer) {
    callout_rate_limit_within(&other.answer);
  }
  ~RateLimitState() { callout_rate_limit_free(&answer); }
  RateLimitState& operator=(RateLimitState&&) = delete;

  // Hands the answer to the host, if there is one; what the hook is to return. A request that was
  // said to be over its limit is, whatever fails then: the host is told before.
  callout_status_t settle() noexcept {
    if (call == nullptr) return settle_deferred();
    if (answer.over_limit) return settle_refusal(callout_rate_limit_respond(&answer, call));
    if (outcome != CALLOUT_OK) return settle_outcome();
    const bool says_nothing = callout_writer_status(&answer.writer) == CALLOUT_OK &&
                              callout_writer_bytes(&answer.writer).size == 0;
    return says_nothing ? callout_status_t{CALLOUT_OK} : callout_rate_limit_respond(&answer, call);
  }

  callout_rate_limit_answer_t answer;
};

struct EntryCursor {
  using Item = Header;
  callout_reader_t entries;
  bool next(Header* item) {
    callout_header_t entry;
    if (!callout_entries_next(&entries, &entry)) return false;
    *item = {to_view(entry.key), to_view(entry.value)};
    return true;
  }
};

}  // namespace internal

// So many hits per so many units of time.
struct LimitRate {
  uint32_t count = 0;
  callout_limit_unit_t unit = CALLOUT_PER_SECOND;
  uint32_t units = 1;
};

// The entries that together name a counter. The order is that of the filter's configuration.
class Descriptor {
 public:
  using Entries = internal::Range<internal::EntryCursor>;

  Descriptor() : raw_() {}
  explicit Descriptor(const callout_descriptor_t& raw) : raw_(raw) {}

  Entries entries() const { return Entries({callout_read(raw_.message)}); }
  // The first value of `key`.
  std::optional<std::string_view> get(std::string_view key) const {
    callout_bytes_t value;
    if (!callout_descriptor_get(&raw_, to_bytes(key), &value)) return std::nullopt;
    return to_view(value);
  }
  std::string_view get(std::string_view key, std::string_view otherwise) const {
    return get(key).value_or(otherwise);
  }
  // 0 asks without taking any.
  uint64_t hits() const { return raw_.hits; }
  // The hits are given back, not taken.
  bool gives_back() const { return raw_.gives_back != 0; }
  // The limit that the route gives in the place of the service's own.
  std::optional<LimitRate> limit() const {
    if (raw_.has_limit == 0) return std::nullopt;
    return LimitRate{raw_.limit_count, raw_.limit_unit, raw_.limit_units};
  }

 private:
  callout_descriptor_t raw_;
};

namespace internal {

struct DescriptorCursor {
  using Item = Descriptor;
  callout_descriptors_t descriptors;
  bool next(Descriptor* item) {
    callout_descriptor_t raw;
    if (!callout_descriptors_next(&descriptors, &raw)) return false;
    *item = Descriptor(raw);
    return true;
  }
};

}  // namespace internal

// What the client may know of one descriptor: Envoy makes x-ratelimit-* of it, if it is told to.
struct LimitStatus {
  bool over_limit = false;
  std::optional<LimitRate> rate;  // none: the descriptor has no limit
  std::string_view name;          // shown to the client; see callout_limit_status_t
  uint32_t remaining = 0;         // hits that are left
  uint32_t reset_seconds = 0;     // until there are all of them again
};

class RateLimitCall : public internal::CallFacts<RateLimitCall> {
 public:
  using State = internal::RateLimitState;
  using Descriptors = internal::Range<internal::DescriptorCursor>;
  explicit RateLimitCall(internal::RateLimitState* state) : state_(state) {}
  RateLimitCall(const RateLimitCall&) = delete;
  RateLimitCall& operator=(const RateLimitCall&) = delete;

  // --- What is asked ---

  // Which set of limits, by the filter's configuration.
  std::string_view domain() const { return to_view(callout_rate_limit_domain(raw())); }
  // The request is within its limits if it is within that of each.
  Descriptors descriptors() const { return Descriptors({callout_read_descriptors(raw())}); }

  // --- The answer ---

  // To leave the hook as well: return call.over_limit();
  void over_limit(std::string_view body = {}) const {
    callout_rate_limit_over(&state_->answer);
    if (!body.empty()) callout_rate_limit_set_body(&state_->answer, to_bytes(body));
  }
  // For none of the descriptors, or for each in their order. One over its limit: the request is.
  void add_status(const LimitStatus& status) const {
    callout_limit_status_t raw_status = {};
    raw_status.over_limit = status.over_limit;
    if (status.rate.has_value()) {
      raw_status.has_limit = 1;
      raw_status.name = to_bytes(status.name);
      raw_status.count = status.rate->count;
      raw_status.unit = status.rate->unit;
      raw_status.units = status.rate->units;
      raw_status.remaining = status.remaining;
      raw_status.reset_seconds = status.reset_seconds;
    }
    callout_rate_limit_add_status(&state_->answer, &raw_status);
  }
  // Adds a header to the response, whether the request passes or not.
  void add_response_header(std::string_view key, std::string_view value) const {
    callout_rate_limit_add_response_header(&state_->answer, to_bytes(key), to_bytes(value));
  }
  // Adds a header to a request that passes.
  void add_request_header(std::string_view key, std::string_view value) const {
    callout_rate_limit_add_request_header(&state_->answer, to_bytes(key), to_bytes(value));
  }
  // Ends the call as an error of the plugin: the operator's policy decides.
  void fail(std::string_view text, callout_status_t status = CALLOUT_INTERNAL) const {
    state_->fail(status, text);
  }
  // For later filters, under the name of Envoy's filter, whatever is decided.
  void set_metadata(const StructWriter& metadata) const {
    state_->set_metadata(CALLOUT_RATE_LIMIT_DYNAMIC_METADATA, metadata);
  }

  // The hook returns at once and the call goes on elsewhere; `*this` must not be used any
  // more.
  Deferred<RateLimitCall> defer() const { return Deferred<RateLimitCall>(state_); }

  callout_call_t* raw() const { return state_->call; }
  // For whoever extends this layer.
  internal::RateLimitState* state() const { return state_; }

 private:
  internal::RateLimitState* state_;
};

}  // namespace callout

#endif  // CALLOUT_RATE_LIMIT_HPP_
