// SPDX-License-Identifier: Apache-2.0

#include "host/base/yaml_size.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <map>
#include <sstream>
#include <utility>
#include <vector>

namespace callout::host {

namespace {

struct Size {
  size_t values = 0;
  size_t bytes = 0;
};

// Counts what the parser meets. Sums do not overflow: what is added is never over the limits.
class Counter final : public YAML::EventHandler {
 public:
  explicit Counter(const YamlLimits& limits) : limits_(limits) {}
  const std::optional<YamlFinding>& finding() const { return finding_; }

  void OnDocumentStart(const YAML::Mark& mark) override {
    sizes_.clear();
    if (++documents_ <= limits_.documents_max) return;
    Find(mark,
         fmt::format("more than {} documents, the limit; is there a ] or }} that nothing opens?",
                     limits_.documents_max));
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    AddScalar(mark, anchor, 0);
  }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                const std::string& value) override {
    AddScalar(mark, anchor, value.size());
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = sizes_.find(anchor);
    if (found != sizes_.end()) return Add(mark, found->second);
    Find(mark, "an alias (*NAME) stands within what it repeats, which would have no end");
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Begin(mark, anchor);
  }
  void OnSequenceEnd() override { End(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Begin(mark, anchor);
  }
  void OnMapEnd() override { End(); }

 private:
  struct Open {
    YAML::anchor_t anchor;
    Size before;
  };

  void AddScalar(const YAML::Mark& mark, YAML::anchor_t anchor, size_t bytes) {
    if (anchor != 0) sizes_[anchor] = {1, bytes};
    Add(mark, {1, bytes});
  }
  void Begin(const YAML::Mark& mark, YAML::anchor_t anchor) {
    open_.push_back({anchor, total_});
    Add(mark, {1, 0});
  }
  void End() {
    const Open& ended = open_.back();
    if (ended.anchor != 0) {
      sizes_[ended.anchor] = {total_.values - ended.before.values,
                              total_.bytes - ended.before.bytes};
    }
    open_.pop_back();
  }

  void Add(const YAML::Mark& mark, Size size) {
    if (finding_.has_value()) return;
    total_.values += size.values;
    total_.bytes += size.bytes;
    if (total_.values > limits_.values_max) {
      FindOver(mark, fmt::format("{} values", limits_.values_max));
    } else if (total_.bytes > limits_.bytes_max) {
      FindOver(mark, fmt::format("{} bytes", limits_.bytes_max));
    }
  }
  void FindOver(const YAML::Mark& mark, const std::string& limit) {
    Find(mark, fmt::format("more than {}, the limit, counting what aliases (*NAME) repeat; split "
                           "the file, or repeat less",
                           limit));
  }
  void Find(const YAML::Mark& mark, std::string what) {
    if (!finding_.has_value()) finding_ = YamlFinding{mark.line + 1, std::move(what)};
  }

  const YamlLimits limits_;
  std::map<YAML::anchor_t, Size> sizes_;  // of what each anchor of the document stands at
  std::vector<Open> open_;                // lists and maps around the place
  Size total_;
  size_t documents_ = 0;
  std::optional<YamlFinding> finding_;
};

}  // namespace

std::optional<YamlFinding> FindYamlOverLimit(const std::string& text, const YamlLimits& limits) {
  Counter counter(limits);
  try {
    std::istringstream input(text);
    YAML::Parser parser(input);
    while (!counter.finding().has_value() && parser.HandleNextDocument(counter)) {
    }
  } catch (const YAML::Exception&) {
    // What came before it may be over a limit.
  }
  return counter.finding();
}

}  // namespace callout::host
