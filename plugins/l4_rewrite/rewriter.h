// SPDX-License-Identifier: Apache-2.0

// Replaces texts in a stream of bytes that comes in pieces. A text that is spread over several is
// found: what may be the beginning of one is held back until more has come.
//
//   Rewriter rewriter(&rules);
//   Rewriter::Result result = rewriter.Take("hello wor", false);   // holds "wor" back for "world"
//
// At a place where several texts fit, the first of the rules counts. What was put in is not
// replaced again, but closes the connection if a text that does so arises from it. For one thread.
//
// Tested by tests/plugins/l4_rewrite_test.cc.
#ifndef CALLOUT_PLUGINS_L4_REWRITE_REWRITER_H_
#define CALLOUT_PLUGINS_L4_REWRITE_REWRITER_H_

#include <algorithm>
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
  explicit Rewriter(const Rules* rules)
      : rules_(rules), closing_bytes_max_(ClosingBytesMax(*rules)) {}

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
    result.closes = MakesAClosingText(result.bytes);
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

  // Whether `bytes` end a text that closes, which what was put in is a part of: such a text that
  // came as it is has been found.
  bool MakesAClosingText(std::string_view bytes) {
    if (closing_bytes_max_ == 0) return false;
    went_out_.append(bytes);
    for (const Rule& rule : *rules_) {
      if (rule.closes && went_out_.find(rule.from) != std::string::npos) return true;
    }
    const size_t kept = std::min(went_out_.size(), closing_bytes_max_ - 1);
    went_out_.erase(0, went_out_.size() - kept);
    return false;
  }
  // The longest closing text; 0 if there is none, or nothing is replaced.
  static size_t ClosingBytesMax(const Rules& rules) {
    size_t most = 0;
    bool replaces = false;
    for (const Rule& rule : rules) {
      replaces = replaces || !rule.closes;
      if (rule.closes) most = std::max(most, rule.from.size());
    }
    return replaces ? most : 0;
  }

  const Rules* const rules_;
  const size_t closing_bytes_max_;
  std::string held_;
  std::string went_out_;  // its end, in which a closing text may begin
};

}  // namespace callout::plugins

#endif  // CALLOUT_PLUGINS_L4_REWRITE_REWRITER_H_
