// SPDX-License-Identifier: Apache-2.0

// Runs the golden plugins on the fake host of <callout/testing.hpp>: for machines that the
// tests themselves are not built for. Exits 1 with what was wrong.
//   golden_driver GOLDEN.so GOLDEN_CLASS.so
#include <callout/testing.hpp>
#include <cstdio>
#include <cstdlib>

namespace {

void Expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "wrong: %s\n", what);
  std::exit(1);
}
#define EXPECT(condition) Expect(condition, #condition)

void Prepare(callout::testing::Stream* stream) {
  stream->set_property(CALLOUT_PEER, "ipv4:192.0.2.1:4711");
  stream->set_property(CALLOUT_LISTENER, "plaintext");
  stream->set_property(CALLOUT_STREAM_ID, "1");
  stream->set_grpc_metadata("x-tenant", "blue");
  stream->end.instance_ns = 1;
}

void RunC(const char* path) {
  EXPECT(callout::testing::Plugin(std::string(path), "other").status() != CALLOUT_OK);
  callout::testing::Plugin plugin{std::string(path), "golden"};
  EXPECT(plugin.status() == CALLOUT_OK);
  EXPECT(plugin.followed_files().size() == 1);
  {
    callout::testing::Stream stream(plugin);
    Prepare(&stream);
    stream.set_body_modes(CALLOUT_BODY_FULL_DUPLEX_STREAMED, CALLOUT_BODY_FULL_DUPLEX_STREAMED);
    const auto headers = stream.request_headers({{":path", "/"}});
    if (!headers.error.empty()) std::fprintf(stderr, "%s\n", headers.error.c_str());
    EXPECT(headers.error.empty() && headers.clear_route_cache && !headers.metadata.empty());
    const auto chunk = stream.request_body("c", false);
    EXPECT(chunk.sent.size() == 1 && chunk.sent[0].body == "s");
    EXPECT(stream.request_trailers({}).status == CALLOUT_OK);
    EXPECT(stream.response_headers({{":status", "200"}}).deferred);
    EXPECT(stream.response_body("c").status == CALLOUT_UNAVAILABLE);
  }
  EXPECT(plugin.metric("golden_streams_total") == 1);
  EXPECT(plugin.metric("golden_level") == 7);
  EXPECT(plugin.metric("golden_time_seconds") == 0.5);
  EXPECT(plugin.metric("golden_closed") == 1);
}

void RunClass(const char* path) {
  callout::testing::Plugin plugin{std::string(path), "golden"};
  EXPECT(plugin.status() == CALLOUT_OK);
  EXPECT((plugin.wants().wants & CALLOUT_WANT_REAL_END) != 0);
  {
    callout::testing::Stream stream(plugin);
    Prepare(&stream);
    EXPECT(stream.request_headers({{":path", "/x"}}).header("x-golden") == "/x");
    EXPECT(stream.request_body("body").body == "body!");
    const auto headers = stream.response_headers({{"server", "x"}});
    EXPECT(headers.deferred && headers.removed("server"));
    EXPECT(stream.response_trailers({}).header("x-golden") == "trailer");
  }
  callout::testing::Stream denied(plugin);
  Prepare(&denied);
  EXPECT(denied.request_headers({{":path", "/"}}).status == CALLOUT_OK);
  EXPECT(denied.request_body("bad").http_status == 403);
  EXPECT(plugin.metric("golden_headers_total") == 2);
  EXPECT(plugin.logs().back().text == "end 1 after 4 bytes");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  RunC(argv[1]);
  RunClass(argv[2]);
  return 0;
}
