// SPDX-License-Identifier: Apache-2.0

// Replaces texts in a stream of bytes that comes in pieces. A text that is spread over several is
// found: what may be the beginning of one is held back until more has come.
//
//   Rewriter rewriter(&rules);
//   Rewriter::Result result = rewriter.Take("hello wor", false);   // holds "wor" back for "world"
//
// At a place where several texts fit, the first of the rules counts. What was put in is not looked
// at again. For one thread.
//
// Tested by tests/plugins/l4_rewrite_test.cc.
#ifndef CALLOUT_PLUGINS_L4_REWRITE_REWRITER_H_
#define CALLOUT_PLUGINS_L4_REWRITE_REWRITER_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace callout::plugins {

// Each byte is compared with the beginning of each text: no longer ones.
inline constexpr size_t kPatternBytesMax = 1024;

struct Rule {
  std::string from;
  std::string to;
  bool closes = false;  // nothing is replaced: the connection ends
};
using Rules = std::vector<Rule>;

class Rewriter {
 public:
  struct Result {
    std::string bytes;  // that go on now
    size_t replaced = 0;
    bool closes = false;  // a text that ends the connection was found
  };

  // `rules` outlive it.
  explicit Rewriter(const Rules* rules) : rules_(rules) {}

  // `is_last`: nothing comes after `data`, so that nothing is held back.
  Result Take(std::string_view data, bool is_last) {
    held_.append(data);
    const std::string_view all = held_;
    Result result;
    size_t at = 0;
    while (at < all.size()) {
      bool may_begin = false;
      const Rule* const rule = Find(all.substr(at), is_last, &may_begin);
      if (rule != nullptr && rule->closes) {
        result.closes = true;
        return result;
      }
      if (rule != nullptr) {
        result.bytes += rule->to;
        ++result.replaced;
        at += rule->from.size();
      } else if (may_begin) {
        break;
      } else {
        result.bytes.push_back(all[at++]);
      }
    }
    held_.erase(0, at);
    return result;
  }

 private:
  // The first rule whose text `rest` begins with. `may_begin`: there is none, and `rest` is the
  // beginning of one. A rule before the one that fits, of which `rest` is the beginning, goes
  // first.
  const Rule* Find(std::string_view rest, bool is_last, bool* may_begin) const {
    for (const Rule& rule : *rules_) {
      const std::string_view from = rule.from;
      if (rest.size() >= from.size() && rest.substr(0, from.size()) == from) {
        return *may_begin ? nullptr : &rule;
      }
      if (!is_last && from.substr(0, rest.size()) == rest) *may_begin = true;
    }
    return nullptr;
  }

  const Rules* const rules_;
  std::string held_;
};

}  // namespace callout::plugins

#endif  // CALLOUT_PLUGINS_L4_REWRITE_REWRITER_H_
