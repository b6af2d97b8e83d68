#include "host/stream/guard.h"

#include <array>

namespace callout::host {

namespace {

using CharacterSet = std::array<bool, 256>;

// Characters of a header name that Envoy's codecs let through (RFC 9110 token).
constexpr CharacterSet kTokenCharacters = [] {
  CharacterSet set{};
  for (const std::string_view characters :
       {"abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789",
        "!#$%&'*+-.^_`|~"}) {
    for (const char c : characters) set[static_cast<unsigned char>(c)] = true;
  }
  return set;
}();

constexpr CharacterSet kValueCharacters = [] {
  CharacterSet set{};
  for (size_t c = 0; c < set.size(); ++c) set[c] = (c >= 0x20 || c == '\t') && c != 0x7f;
  return set;
}();

// All of them are looked at, which is faster than to look for the first that is not.
bool AllIn(const CharacterSet& set, std::string_view text) {
  bool all = true;
  for (const char c : text) all &= set[static_cast<unsigned char>(c)];
  return all;
}

bool IsLegalName(std::string_view name) {
  if (!name.empty() && name.front() == ':') name.remove_prefix(1);
  return !name.empty() && AllIn(kTokenCharacters, name);
}

// The body mutation against the body mode: streamed_response belongs to body
// answers in FULL_DUPLEX_STREAMED and to nothing else.
Violation CheckBody(const Situation& situation, const ResponseView& view) {
  const bool may_stream =
      IsBodyPhase(situation.phase) && situation.body_mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED;
  if (view.body_mutation == ResponseView::Body::kStreamed && !may_stream) {
    return Violation::kIllegalBody;
  }
  return Violation::kNone;
}

// A streamed local reply takes the place of the upstream: only as the answer to
// request headers, and not where Envoy holds a body for the answer.
Violation CheckStreamedImmediate(const Situation& situation) {
  const bool mode_allows = situation.body_mode == CALLOUT_BODY_NONE ||
                           situation.body_mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED;
  return situation.phase == CALLOUT_REQUEST_HEADERS && mode_allows ? Violation::kNone
                                                                   : Violation::kWrongType;
}

}  // namespace

bool IsLegalMutation(const HeaderMutationView& mutation) {
  if (mutation.set.size() > kHeaderMutationEntriesMax ||
      mutation.remove.size() > kHeaderMutationEntriesMax) {
    return false;
  }
  for (const HeaderSet& header : mutation.set) {
    if (!IsLegalName(header.key) || !AllIn(kValueCharacters, header.value)) return false;
  }
  for (std::string_view name : mutation.remove) {
    if (!IsLegalName(name)) return false;
  }
  return true;
}

Violation CheckResponse(const Situation& situation, callout_field_t field,
                        const ResponseView& view) {
  if (!IsLegalMutation(view.headers)) return Violation::kIllegalHeader;
  if (field == CALLOUT_IMMEDIATE_RESPONSE) return Violation::kNone;
  if (field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE) return CheckStreamedImmediate(situation);
  if (field != ResponseField(situation.phase)) return Violation::kWrongType;
  return CheckBody(situation, view);
}

}  // namespace callout::host
