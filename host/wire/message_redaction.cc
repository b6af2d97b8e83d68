// SPDX-License-Identifier: Apache-2.0

#include "host/wire/message_redaction.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <utility>

#include "host/wire/field_numbers.h"
#include "host/wire/wire.h"

namespace callout::host {
namespace {

// --- The layout of the messages: what each field is -------------------------------

enum class What : uint8_t {
  kText,       // may repeat a secret
  kBody,       // bytes of a body
  kHeader,     // HeaderValue
  kMessage,    // another message: `layout`
  kStruct,     // google.protobuf.Struct
  kStructMap,  // an entry of map<string, Struct>
  kAnyMap,     // an entry of map<string, Any>
};

struct Field;
struct Layout {
  const Field* fields;
  size_t count;
};
struct Field {
  uint32_t number;
  What what;
  const Layout* layout = nullptr;
};

template <size_t count>
constexpr Layout Of(const std::array<Field, count>& fields) {
  return {fields.data(), count};
}

// Messages of numbers, which are kept; a later version may have added something else.
constexpr Layout kNumbers = {nullptr, 0};

constexpr std::array kHeaderMapFields = {Field{field::HeaderMap::kHeaders, What::kHeader}};
constexpr Layout kHeaderMap = Of(kHeaderMapFields);

constexpr std::array kHttpHeadersFields = {
    Field{field::HttpHeaders::kHeaders, What::kMessage, &kHeaderMap},
    Field{field::HttpHeaders::kAttributes, What::kStructMap},
};
constexpr Layout kHttpHeaders = Of(kHttpHeadersFields);

constexpr std::array kHttpBodyFields = {Field{field::HttpBody::kBody, What::kBody}};
constexpr Layout kHttpBody = Of(kHttpBodyFields);

constexpr std::array kHttpTrailersFields = {
    Field{field::HttpTrailers::kTrailers, What::kMessage, &kHeaderMap}};
constexpr Layout kHttpTrailers = Of(kHttpTrailersFields);

constexpr std::array kMetadataFields = {
    Field{field::Metadata::kFilterMetadata, What::kStructMap},
    Field{field::Metadata::kTypedFilterMetadata, What::kAnyMap},
};
constexpr Layout kMetadata = Of(kMetadataFields);

constexpr std::array kRequestFields = {
    Field{field::ProcessingRequest::kRequestHeaders, What::kMessage, &kHttpHeaders},
    Field{field::ProcessingRequest::kResponseHeaders, What::kMessage, &kHttpHeaders},
    Field{field::ProcessingRequest::kRequestBody, What::kMessage, &kHttpBody},
    Field{field::ProcessingRequest::kResponseBody, What::kMessage, &kHttpBody},
    Field{field::ProcessingRequest::kRequestTrailers, What::kMessage, &kHttpTrailers},
    Field{field::ProcessingRequest::kResponseTrailers, What::kMessage, &kHttpTrailers},
    Field{field::ProcessingRequest::kMetadataContext, What::kMessage, &kMetadata},
    Field{field::ProcessingRequest::kAttributes, What::kStructMap},
    Field{field::ProcessingRequest::kProtocolConfig, What::kMessage, &kNumbers},
    Field{field::ProcessingRequest::kFlowControlInit, What::kMessage, &kNumbers},
    Field{field::ProcessingRequest::kClientWindowUpdate, What::kMessage, &kNumbers},
};
constexpr Layout kRequest = Of(kRequestFields);

constexpr std::array kHeaderValueOptionFields = {
    Field{field::HeaderValueOption::kHeader, What::kHeader},
    Field{field::HeaderValueOption::kAppend, What::kMessage, &kNumbers},
};
constexpr Layout kHeaderValueOption = Of(kHeaderValueOptionFields);

constexpr std::array kHeaderMutationFields = {
    Field{field::HeaderMutation::kSetHeaders, What::kMessage, &kHeaderValueOption},
    Field{field::HeaderMutation::kRemoveHeaders, What::kText},
};
constexpr Layout kHeaderMutation = Of(kHeaderMutationFields);

constexpr std::array kStreamedBodyFields = {Field{field::StreamedBodyResponse::kBody, What::kBody}};
constexpr Layout kStreamedBody = Of(kStreamedBodyFields);

constexpr std::array kBodyMutationFields = {
    Field{field::BodyMutation::kBody, What::kBody},
    Field{field::BodyMutation::kStreamedResponse, What::kMessage, &kStreamedBody},
};
constexpr Layout kBodyMutation = Of(kBodyMutationFields);

constexpr std::array kCommonResponseFields = {
    Field{field::CommonResponse::kHeaderMutation, What::kMessage, &kHeaderMutation},
    Field{field::CommonResponse::kBodyMutation, What::kMessage, &kBodyMutation},
    Field{field::CommonResponse::kTrailers, What::kMessage, &kHeaderMap},
};
constexpr Layout kCommonResponse = Of(kCommonResponseFields);

// Of headers and of bodies.
static_assert(field::HeadersResponse::kResponse == field::BodyResponse::kResponse);
constexpr std::array kCommonFields = {
    Field{field::HeadersResponse::kResponse, What::kMessage, &kCommonResponse}};
constexpr Layout kCommon = Of(kCommonFields);

constexpr std::array kTrailersResponseFields = {
    Field{field::TrailersResponse::kHeaderMutation, What::kMessage, &kHeaderMutation}};
constexpr Layout kTrailersResponse = Of(kTrailersResponseFields);

constexpr std::array kImmediateFields = {
    Field{field::ImmediateResponse::kStatus, What::kMessage, &kNumbers},
    Field{field::ImmediateResponse::kHeaders, What::kMessage, &kHeaderMutation},
    Field{field::ImmediateResponse::kBody, What::kBody},
    Field{field::ImmediateResponse::kGrpcStatus, What::kMessage, &kNumbers},
    Field{field::ImmediateResponse::kDetails, What::kText},
};
constexpr Layout kImmediate = Of(kImmediateFields);

constexpr std::array kStreamedImmediateFields = {
    Field{field::StreamedImmediateResponse::kHeadersResponse, What::kMessage, &kHttpHeaders},
    Field{field::StreamedImmediateResponse::kBodyResponse, What::kMessage, &kStreamedBody},
    Field{field::StreamedImmediateResponse::kTrailersResponse, What::kMessage, &kHeaderMap},
};
constexpr Layout kStreamedImmediate = Of(kStreamedImmediateFields);

constexpr std::array kResponseFields = {
    Field{field::ProcessingResponse::kRequestHeaders, What::kMessage, &kCommon},
    Field{field::ProcessingResponse::kResponseHeaders, What::kMessage, &kCommon},
    Field{field::ProcessingResponse::kRequestBody, What::kMessage, &kCommon},
    Field{field::ProcessingResponse::kResponseBody, What::kMessage, &kCommon},
    Field{field::ProcessingResponse::kRequestTrailers, What::kMessage, &kTrailersResponse},
    Field{field::ProcessingResponse::kResponseTrailers, What::kMessage, &kTrailersResponse},
    Field{field::ProcessingResponse::kImmediateResponse, What::kMessage, &kImmediate},
    Field{field::ProcessingResponse::kStreamedImmediateResponse, What::kMessage,
          &kStreamedImmediate},
    Field{field::ProcessingResponse::kDynamicMetadata, What::kStruct},
    Field{field::ProcessingResponse::kTypedDynamicMetadata, What::kAnyMap},
    Field{field::ProcessingResponse::kModeOverride, What::kMessage, &kNumbers},
    Field{field::ProcessingResponse::kOverrideMessageTimeout, What::kMessage, &kNumbers},
    Field{field::ProcessingResponse::kServerWindowUpdate, What::kMessage, &kNumbers},
};
constexpr Layout kResponse = Of(kResponseFields);

// Field numbers of a map's entry, whatever its value.
constexpr uint32_t kEntryKey = field::AttributesEntry::kKey;
constexpr uint32_t kEntryValue = field::AttributesEntry::kValue;

const Layout& LayoutOf(MessageKind kind) {
  return kind == MessageKind::kRequest ? kRequest : kResponse;
}

const Field* Find(const Layout& layout, uint32_t number) {
  for (size_t i = 0; i < layout.count; ++i) {
    if (layout.fields[i].number == number) return &layout.fields[i];
  }
  return nullptr;
}

// The parts of the messages on the way to a body nest less deep.
constexpr int kMessageDepthMax = 64;

// --- Bodies ------------------------------------------------------------------------

// Calls `on_body(payload)` for each body, and copies everything else. `on_body` returns what takes
// the body's place; null `out`: nothing is written.
template <class OnBody>
bool WalkBodies(const Layout& layout, std::string_view message, std::string* out, OnBody& on_body) {
  WireReader reader(message);
  while (reader.Next()) {
    const Field* const known = reader.Is(reader.number()) ? Find(layout, reader.number()) : nullptr;
    if (known != nullptr && known->what == What::kBody) {
      const std::string body = on_body(reader.bytes());
      if (out != nullptr) AppendBytes(known->number, body, out);
    } else if (known != nullptr && known->what == What::kMessage) {
      std::string inner;
      if (!WalkBodies(*known->layout, reader.bytes(), out == nullptr ? nullptr : &inner, on_body)) {
        return false;
      }
      if (out != nullptr) AppendBytes(known->number, inner, out);
    } else if (out != nullptr) {
      out->append(reader.record());
    }
  }
  return reader.ok();
}

// --- Secrets -------------------------------------------------------------------------

// "headers" of "request.headers": Envoy's attributes have dotted names.
std::string_view LastPart(std::string_view name) { return name.substr(name.rfind('.') + 1); }

// What may not be shown under this name becomes a secret: a whole value, or a query.
class Learner {
 public:
  Learner(const Redaction& redaction, std::vector<std::string>* secrets)
      : redaction_(redaction), secrets_(secrets) {}

  void Value(std::string_view name, std::string_view value) {
    if (redaction_.Hides(name)) return Add(value);
    if (value.find_first_of("?#@") == value.npos) return;
    if (redaction_.Shown(name, value) == value) return;
    const size_t query = value.find_first_of("?#");
    if (query != value.npos) Add(value.substr(query + 1));
    const size_t scheme = value.find("://");
    const size_t at = value.find('@');
    if (scheme != value.npos && at != value.npos && at > scheme) {
      Add(value.substr(scheme + 3, at - scheme - 3));
    }
  }

  // The value, and words of it that others may use alone.
  void Add(std::string_view value) {
    AddOne(value);
    constexpr std::string_view kBetween = " ,;=&:\"";
    while (!value.empty() && !IsFull()) {
      const size_t end = std::min(value.find_first_of(kBetween), value.size());
      AddOne(value.substr(0, end));
      value.remove_prefix(std::min(end + 1, value.size()));
    }
  }

 private:
  // One more than may be, so that complete() sees it.
  bool IsFull() const { return secrets_->size() > MessageRedactor::kSecretsMax; }

  void AddOne(std::string_view secret) {
    if (secret.size() < MessageRedactor::kSecretBytesMin || secret == kRedacted) return;
    if (IsFull()) return;
    if (std::find(secrets_->begin(), secrets_->end(), secret) != secrets_->end()) return;
    secrets_->emplace_back(secret);
  }

  const Redaction& redaction_;
  std::vector<std::string>* const secrets_;
};

// Linear in any text, which std::string::find is not.
size_t FindIn(const std::string& text, const std::string& secret, size_t from) {
  const void* const found =
      memmem(text.data() + from, text.size() - from, secret.data(), secret.size());
  return found == nullptr ? text.npos
                          : static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

// `text` with something else where a secret stands.
std::string Without(const std::vector<std::string>& secrets, std::string_view text,
                    bool same_size) {
  std::string kept(text);
  for (const std::string& secret : secrets) {
    const std::string instead =
        same_size ? std::string(secret.size(), '*') : std::string(kRedacted);
    for (size_t at = FindIn(kept, secret, 0); at != kept.npos;
         at = FindIn(kept, secret, at + instead.size())) {
      kept.replace(at, secret.size(), instead);
    }
  }
  return kept;
}

// Walks a message once. With `out` it writes what may be kept, without it it learns.
class Walk {
 public:
  Walk(const Redaction& redaction, std::vector<std::string>* secrets)
      : redaction_(redaction), secrets_(*secrets), learner_(redaction, secrets) {}

  bool Message(const Layout& layout, std::string_view message, std::string* out, int depth = 0) {
    WireReader reader(message);
    while (reader.Next()) {
      if (!reader.Is(reader.number())) {
        if (out != nullptr) out->append(reader.record());  // a number
        continue;
      }
      const Field* const known = Find(layout, reader.number());
      if (known == nullptr) {
        if (out != nullptr && redaction_.empty()) out->append(reader.record());
        continue;
      }
      std::string inner;
      if (!Part(*known, reader.bytes(), out == nullptr ? nullptr : &inner, depth)) return false;
      if (out != nullptr) AppendBytes(known->number, inner, out);
    }
    return reader.ok();
  }

 private:
  std::string Text(std::string_view text) const { return Without(secrets_, text, false); }

  bool Part(const Field& known, std::string_view bytes, std::string* out, int depth) {
    switch (known.what) {
      case What::kMessage:
        return Message(*known.layout, bytes, out, depth);
      case What::kHeader:
        return Header(bytes, out);
      case What::kStruct:
        return Struct(bytes, out, depth);
      case What::kStructMap:
      case What::kAnyMap:
        return Entry(known.what, bytes, out, depth);
      case What::kBody:
        if (out != nullptr) *out = Without(secrets_, bytes, true);
        return true;
      case What::kText:
        if (out != nullptr) *out = Text(bytes);
        return true;
    }
    return false;
  }

  bool Header(std::string_view bytes, std::string* out) {
    std::string_view key;
    std::array<std::pair<uint32_t, std::string_view>, 2> values = {
        {{field::HeaderValue::kValue, {}}, {field::HeaderValue::kRawValue, {}}}};
    std::array<bool, 2> present{};
    WireReader reader(bytes);
    while (reader.Next()) {
      if (reader.Is(field::HeaderValue::kKey)) key = reader.bytes();
      for (size_t i = 0; i < values.size(); ++i) {
        if (!reader.Is(values[i].first)) continue;
        values[i].second = reader.bytes();
        present[i] = true;
      }
    }
    if (!reader.ok()) return false;
    if (out != nullptr) AppendBytes(field::HeaderValue::kKey, Text(key), out);
    for (size_t i = 0; i < values.size(); ++i) {
      if (!present[i]) continue;
      const auto& [number, value] = values[i];
      if (out == nullptr) {
        learner_.Value(key, value);
      } else {
        AppendBytes(number, Text(redaction_.Shown(key, value)), out);
      }
    }
    return true;
  }

  // {key, Struct} or {key, Any} or {key, Value}
  static bool ReadEntry(std::string_view bytes, std::string_view* key, std::string_view* value) {
    WireReader reader(bytes);
    while (reader.Next()) {
      if (reader.Is(kEntryKey)) *key = reader.bytes();
      if (reader.Is(kEntryValue)) *value = reader.bytes();
    }
    return reader.ok();
  }

  bool Entry(What what, std::string_view bytes, std::string* out, int depth) {
    std::string_view key, value;
    if (!ReadEntry(bytes, &key, &value)) return false;
    std::string inner;
    if (what == What::kAnyMap) {
      if (redaction_.empty()) inner = value;
    } else {
      // A namespace may be named after what is in it: "jwt", "session".
      const bool hidden = Hides(key);
      if (out == nullptr) return Struct(value, nullptr, depth, hidden);
      if (!hidden && !Struct(value, &inner, depth)) return false;
    }
    if (out == nullptr) return true;
    AppendBytes(kEntryKey, Text(key), out);
    AppendBytes(kEntryValue, inner, out);
    return true;
  }

  // `hidden`, here and below: all texts in it are secrets. Only while it learns.
  bool Struct(std::string_view bytes, std::string* out, int depth, bool hidden = false) {
    if (depth > kMessageDepthMax) return false;
    WireReader reader(bytes);
    while (reader.Next()) {
      if (!reader.Is(field::Struct::kFields)) continue;
      std::string_view key, value;
      if (!ReadEntry(reader.bytes(), &key, &value)) return false;
      const bool hides = Hides(key);
      if (out == nullptr) {
        if (!Value(key, value, nullptr, depth + 1, hidden || hides)) return false;
        continue;
      }
      std::string inner;
      if (hides) {
        AppendBytes(field::Value::kStringValue, kRedacted, &inner);
      } else if (!Value(key, value, &inner, depth + 1)) {
        return false;
      }
      std::string entry;
      AppendBytes(kEntryKey, Text(key), &entry);
      AppendBytes(kEntryValue, inner, &entry);
      AppendBytes(field::Struct::kFields, entry, out);
    }
    return reader.ok();
  }

  bool Value(std::string_view name, std::string_view bytes, std::string* out, int depth,
             bool hidden = false) {
    if (depth > kMessageDepthMax) return false;
    WireReader reader(bytes);
    while (reader.Next()) {
      std::string inner;
      std::string* const to = out == nullptr ? nullptr : &inner;
      if (reader.Is(field::Value::kStringValue)) {
        if (out != nullptr) {
          inner = Text(Shown(name, reader.bytes()));
        } else if (hidden) {
          learner_.Add(reader.bytes());
        } else {
          learner_.Value(name, reader.bytes());
          learner_.Value(LastPart(name), reader.bytes());
        }
      } else if (reader.Is(field::Value::kStructValue)) {
        if (!Struct(reader.bytes(), to, depth + 1, hidden)) return false;
      } else if (reader.Is(field::Value::kListValue)) {
        if (!List(name, reader.bytes(), to, depth + 1, hidden)) return false;
      } else {
        if (out != nullptr && !reader.Is(reader.number())) out->append(reader.record());
        continue;
      }
      if (out != nullptr) AppendBytes(reader.number(), inner, out);
    }
    return reader.ok();
  }

  bool List(std::string_view name, std::string_view bytes, std::string* out, int depth,
            bool hidden) {
    WireReader reader(bytes);
    while (reader.Next()) {
      if (!reader.Is(field::ListValue::kValues)) continue;
      std::string inner;
      if (!Value(name, reader.bytes(), out == nullptr ? nullptr : &inner, depth + 1, hidden)) {
        return false;
      }
      if (out != nullptr) AppendBytes(field::ListValue::kValues, inner, out);
    }
    return reader.ok();
  }

  // Of a field of a Struct. Envoy's attributes have dotted names, whose last part is that of a
  // header or of a part of the URL.
  bool Hides(std::string_view name) const {
    return redaction_.Hides(name) || redaction_.Hides(LastPart(name));
  }
  std::string Shown(std::string_view name, std::string_view value) const {
    return redaction_.Shown(LastPart(name), redaction_.Shown(name, value));
  }

  const Redaction& redaction_;
  const std::vector<std::string>& secrets_;
  Learner learner_;
};

// --- Bodies in pieces ------------------------------------------------------------------

// Pieces of one body that follow each other.
struct BodyRun {
  struct Part {
    char* bytes;
    size_t size;
  };
  std::vector<Part> parts;
  bool after_gap = false;  // a piece before it was left out
  bool before_gap = false;
};

// The bytes at the end of `text` that begin `word`, but not all of it: by the failure function of
// Knuth, Morris and Pratt, since a client chooses both.
size_t BeginsAtEnd(std::string_view text, std::string_view word) {
  std::vector<size_t> shorter(word.size(), 0);
  const auto longer = [&](size_t matched, char next) {
    while (matched > 0 && word[matched] != next) matched = shorter[matched - 1];
    return word[matched] == next ? matched + 1 : 0;
  };
  for (size_t i = 1; i < word.size(); ++i) shorter[i] = longer(shorter[i - 1], word[i]);
  size_t matched = 0;
  text.remove_prefix(text.size() - std::min(text.size(), word.size() - 1));
  for (const char next : text) matched = longer(matched, next);
  return matched;
}

std::string Reversed(std::string_view text) { return {text.rbegin(), text.rend()}; }

// Puts asterisks over what a gap has cut off.
void MaskEdges(const BodyRun& run, const std::vector<std::string>& secrets, std::string_view text,
               std::string* masked) {
  const std::string reversed = run.after_gap ? Reversed(text) : std::string();
  size_t head = 0;
  size_t tail = 0;
  for (const std::string& secret : secrets) {
    if (run.before_gap) tail = std::max(tail, BeginsAtEnd(text, secret));
    if (run.after_gap) head = std::max(head, BeginsAtEnd(reversed, Reversed(secret)));
  }
  if (head >= MessageRedactor::kSecretBytesMin) masked->replace(0, head, head, '*');
  if (tail >= MessageRedactor::kSecretBytesMin) {
    masked->replace(masked->size() - tail, tail, tail, '*');
  }
}

void Mask(const BodyRun& run, const std::vector<std::string>& secrets) {
  std::string text;
  for (const BodyRun::Part& part : run.parts) text.append(part.bytes, part.size);
  std::string masked = Without(secrets, text, true);
  MaskEdges(run, secrets, text, &masked);
  size_t at = 0;
  for (const BodyRun::Part& part : run.parts) {
    masked.copy(part.bytes, part.size, at);
    at += part.size;
  }
}

}  // namespace

bool StripBody(MessageKind kind, std::string_view message, std::string* out, uint64_t* body_bytes) {
  auto strip = [body_bytes](std::string_view body) {
    *body_bytes += body.size();
    return std::string();
  };
  return WalkBodies(LayoutOf(kind), message, out, strip);
}

bool FillBody(MessageKind kind, std::string_view message, uint64_t body_bytes, std::string* out) {
  auto fill = [&body_bytes](std::string_view) {
    return std::string(std::exchange(body_bytes, 0), '\0');
  };
  return WalkBodies(LayoutOf(kind), message, out, fill);
}

uint64_t BodyBytes(MessageKind kind, std::string_view message) {
  uint64_t bytes = 0;
  auto count = [&bytes](std::string_view body) {
    bytes += body.size();
    return std::string();
  };
  WalkBodies(LayoutOf(kind), message, nullptr, count);
  return bytes;
}

void MessageRedactor::Learn(MessageKind kind, std::string_view message) {
  Walk(redaction_, &secrets_).Message(LayoutOf(kind), message, nullptr);
  SortSecrets();
}

// HttpTrailers has its list in the same field.
static_assert(field::HttpHeaders::kHeaders == field::HttpTrailers::kTrailers);
void MessageRedactor::LearnHeaders(std::string_view headers) {
  Walk(redaction_, &secrets_).Message(kHttpHeaders, headers, nullptr);
  SortSecrets();
}

// A secret that is part of another one must not leave the rest of it.
void MessageRedactor::SortSecrets() {
  std::stable_sort(secrets_.begin(), secrets_.end(),
                   [](const auto& a, const auto& b) { return a.size() > b.size(); });
}

void MessageRedactor::RewriteBodies(const std::vector<MessagePiece>& messages,
                                    bool more_left_out) const {
  if (secrets_.empty()) return;
  std::map<std::pair<MessageKind, uint32_t>, std::vector<BodyRun>> bodies;
  for (const MessagePiece& message : messages) {
    const std::string_view bytes(message.bytes, message.size);
    WireReader reader(bytes);
    while (reader.Next()) {
      const Field* const known =
          reader.Is(reader.number()) ? Find(LayoutOf(message.kind), reader.number()) : nullptr;
      if (known == nullptr || known->what != What::kMessage) continue;
      auto collect = [&](std::string_view body) {
        std::vector<BodyRun>& runs = bodies[{message.kind, known->number}];
        if (runs.empty()) runs.emplace_back();
        if (message.body_left_out) {
          runs.back().before_gap = true;
          runs.emplace_back().after_gap = true;
        } else {
          runs.back().parts.push_back({message.bytes + (body.data() - message.bytes), body.size()});
        }
        return std::string();
      };
      WalkBodies(*known->layout, reader.bytes(), nullptr, collect);
    }
  }
  for (auto& [key, runs] : bodies) {
    if (more_left_out) runs.back().before_gap = true;
    for (const BodyRun& run : runs) Mask(run, secrets_);
  }
}

bool MessageRedactor::Rewrite(MessageKind kind, std::string_view message, std::string* out) {
  return Walk(redaction_, &secrets_).Message(LayoutOf(kind), message, out);
}

std::string MessageRedactor::RewriteText(std::string_view text) const {
  return Without(secrets_, text, false);
}

}  // namespace callout::host
