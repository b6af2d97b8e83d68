// SPDX-License-Identifier: Apache-2.0

// What the instances of a chain have answered to one message, made into the one
// answer that has the effect of all.
//
// The answer of a single instance goes out as it is, unknown fields and all. Only
// when a second one answers are they merged: header mutations by their net effect
// (host/wire/mutation.h), the last body, clear_route_cache if anyone wants it, and
// every unknown field.
//
// Views point into the instances' own answers, which stay where they are while the
// message moves; one that has to wait takes them along (Own). Not thread-safe; a
// part of Stream.
//
// Tested by tests/host/plugin/chain_test.cc.
#ifndef CALLOUT_HOST_STREAM_CHAIN_RESPONSE_H_
#define CALLOUT_HOST_STREAM_CHAIN_RESPONSE_H_

#include <callout/plugin.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "host/plugin/call.h"
#include "host/wire/mutation.h"
#include "host/wire/response.h"

namespace callout::host {

// Several answers in one.
struct MergedResponse {
  MergedHeaders headers;
  bool has_headers = false;
  bool continue_and_replace = false;
  bool clear_route_cache = false;
  ResponseView::Body body_mutation = ResponseView::Body::kUnchanged;
  std::string_view body;
  std::string owned_body;   // of a message that waits
  std::string common_rest;  // unknown records of CommonResponse
  std::string rest;         // and of what is around it
};

class ChainResponse {
 public:
  // No instance has answered yet.
  bool empty() const { return single_ == nullptr && merged_ == nullptr; }
  bool continue_and_replace() const;
  // The body that goes out so far, of a body answer or CONTINUE_AND_REPLACE.
  ResponseView::Body body_mutation() const;
  std::string_view body() const;
  // True if the answer sets or removes a header of this name.
  bool MentionsHeader(std::string_view name) const;
  // The header mutation that goes out so far, as a HeaderMutation payload.
  std::string HeaderMutation() const;
  // Of that mutation.
  HeaderEntries entries() const {
    if (merged_ != nullptr) return merged_->headers.entries();
    return single_ == nullptr ? HeaderEntries() : entries_;
  }
  // It is that of a single instance, unchanged: a streamed body that ends, or does
  // not, as `end_of_stream` says.
  bool IsStreamedBody(bool end_of_stream) const;

  // Adds an answer, read into `view`. It stays where it is until Clear(). False,
  // with nothing added, if the merged header mutation would have more entries
  // than Envoy takes.
  bool Add(Response* response, const ResponseView& view);
  // Puts what `later` did to the headers of `mutation` over it: header answers of
  // later instances, in a body answer that Envoy applies to headers it still holds.
  void PutUnder(const HeaderMutationView& mutation, const MergedHeaders& later);
  // Adds a header mutation of an instance's body call to a header answer that is held
  // for it, whatever else that call says. False, with nothing added: as for Add.
  bool AddHeaders(const HeaderMutationView& mutation, bool clear_route_cache);
  // Takes CONTINUE_AND_REPLACE for CONTINUE.
  void Continue();
  // Removes a header, over what the instances did.
  void RemoveHeader(std::string_view name);
  // Leaves every header mutation out.
  void DropHeaders();
  // Takes what the views point to along, for the instances will be called again.
  void Own();
  // Gives the message another body than the instances so far have.
  void SetBody(ResponseView::Body mutation, std::string_view body);
  void ReplaceBody(std::string body);

  // The record of `field` of ProcessingResponse; the answer is empty after it.
  Response Take(callout_field_t field);
  void Clear();

 private:
  // Turns what there is into a merged answer.
  void Expand();
  bool HasRoomFor(const HeaderMutationView& mutation) const;
  void Merge(const Response& response, const ResponseView& view);
  void WriteCommon(std::string* before, std::string* after) const;
  void WriteMerged(callout_field_t field, Response* out) const;

  // Most messages get one answer, and every stream carries this: what is asked of
  // a single answer is kept, and the rest read again if a second one comes.
  Response* single_ = nullptr;  // the only answer so far
  Response owned_;              // that, of a message that waits
  bool continue_and_replace_ = false;
  bool end_of_stream_ = false;
  ResponseView::Body body_mutation_ = ResponseView::Body::kUnchanged;
  std::string_view body_;
  HeaderEntries entries_;
  std::unique_ptr<MergedResponse> merged_;  // in place of single_
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_STREAM_CHAIN_RESPONSE_H_
