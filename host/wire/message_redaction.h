// SPDX-License-Identifier: Apache-2.0

// Takes secrets and bodies out of ProcessingRequests and ProcessingResponses that are to be kept.
//
//   std::string kept;
//   uint64_t body_bytes = 0;
//   StripBody(MessageKind::kRequest, bytes, &kept, &body_bytes);   // the body's bytes
//
//   MessageRedactor redactor(redaction);
//   for (const auto& message : exchange) redactor.Learn(message.kind, message.bytes);
//   redactor.RewriteBodies(pieces, false);
//   for (const auto& message : exchange) redactor.Rewrite(message.kind, message.bytes, &kept);
//
// What goes, by the names of `redaction`: values of headers and trailers, whoever sets them; of
// attributes and of metadata, where the name of the field, or of one around it, is such a name; and
// queries. Wherever else in the exchange such a value stands, or a word of it of at least
// kSecretBytesMin bytes (the token of "Bearer TOKEN", a cookie's value), it goes, too: so a plugin
// that copies a credential to another header, into a body or into metadata does not bring it into
// the recording. In bodies, asterisks of the same number take its place; RewriteBodies finds one
// that is cut over several messages of one body. Where a piece of a body was left out, it also
// takes what begins a value before the piece, or ends one after it, if that has kSecretBytesMin
// bytes.
//
// What nobody can look into goes as a whole: the bytes of typed metadata (Any), and fields that
// this host does not know, but for numbers (whose bytes may spell anything). A Redaction without
// patterns keeps all of it, except for the key of explanations.
//
// A value with fewer than kSecretBytesMin bytes goes where its name says so, and nowhere else.
//
// For one thread.
//
// Tested by tests/host/wire/message_redaction_test.cc.
#ifndef CALLOUT_HOST_WIRE_MESSAGE_REDACTION_H_
#define CALLOUT_HOST_WIRE_MESSAGE_REDACTION_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "host/base/redaction.h"

namespace callout::host {

enum class MessageKind : uint8_t { kRequest, kResponse };

// Appends the message to `out` with empty bodies in the place of bodies; `body_bytes` is how many
// bytes these had. False if the message is malformed; nothing of it may be kept then.
bool StripBody(MessageKind kind, std::string_view message, std::string* out, uint64_t* body_bytes);

// Appends the message to `out` with `body_bytes` zero bytes where its body was left out.
bool FillBody(MessageKind kind, std::string_view message, uint64_t body_bytes, std::string* out);

// The size of the message's body, or new body.
uint64_t BodyBytes(MessageKind kind, std::string_view message);

// A message of an exchange, to be changed where it lies.
struct MessagePiece {
  MessageKind kind = MessageKind::kRequest;
  char* bytes = nullptr;
  size_t size = 0;
  bool body_left_out = false;  // by StripBody
};

class MessageRedactor {
 public:
  static constexpr size_t kSecretBytesMin = 8;
  // Values and words that are looked for in an exchange. Each costs a search through all of it, and
  // a client chooses how many there are.
  static constexpr size_t kSecretsMax = 512;

  // `redaction` outlives it.
  explicit MessageRedactor(const Redaction& redaction) : redaction_(redaction) {}

  // Collects the values of the message that will go.
  void Learn(MessageKind kind, std::string_view message);
  // Of HttpHeaders or HttpTrailers alone.
  void LearnHeaders(std::string_view headers);
  // False: there were more than kSecretsMax values; nothing of the exchange may be kept then.
  bool complete() const { return secrets_.size() <= kSecretsMax; }
  // Takes values out of the bodies of an exchange, which are the messages of one kind and phase in
  // their order. All sizes stay. Before Rewrite; `more_left_out`: messages after these were.
  void RewriteBodies(const std::vector<MessagePiece>& messages, bool more_left_out) const;
  // Appends the message without secrets. False if it is malformed or nested too deep; nothing of it
  // may be kept then.
  bool Rewrite(MessageKind kind, std::string_view message, std::string* out);
  // A text about the exchange, without the values that were learned.
  std::string RewriteText(std::string_view text) const;

 private:
  void SortSecrets();

  const Redaction& redaction_;
  std::vector<std::string> secrets_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_WIRE_MESSAGE_REDACTION_H_
