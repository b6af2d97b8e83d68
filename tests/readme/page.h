// SPDX-License-Identifier: Apache-2.0

// A page of the documentation, in a folder in which its relative paths mean what
// they mean in a checkout. Comments before a block say what it is:
//
//   <!-- file: guard.cc -->            the content of that file
//   <!-- hook: request_headers -->     what stands inside such a hook
//   <!-- envoy: filter -->             a part of Envoy's configuration
//   <!-- prints -->                    what the ```sh block before it prints: these
//                                      lines in this order, … for any text
//   ```sh                              commands, to be run
#ifndef CALLOUT_TESTS_README_PAGE_H_
#define CALLOUT_TESTS_README_PAGE_H_

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/host/sockets.h"
#include "tests/integration/test_host.h"

namespace callout::tests {

struct Block {
  std::string marker;    // "file", "hook", "envoy", "prints"; "" without one
  std::string name;      // "guard.cc", "request_headers"
  std::string language;  // "sh"
  std::string text;
};

std::string SourceFile(const std::string& path);
std::string ReadAll(const std::string& path);

// Whether `lines` occur in `output`, each within a line of its own, in order.
testing::AssertionResult Prints(const std::string& output, const std::string& lines);

class Page : public testing::Test {
 protected:
  explicit Page(const std::string& path);

  virtual Finished Run(const std::string& commands);

  // The commands that are run, as they stand on the page: all but scripts/.
  std::vector<std::string> Commands() const;
  // Runs those that begin with `prefix`, and checks what they print.
  void RunAll(const std::string& prefix = "");

  // Every link to a file or a heading; returns how many there are.
  size_t ExpectLinksLead() const;

  const std::string path_;
  const std::string text_;
  const std::vector<Block> blocks_;
  host::TempDir dir_;
};

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_README_PAGE_H_
