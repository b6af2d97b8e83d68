// SPDX-License-Identifier: Apache-2.0

#include "host/trace/trace_context.h"

#include <endian.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "host/base/clock.h"

namespace callout::host {
namespace {

constexpr size_t kVersion00Bytes = 55;

// -1 for anything but a lower-case digit, which is all that the specification allows. A table,
// since an exchange that is not sampled pays for this.
constexpr std::array<int16_t, 256> kHexDigits = [] {
  std::array<int16_t, 256> digits{};
  digits.fill(-1);
  for (int16_t i = 0; i < 10; ++i) digits[static_cast<size_t>('0' + i)] = i;
  for (int16_t i = 10; i < 16; ++i) digits[static_cast<size_t>('a' + i - 10)] = i;
  return digits;
}();

// Two digits for each byte of `out`.
bool ReadHex(std::string_view text, uint8_t* out, size_t size) {
  if (text.size() != 2 * size) return false;
  int all = 0;  // negative if one of the digits is
  for (size_t i = 0; i < size; ++i) {
    const int high = kHexDigits[static_cast<uint8_t>(text[2 * i])];
    const int low = kHexDigits[static_cast<uint8_t>(text[2 * i + 1])];
    all |= high | low;
    out[i] = static_cast<uint8_t>(high * 16 + low);
  }
  return all >= 0;
}

template <class Id>
bool IsZero(const Id& id) {
  return std::all_of(id.begin(), id.end(), [](uint8_t byte) { return byte == 0; });
}

template <class Id>
std::string Hex(const Id& id) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * id.size());
  for (const uint8_t byte : id) {
    text.push_back(kDigits[byte >> 4]);
    text.push_back(kDigits[byte & 15]);
  }
  return text;
}

// xoshiro256++ by Blackman and Vigna (prng.di.unimi.it), with a state that no two threads share. An
// exchange that is not sampled pays for one number: 15 instructions, where std::mt19937_64 takes
// about 100 and 2.5 KiB for each thread.
class Generator {
 public:
  // Not by std::random_device, which throws where it gets no descriptor.
  Generator() {
    if (getrandom(state_.data(), sizeof(state_), 0) == sizeof(state_)) return;
    // The clock and the thread's own address still tell threads apart.
    state_ = {MonotonicNs(), reinterpret_cast<uintptr_t>(this), 1, 2};
    for (int i = 0; i < 20; ++i) Next();
  }

  uint64_t Next() {
    const uint64_t result = std::rotl(state_[0] + state_[3], 23) + state_[0];
    const uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

 private:
  std::array<uint64_t, 4> state_{};
};

// Ids need to be unique, not secret.
uint64_t RandomBits() {
  thread_local Generator generator;
  for (;;) {
    if (const uint64_t bits = generator.Next(); bits != 0) return bits;
  }
}

}  // namespace

std::optional<SpanContext> ParseTraceparent(std::string_view text) {
  if (text.size() < kVersion00Bytes || text.size() > kTraceparentBytesMax) return std::nullopt;
  if (text[2] != '-' || text[35] != '-' || text[52] != '-') return std::nullopt;
  uint8_t version = 0;
  uint8_t flags = 0;
  SpanContext context;
  if (!ReadHex(text.substr(0, 2), &version, 1) || version == 0xff ||
      !ReadHex(text.substr(3, 32), context.trace_id.data(), context.trace_id.size()) ||
      !ReadHex(text.substr(36, 16), context.span_id.data(), context.span_id.size()) ||
      !ReadHex(text.substr(53, 2), &flags, 1)) {
    return std::nullopt;
  }
  if (version == 0 && text.size() != kVersion00Bytes) return std::nullopt;
  if (text.size() > kVersion00Bytes && text[kVersion00Bytes] != '-') return std::nullopt;
  if (IsZero(context.trace_id) || IsZero(context.span_id)) return std::nullopt;
  context.sampled = (flags & 1) != 0;
  return context;
}

std::string CheckedTracestate(std::string_view text) {
  if (text.size() > kTracestateBytesMax) return "";
  const bool printable =
      std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
  return printable ? std::string(text) : "";
}

uint64_t EndOf(const TraceId& id) {
  uint64_t end;
  std::memcpy(&end, id.data() + id.size() - sizeof(end), sizeof(end));
  return be64toh(end);
}

uint64_t NewTraceIdEnd() { return RandomBits(); }

TraceId NewTraceId(uint64_t end) {
  const uint64_t bits[2] = {RandomBits(), htobe64(end)};
  TraceId id;
  std::memcpy(id.data(), bits, id.size());
  return id;
}

TraceId NewTraceId() { return NewTraceId(NewTraceIdEnd()); }

SpanId NewSpanId() {
  const uint64_t bits = RandomBits();
  SpanId id;
  std::memcpy(id.data(), &bits, id.size());
  return id;
}

std::string ToHex(const TraceId& id) { return Hex(id); }
std::string ToHex(const SpanId& id) { return Hex(id); }

}  // namespace callout::host
