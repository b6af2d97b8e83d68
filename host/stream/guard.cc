// SPDX-License-Identifier: Apache-2.0

#include "host/stream/guard.h"

#include <fmt/format.h>

#include <array>
#include <cstring>

#include "host/base/ascii.h"
#include "host/base/log.h"
#include "host/wire/annotations.h"
#include "host/wire/mutation.h"
#include "host/wire/wire.h"

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

// Whether each of 8 bytes is 0x20 to 0x7e, as nearly all of values are.
bool ArePrintable(uint64_t bytes) {
  constexpr uint64_t kOnes = 0x0101010101010101;
  constexpr uint64_t kHigh = 0x80 * kOnes;
  // 0x20 to 0x7f and below 0x7f, byte by byte: no sum or difference reaches into the next one.
  const uint64_t low = bytes & ~kHigh;
  const bool ascii = (bytes & kHigh) == 0;
  const bool no_control = ((low + 0x60 * kOnes) & kHigh) == kHigh;
  const bool no_delete = ((low + kOnes) & kHigh) == 0;
  return ascii && no_control && no_delete;
}

bool IsLegalValue(std::string_view value) {
  uint64_t bytes;
  while (value.size() >= sizeof(bytes)) {
    std::memcpy(&bytes, value.data(), sizeof(bytes));
    if (!ArePrintable(bytes)) break;
    value.remove_prefix(sizeof(bytes));
  }
  return AllIn(kValueCharacters, value);
}

bool IsLegalName(std::string_view name) {
  if (!name.empty() && name.front() == ':') name.remove_prefix(1);
  return !name.empty() && AllIn(kTokenCharacters, name);
}

// The first byte that may not be there, as "0x0a".
std::string FirstIllegal(const CharacterSet& set, std::string_view text) {
  for (const char c : text) {
    if (!set[static_cast<unsigned char>(c)]) {
      return fmt::format("0x{:02x}", static_cast<unsigned char>(c));
    }
  }
  return "none";
}

// Names are the plugin's, or copied from what a client has sent: cut for the log.
std::string Quoted(std::string_view name) {
  constexpr size_t kShownMax = 64;
  return EscapeControls(name.substr(0, kShownMax));
}

Finding IllegalName(std::string_view name) {
  if (name.empty() || name == ":") {
    return {Violation::kIllegalHeader, "a header without a name"};
  }
  return {Violation::kIllegalHeader,
          fmt::format("the byte {} in the header name '{}'",
                      FirstIllegal(kTokenCharacters, name.substr(name.front() == ':' ? 1 : 0)),
                      Quoted(name))};
}

Finding TooManyEntries(std::string_view list, size_t count) {
  return {Violation::kIllegalHeader, fmt::format("{} entries in {}, Envoy's limit is {}", count,
                                                 list, kHeaderMutationEntriesMax)};
}

// The body mutation against the body mode: streamed_response belongs to body
// answers in FULL_DUPLEX_STREAMED and to nothing else.
Finding CheckBody(const Situation& situation, const ResponseView& view) {
  const bool may_stream =
      IsBodyPhase(situation.phase) && situation.body_mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED;
  if (view.body_mutation == ResponseView::Body::kStreamed && !may_stream) {
    return {Violation::kIllegalBody,
            "streamed_response, which belongs to bodies in FULL_DUPLEX_STREAMED"};
  }
  return {};
}

// A streamed local reply takes the place of the upstream: only as the answer to
// request headers, and not where Envoy holds a body for the answer.
Finding CheckStreamedImmediate(const Situation& situation) {
  const bool mode_allows = situation.body_mode == CALLOUT_BODY_NONE ||
                           situation.body_mode == CALLOUT_BODY_FULL_DUPLEX_STREAMED;
  if (situation.phase == CALLOUT_REQUEST_HEADERS && mode_allows) return {};
  return {Violation::kWrongType,
          "streamed_immediate_response, which belongs to request headers in the body modes NONE "
          "and FULL_DUPLEX_STREAMED"};
}

}  // namespace

Finding CheckMutation(const HeaderMutationView& mutation) {
  if (mutation.set.size() > kHeaderMutationEntriesMax) {
    return TooManyEntries("set_headers", mutation.set.size());
  }
  if (mutation.remove.size() > kHeaderMutationEntriesMax) {
    return TooManyEntries("remove_headers", mutation.remove.size());
  }
  for (const HeaderSet& header : mutation.set) {
    if (!IsLegalName(header.key)) return IllegalName(header.key);
    if (!IsLegalValue(header.value)) {
      return {Violation::kIllegalHeader,
              fmt::format("the byte {} in the value of header '{}'",
                          FirstIllegal(kValueCharacters, header.value), Quoted(header.key))};
    }
  }
  for (std::string_view name : mutation.remove) {
    if (!IsLegalName(name)) return IllegalName(name);
  }
  return {};
}

Finding CheckMetadataStruct(std::string_view payload) {
  if (!StructHasControls(payload)) return {};
  return {Violation::kIllegalHeader,
          "CR, LF or NUL in dynamic metadata, which Envoy writes as it is into a header that its "
          "configuration makes of it; where it makes none, --metadata_controls=pass lets it pass"};
}

Finding CheckMetadata(std::string_view records, callout_field_t number) {
  WireReader reader(records);
  while (reader.Next()) {
    if (!reader.Is(number)) continue;
    if (Finding found = CheckMetadataStruct(reader.bytes()); !found.ok()) return found;
  }
  return {};
}

uint32_t FindIgnored(callout_phase_t phase, const ResponseView& view) {
  const auto bit = [](Overruled overruled) { return 1u << static_cast<unsigned>(overruled); };
  uint32_t ignored = 0;
  if (view.clear_route_cache && (!view.headers.present || !IsRequestPhase(phase))) {
    ignored |= bit(Overruled::kRouteCache);
  }
  if (IsHeadersPhase(phase) && !view.continue_and_replace &&
      view.body_mutation != ResponseView::Body::kUnchanged) {
    ignored |= bit(Overruled::kHeadersBody);
  }
  for (const HeaderSet& header : view.headers.set) {
    if (header.only_value) ignored |= bit(Overruled::kHeaderValue);
    if (header.other_action) ignored |= bit(Overruled::kAppendAction);
  }
  for (std::string_view name : view.headers.remove) {
    if (name.front() == ':' || EqualsIgnoreCase(name, "host")) {
      ignored |= bit(Overruled::kHeaderRemoval);
    }
  }
  return ignored;
}

Finding CheckHeaderLimits(std::string_view message, const HeaderMutationView& mutation,
                          size_t header_count_max, size_t header_bytes_max) {
  constexpr int kHeaderFieldsTooLarge = 431;
  if (mutation.set.empty()) return {};
  const HeaderSize before = MeasureHeaders(message);
  const HeaderSize after = MeasureHeaders(ApplyHeaderMutation(message, mutation));
  if (after.count > header_count_max && before.count <= header_count_max) {
    return {Violation::kIllegalHeader,
            fmt::format("{} headers, limit --max_header_count={}", after.count, header_count_max),
            kHeaderFieldsTooLarge, true, IsMostlyOfMessage(before.count, header_count_max)};
  }
  if (after.bytes > header_bytes_max && before.bytes <= header_bytes_max) {
    return {Violation::kIllegalHeader,
            fmt::format("{} bytes of headers, limit --max_header_bytes={}", after.bytes,
                        header_bytes_max),
            kHeaderFieldsTooLarge, true, IsMostlyOfMessage(before.bytes, header_bytes_max)};
  }
  return {};
}

Finding CheckResponse(const Situation& situation, callout_field_t field, const ResponseView& view) {
  if (Finding found = CheckMutation(view.headers); !found.ok()) return found;
  if (field == CALLOUT_IMMEDIATE_RESPONSE) return {};
  if (field == CALLOUT_STREAMED_IMMEDIATE_RESPONSE) return CheckStreamedImmediate(situation);
  if (field != ResponseField(situation.phase)) {
    return {Violation::kWrongType, fmt::format("field {} of ProcessingResponse, expected {}", field,
                                               ResponseField(situation.phase))};
  }
  return CheckBody(situation, view);
}

}  // namespace callout::host
