// SPDX-License-Identifier: Apache-2.0

// A model of how Envoy 1.40 applies a HeaderMutation. It is written from observed behaviour and not
// from the host's code, so that one can check the other. A test with a real Envoy checks this
// model.
//
//   removals come before sets, wherever they stand; "host" and names that begin
//   with ":" are not removed; a set replaces every value of its name unless
//   `append` is true; names compare without case; "host" of a request is
//   ":authority"; appending to a header that Envoy keeps as one value joins with
//   a comma.
#ifndef CALLOUT_TESTS_HOST_HEADER_MODEL_H_
#define CALLOUT_TESTS_HOST_HEADER_MODEL_H_

#include <algorithm>
#include <cctype>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace callout::host {

struct ModelSet {
  std::string name;
  std::string value;
  bool append = false;
};

struct ModelMutation {
  std::vector<std::string> remove;
  std::vector<ModelSet> set;
};

// Values by lower-case name, in order.
using ModelHeaders = std::map<std::string, std::vector<std::string>>;

inline std::string ModelName(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return name == "host" ? ":authority" : name;
}

inline void ApplyModel(const ModelMutation& mutation, ModelHeaders* headers) {
  for (const std::string& name : mutation.remove) {
    const std::string key = ModelName(name);
    if (!key.empty() && key[0] != ':') headers->erase(key);
  }
  for (const ModelSet& set : mutation.set) {
    std::vector<std::string>& values = (*headers)[ModelName(set.name)];
    if (!set.append) values.clear();
    values.push_back(set.value);
  }
}

// Few names, so that mutations collide: in any case, twice, removed and set.
class MutationMaker {
 public:
  explicit MutationMaker(uint64_t seed) : random_(seed) {}

  size_t Pick(size_t count) { return random_() % count; }

  std::string Name() {
    static const std::vector<std::string> kNames = {"x-a", "x-b", "x-c", "x-d", "x-e"};
    std::string name = kNames[Pick(kNames.size())];
    for (char& c : name) {
      if (Pick(4) == 0) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    }
    return name;
  }

  ModelMutation Mutation() {
    ModelMutation mutation;
    for (size_t i = Pick(3); i > 0; --i) mutation.remove.push_back(Name());
    for (size_t i = Pick(5); i > 0; --i) {
      mutation.set.push_back({Name(), "v" + std::to_string(next_value_++), Pick(2) == 0});
    }
    if (Pick(8) == 0) mutation.remove.push_back(":path");
    if (Pick(8) == 0) mutation.remove.push_back("host");
    return mutation;
  }

  std::vector<std::pair<std::string, std::string>> Headers() {
    std::vector<std::pair<std::string, std::string>> headers;
    for (size_t i = Pick(8); i > 0; --i) {
      headers.emplace_back(ModelName(Name()), "h" + std::to_string(next_value_++));
    }
    return headers;
  }

 private:
  std::mt19937_64 random_;
  uint64_t next_value_ = 0;
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_HEADER_MODEL_H_
