// SPDX-License-Identifier: Apache-2.0

#include "host/stream/chain_response.h"

#include <array>
#include <utility>

#include "host/base/ascii.h"
#include "host/base/spare_bytes.h"
#include "host/stream/guard.h"
#include "host/wire/envelope.h"
#include "host/wire/field_numbers.h"
#include "host/wire/wire.h"

namespace callout::host {

namespace {

bool IsHeadersResponse(callout_field_t field) {
  return field == CALLOUT_REQUEST_HEADERS_RESPONSE || field == CALLOUT_RESPONSE_HEADERS_RESPONSE;
}

bool IsTrailersResponse(callout_field_t field) {
  return field == CALLOUT_REQUEST_TRAILERS_RESPONSE || field == CALLOUT_RESPONSE_TRAILERS_RESPONSE;
}

using Common = field::CommonResponse;

// Each response has its content in the same field: HeadersResponse and BodyResponse a
// CommonResponse, TrailersResponse a HeaderMutation.
constexpr uint32_t kContent = field::HeadersResponse::kResponse;
static_assert(kContent == field::BodyResponse::kResponse &&
              kContent == field::TrailersResponse::kHeaderMutation);

// CommonResponse.ResponseStatus
constexpr uint64_t kContinueAndReplace = 1;

// Keeps the records of a response that Merge does not understand.
void CollectRest(const Response& response, std::string* common_rest, std::string* rest) {
  WireReader outer(response.payload());
  while (outer.Next()) {
    if (!outer.Is(kContent)) {
      rest->append(outer.record());
      continue;
    }
    if (IsTrailersResponse(response.field)) continue;
    WireReader common(outer.bytes());
    while (common.Next()) {
      const uint32_t number = common.number();
      const bool known = number == Common::kStatus || number == Common::kHeaderMutation ||
                         number == Common::kBodyMutation || number == Common::kClearRouteCache;
      if (!known) common_rest->append(common.record());
    }
  }
}

ResponseView ViewOf(const Response& response) {
  ResponseView view;
  ReadResponse(response.field, response.payload(), &view);
  return view;
}

bool Mentions(const HeaderMutationView& mutation, std::string_view name) {
  for (const HeaderSet& header : mutation.set) {
    if (EqualsIgnoreCase(header.key, name)) return true;
  }
  for (std::string_view removed : mutation.remove) {
    if (EqualsIgnoreCase(removed, name)) return true;
  }
  return false;
}

}  // namespace

bool ChainResponse::continue_and_replace() const {
  if (merged_ != nullptr) return merged_->continue_and_replace;
  return single_ != nullptr && continue_and_replace_;
}

ResponseView::Body ChainResponse::body_mutation() const {
  if (merged_ != nullptr) return merged_->body_mutation;
  return single_ == nullptr ? ResponseView::Body::kUnchanged : body_mutation_;
}

std::string_view ChainResponse::body() const {
  if (merged_ != nullptr) return merged_->body;
  return single_ == nullptr ? std::string_view() : body_;
}

bool ChainResponse::IsStreamedBody(bool end_of_stream) const {
  return single_ != nullptr && body_mutation_ == ResponseView::Body::kStreamed &&
         end_of_stream_ == end_of_stream;
}

bool ChainResponse::MentionsHeader(std::string_view name) const {
  if (merged_ != nullptr) return merged_->headers.Mentions(name);
  return single_ != nullptr && Mentions(ViewOf(*single_).headers, name);
}

std::string ChainResponse::HeaderMutation() const {
  if (merged_ != nullptr) return merged_->headers.Write();
  MergedHeaders headers;
  if (single_ != nullptr) headers.Add(ViewOf(*single_).headers);
  return headers.Write();
}

bool ChainResponse::Add(Response* response, const ResponseView& view) {
  if (empty()) {
    single_ = response;
    continue_and_replace_ = view.continue_and_replace;
    end_of_stream_ = view.end_of_stream;
    body_mutation_ = view.body_mutation;
    body_ = view.body;
    entries_ = {view.headers.set.size(), view.headers.remove.size()};
    return true;
  }
  Expand();
  if (!HasRoomFor(view.headers)) return false;
  Merge(*response, view);
  return true;
}

bool ChainResponse::HasRoomFor(const HeaderMutationView& mutation) const {
  const size_t added = mutation.set.size() + mutation.remove.size();
  if (merged_->headers.entries().longer() + added <= kHeaderMutationEntriesMax) return true;
  // Some may replace others.
  MergedHeaders headers = merged_->headers;
  headers.Add(mutation);
  return headers.entries().longer() <= kHeaderMutationEntriesMax;
}

void ChainResponse::PutUnder(const HeaderMutationView& mutation, const MergedHeaders& later) {
  Expand();
  merged_->headers.AddUnder(mutation, later);
}

bool ChainResponse::AddHeaders(const HeaderMutationView& mutation, bool clear_route_cache) {
  Expand();
  if (!HasRoomFor(mutation)) return false;
  merged_->has_headers = merged_->has_headers || mutation.present;
  merged_->headers.Add(mutation);
  merged_->clear_route_cache = merged_->clear_route_cache || clear_route_cache;
  return true;
}

void ChainResponse::Continue() {
  Expand();
  merged_->continue_and_replace = false;
}

void ChainResponse::RemoveHeader(std::string_view name) {
  HeaderMutationView mutation;
  mutation.present = true;
  mutation.remove.push_back(name);
  Expand();
  merged_->has_headers = true;
  merged_->headers.Add(mutation);
}

void ChainResponse::DropHeaders() {
  Expand();
  merged_->headers = MergedHeaders();
  merged_->has_headers = false;
}

void ChainResponse::Own() {
  if (merged_ != nullptr) {
    if (merged_->body.data() == merged_->owned_body.data()) return;
    std::string body(merged_->body);
    merged_->owned_body.swap(body);
    merged_->body = merged_->owned_body;
  } else if (single_ != nullptr && single_ != &owned_) {
    owned_ = std::move(*single_);
    single_ = &owned_;
    body_ = ViewOf(owned_).body;
  }
}

void ChainResponse::SetBody(ResponseView::Body mutation, std::string_view body) {
  Expand();
  merged_->body_mutation = mutation;
  merged_->body = body;
}

void ChainResponse::ReplaceBody(std::string body) {
  Expand();
  merged_->body_mutation = ResponseView::Body::kReplaced;
  merged_->owned_body = std::move(body);
  merged_->body = merged_->owned_body;
}

void ChainResponse::Expand() {
  if (merged_ != nullptr) return;
  merged_ = std::make_unique<MergedResponse>();
  if (single_ != nullptr) {
    // The view of the body stays valid: it points into the instance's response, or into owned_.
    Merge(*single_, ViewOf(*single_));
  }
  single_ = nullptr;
}

void ChainResponse::Merge(const Response& response, const ResponseView& view) {
  // Envoy reads the body of a headers response only if it replaces the message.
  const bool body_counts = !IsHeadersResponse(response.field) || view.continue_and_replace;
  if (body_counts && view.body_mutation != ResponseView::Body::kUnchanged) {
    merged_->body_mutation = view.body_mutation;
    merged_->body = view.body;
    // What an earlier instance has set with its body describes that one.
    for (const std::string_view name : {"content-length", "content-encoding"}) {
      if (!Mentions(view.headers, name)) merged_->headers.DropSet(name);
    }
  }
  merged_->has_headers = merged_->has_headers || view.headers.present;
  merged_->headers.Add(view.headers);
  merged_->continue_and_replace = merged_->continue_and_replace || view.continue_and_replace;
  merged_->clear_route_cache = merged_->clear_route_cache || view.clear_route_cache;
  if (view.may_have_rest) CollectRest(response, &merged_->common_rest, &merged_->rest);
}

// Of a CommonResponse, what stands before and after the bytes of its body.
void ChainResponse::WriteCommon(std::string* before, std::string* after) const {
  if (merged_->continue_and_replace) AppendVarint(Common::kStatus, kContinueAndReplace, before);
  // An empty mutation is sent where there was one: with it Envoy obeys
  // clear_route_cache.
  if (merged_->has_headers) {
    const size_t begin = before->size();
    merged_->headers.AppendTo(before);
    std::string head;
    AppendBytesHead(Common::kHeaderMutation, before->size() - begin, &head);
    before->insert(begin, head);
  }
  switch (merged_->body_mutation) {
    case ResponseView::Body::kUnchanged:
      break;
    case ResponseView::Body::kReplaced:
    case ResponseView::Body::kStreamed:  // put into its form by the body mode later
      AppendBytesHead(Common::kBodyMutation,
                      BytesSize(field::BodyMutation::kBody, merged_->body.size()), before);
      AppendBytesHead(field::BodyMutation::kBody, merged_->body.size(), before);
      break;
    case ResponseView::Body::kCleared:
      AppendBytesHead(Common::kBodyMutation, 2, before);
      AppendVarint(field::BodyMutation::kClearBody, 1, before);
      break;
  }
  if (merged_->clear_route_cache) AppendVarint(Common::kClearRouteCache, 1, after);
  after->append(merged_->common_rest);
}

// In one piece: a body is copied once.
void ChainResponse::WriteMerged(callout_field_t field, Response* out) const {
  std::string before;
  TakeSpareBytes(&before);
  std::string_view body;
  std::string after;
  std::string head;
  const bool is_trailers = IsTrailersResponse(field);
  const bool has_content = !is_trailers || merged_->has_headers;
  if (is_trailers) {
    if (has_content) merged_->headers.AppendTo(&before);
  } else {
    WriteCommon(&before, &after);
    const bool has_body = merged_->body_mutation == ResponseView::Body::kReplaced ||
                          merged_->body_mutation == ResponseView::Body::kStreamed;
    if (has_body) body = merged_->body;
  }
  const size_t content = before.size() + body.size() + after.size();
  if (has_content) AppendBytesHead(kContent, content, &head);
  const std::array<callout_bytes_t, 5> parts = {ToBytes(head), ToBytes(before), ToBytes(body),
                                                ToBytes(after), ToBytes(merged_->rest)};
  BuildRecord(field, parts.data(), parts.size(), head.size() + content + merged_->rest.size(), out);
  KeepSpareBytes(&before);
}

Response ChainResponse::Take(callout_field_t field) {
  Response out;
  if (merged_ != nullptr) {
    WriteMerged(field, &out);
  } else if (single_ != nullptr) {
    out = std::move(*single_);
  } else {
    BuildRecord(field, std::string_view(), &out);
  }
  Clear();
  return out;
}

void ChainResponse::Clear() {
  single_ = nullptr;
  merged_.reset();
  if (owned_.field != 0) owned_ = Response();
}

}  // namespace callout::host
