// SPDX-License-Identifier: Apache-2.0

// What a chain makes of its instances' answers to one Check: each instance is asked about the
// request as those before it left it, and one CheckResponse goes out that has the effect of
// as many ext_authz filters in a row.
//
//   CheckEffect effect(&request);
//   if (auto why = effect.Allow(ok)) fault(*why);
//   effect.AddMetadata(record); …
//   send(effect.WriteAllowed());   // or effect.WriteDenied(…)
//
// What Envoy 1.40 does with the parts, as seen: of a request's headers first all that are set,
// then all that are appended to (one that is not there is lost), then the removals; removals
// of "host" and of names that begin with ":" are ignored. Query parameters come after the
// headers, and Envoy compares their keys byte by byte with what the client wrote; so other
// ways to write a key that is set or removed are removed with it ("rol%65" with "role").
// Response headers go the other way: those of the last filter first.
// Here all is settled against the headers that the request has: what is appended to is there.
//
// Tested by tests/host/unary/check_codec_test.cc.
#ifndef CALLOUT_HOST_WIRE_CHECK_EFFECT_H_
#define CALLOUT_HOST_WIRE_CHECK_EFFECT_H_

#include <cstddef>
#include <cstdint>
#include <forward_list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "host/base/heap_bytes.h"
#include "host/wire/check_request.h"
#include "host/wire/check_response.h"

namespace callout::host {

// A copy shares the texts with the original: both may be changed, on one thread.
class CheckEffect {
 public:
  // `request` and its bytes outlive it.
  explicit CheckEffect(const CheckRequestView* request);

  // Lets the request pass with these changes. Text: they cannot be said in one CheckResponse
  // together with those before; nothing is taken then.
  std::optional<std::string> Allow(const CheckResponseView& ok);
  // Records of CheckResponse: dynamic_metadata.
  void AddMetadata(std::string_view records);

  // The request's headers as they are now.
  const CheckHeaders& headers() const { return headers_; }
  // Something of the request has been changed, so that the next instance sees another one.
  bool changes_request() const { return changes_request_; }

  // The CheckResponse. `code` is google.rpc's, not 0. A denial has the response headers of the
  // instances that had let the request pass: Envoy runs a denial through their filters.
  std::string WriteAllowed() const;
  std::string WriteDenied(const CheckResponseView& denied, int32_t code,
                          std::string_view why) const;
  // The service has failed: error_response.
  std::string WriteError(const CheckResponseView& error, std::string_view why) const;

  // The request's path with its query, as changed until now.
  std::string_view path() const;
  // What it takes in memory beside itself and the request.
  size_t kept_bytes() const {
    return text_bytes_ + HeapBytes(headers_) + HeapBytes(changes_) + metadata_.capacity();
  }

 private:
  // What is done to one header of the request.
  struct Change {
    enum class Kind : uint8_t { kSet, kAppend, kRemove };
    std::string_view name;
    Kind kind = Kind::kSet;
    std::string_view value;
  };
  struct QueryChange {
    std::string key;
    std::optional<std::string> value;  // none: removed
  };
  // What is done to one header of the response: to one that the upstream has sent, and
  // where it has sent none.
  struct ResponseChange {
    std::string name;
    bool keeps = true;                // what the upstream has sent stays
    std::vector<std::string> exists;  // and after it comes this
    std::vector<std::string> absent;
  };
  using ResponseChanges = std::vector<ResponseChange>;

  // The text, for as long as the effect exists or a copy of it does.
  std::string_view Keep(std::string text);
  bool Exists(std::string_view name) const;
  void Apply(const CheckHeaderOption& option);
  // These take texts that are kept.
  void Set(std::string_view name, std::string_view value);
  void Append(std::string_view name, std::string_view value);
  void Remove(std::string_view name);
  Change& ChangeOf(std::string_view name);
  void ChangeQuery(std::string_view key, std::optional<std::string> value);
  void RemoveOtherSpellings(const CheckResponseView& ok, std::vector<QueryChange>* changes);
  void ShowQuery(const std::vector<QueryChange>& changes);
  ResponseChanges FoldResponse() const;
  void AppendResponseHeaders(std::string* ok) const;
  std::string WriteRefusal(const CheckResponseView& refusal) const;

  std::string_view path_;  // of a request whose headers do not have it
  std::shared_ptr<std::forward_list<std::string>> texts_;  // those that are not the request's
  size_t text_bytes_ = 0;
  CheckHeaders headers_;
  bool changes_request_ = false;
  std::vector<Change> changes_;
  std::vector<QueryChange> query_;
  std::set<std::string> other_spellings_;  // of keys in `query_`, as the client wrote them
  // Of each instance, in the order in which they were asked.
  std::vector<std::vector<std::pair<CheckHeader, HeaderAction>>> response_headers_;
  std::string metadata_;  // a Struct
  bool has_metadata_ = false;
};

// An entry of a list that is one header's value: "a,b", or "a; b" for cookies.
std::string JoinHeaderValues(std::string_view name, std::string_view before,
                             std::string_view after);

}  // namespace callout::host

#endif  // CALLOUT_HOST_WIRE_CHECK_EFFECT_H_
