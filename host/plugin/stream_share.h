// SPDX-License-Identifier: Apache-2.0

// The share of streams that an instance serves: `percent` of them, by a hash of a request header or
// at random. The same value of the header is always in or always out, in every process, host and
// version, as long as name and percent stay. If percent grows, nobody drops out.
//
//   const StreamShare share(5, "x-user", "auth");
//   if (share.Takes(value_of_x_user, stream_id)) …
//   share.Rest()                        // exactly the other streams
//
// A stream whose request does not have the header is drawn at random. A client can choose the value
// of a header, and so whether it is in the share: a share is no protection.
//
// Plain values; any thread.
//
// Tested by tests/host/plugin/stream_share_test.cc.
#ifndef CALLOUT_HOST_PLUGIN_STREAM_SHARE_H_
#define CALLOUT_HOST_PLUGIN_STREAM_SHARE_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace callout::host {

class StreamShare {
 public:
  // All streams.
  StreamShare() = default;
  // `percent` is from 0 to 100, and counts in hundredths. `by_header` is in lower case; "": at
  // random. Shares of different names are independent of each other.
  StreamShare(double percent, std::string by_header, std::string_view name);

  // `value` of the header `by_header`; "": the request has none.
  bool Takes(std::string_view value, uint64_t stream_id) const;
  StreamShare Rest() const;

  bool all() const { return hundredths_ == kAll && !rest_; }
  const std::string& by_header() const { return by_header_; }

 private:
  static constexpr uint32_t kAll = 10'000;

  uint32_t hundredths_ = kAll;
  bool rest_ = false;
  uint64_t salt_ = 0;
  std::string by_header_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_PLUGIN_STREAM_SHARE_H_
