// SPDX-License-Identifier: Apache-2.0

// How much a YAML text is once its aliases are written out. An alias (*NAME) repeats what its
// anchor
// (&NAME) stands at, so a text of ten lines can mean more values than any memory holds. Readers
// that walk through the tree ask this first.
//
//   if (const auto finding = FindYamlOverLimit(text, {}); finding.has_value()) {
//     return InvalidArgument("FILE:{finding->line}: {finding->what}");
//   }
//
// It takes time in proportion to the text, whatever the aliases say. A text that is not YAML has no
// finding: its reader says what is wrong.
//
// A plain function; any thread.
//
// Tested by tests/host/base/yaml_size_test.cc.
#ifndef CALLOUT_HOST_BASE_YAML_SIZE_H_
#define CALLOUT_HOST_BASE_YAML_SIZE_H_

#include <cstddef>
#include <optional>
#include <string>

namespace callout::host {

// Of all documents of a text, with what aliases repeat.
struct YamlLimits {
  size_t values_max = 2'000'000;        // scalars, lists and maps; keys are scalars
  size_t bytes_max = size_t{64} << 20;  // of scalars
  // yaml-cpp 0.7 finds empty documents for ever in some texts that are not YAML.
  size_t documents_max = 10'000;
};

struct YamlFinding {
  int line = 0;  // counted from 1
  std::string what;
};

// Where the text goes over a limit, or has an alias within what it repeats, which would have no
// end.
std::optional<YamlFinding> FindYamlOverLimit(const std::string& text, const YamlLimits& limits);

}  // namespace callout::host

#endif  // CALLOUT_HOST_BASE_YAML_SIZE_H_
