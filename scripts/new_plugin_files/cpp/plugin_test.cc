// Loads @name@.so into a fake host. No process, no Envoy.
#include <callout/testing.hpp>
#include <cstdio>

#define EXPECT(condition) \
  ((condition) || (++failures, std::printf("%s:%d: %s\n", __FILE__, __LINE__, #condition)))

int failures = 0;

int main() {
  callout::testing::Plugin plugin("./@name@.so");
  callout::testing::Stream stream(plugin);
  const callout::testing::Answer answer = stream.request_headers({{":path", "/"}});
  EXPECT(answer.status == CALLOUT_OK);
  EXPECT(answer.problem.empty());
  EXPECT(answer.header("x-seen-by") == "@name@");
  EXPECT(plugin.metric("@name@_requests_total") == 1);

  callout::testing::Plugin configured("./@name@.so", "somebody");
  callout::testing::Stream other(configured);
  EXPECT(other.request_headers({}).header("x-seen-by") == "somebody");

  if (failures == 0) std::printf("@name@: all tests passed\n");
  return failures == 0 ? 0 : 1;
}
