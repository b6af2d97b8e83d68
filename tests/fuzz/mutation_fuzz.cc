// SPDX-License-Identifier: Apache-2.0

// Header mutations of several plugins in a row: merged into one, applied one after the
// other, and applied by a model of Envoy.
//
// Readers: host/wire/mutation.cc
#include <algorithm>
#include <cctype>
#include <string>
#include <utility>
#include <vector>

#include "envoy/service/ext_proc/v3/external_processor.pb.h"
#include "host/wire/mutation.h"
#include "tests/fuzz/proto_oracle.h"
#include "tests/fuzz/target.h"
#include "tests/host/header_model.h"

namespace callout::host {
namespace {

namespace ext_proc = envoy::service::ext_proc::v3;

// Few names, so that they meet.
std::string Name(Choices& choices) {
  static const char* const kNames[] = {"x-a", "x-b", "x-c", "host", ":path", "X-A", "x-", "Host"};
  return kNames[choices.Next(8)];
}

ModelMutation AnyMutation(Choices& choices) {
  ModelMutation mutation;
  for (unsigned i = choices.Next(4); i > 0; --i) mutation.remove.push_back(Name(choices));
  for (unsigned i = choices.Next(6); i > 0; --i) {
    mutation.set.push_back({Name(choices), choices.Bytes(3), choices.Next(2) == 0});
  }
  return mutation;
}

HeaderMutationView ViewOf(const ModelMutation& mutation) {
  HeaderMutationView view;
  view.present = true;
  for (const std::string& name : mutation.remove) view.remove.push_back(name);
  for (const ModelSet& set : mutation.set) view.set.push_back({set.name, set.value, set.append});
  return view;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
bool Read(const std::string& payload, ModelMutation* mutation) {
  ext_proc::HeaderMutation message;
  if (!ParsesAs(payload, &message)) return false;
  for (const std::string& name : message.remove_headers()) mutation->remove.push_back(name);
  for (const auto& option : message.set_headers()) {
    mutation->set.push_back(
        {option.header().key(), option.header().raw_value(), option.append().value()});
  }
  return true;
}
#pragma GCC diagnostic pop

bool Read(const std::string& bytes, ModelHeaders* headers) {
  ext_proc::HttpHeaders message;
  if (!ParsesAs(bytes, &message)) return false;
  for (const auto& header : message.headers().headers()) {
    (*headers)[header.key()].push_back(header.raw_value());
  }
  return true;
}

// A request's headers: names are lower case, and the host is in :authority.
std::string AnyMessage(Choices& choices) {
  ext_proc::HttpHeaders message;
  const auto add = [&](const std::string& name, const std::string& value) {
    auto* header = message.mutable_headers()->add_headers();
    header->set_key(name);
    header->set_raw_value(value);
  };
  add(":authority", "a");
  for (unsigned i = choices.Next(6); i > 0; --i) {
    const std::string name = ModelName(Name(choices));
    if (name != ":authority") add(name, choices.Bytes(3));
  }
  message.set_end_of_stream(choices.Next(2) == 0);
  return message.SerializeAsString();
}

FUZZ_TARGET(mutation, .rounds = 20000, .bytes = 40) {
  const std::string before = AnyMessage(choices);
  ModelHeaders expected;
  if (!Read(before, &expected)) return "a message cannot be read";
  std::string message = before;
  MergedHeaders merged;
  for (unsigned plugins = 1 + choices.Next(4); plugins > 0; --plugins) {
    const ModelMutation mutation = AnyMutation(choices);
    const HeaderMutationView view = ViewOf(mutation);
    const HeaderSize most = LargestHeaderSize(message, view);
    ApplyModel(mutation, &expected);
    merged.Add(view);
    message = ApplyHeaderMutation(message, view);
    const HeaderSize size = MeasureHeaders(message);
    if (size.count > most.count || size.bytes > most.bytes) return "headers are larger than said";
  }
  ModelHeaders one_by_one;
  if (!Read(message, &one_by_one)) return "what was applied cannot be parsed";
  if (one_by_one != expected) return "applied one by one, the headers are others than Envoy's";

  ModelMutation at_once;
  if (!Read(merged.Write(), &at_once)) return "what was merged cannot be parsed";
  if (std::max(at_once.set.size(), at_once.remove.size()) != merged.entries()) {
    return "the number of entries differs";
  }
  ModelHeaders together;
  Read(before, &together);
  ApplyModel(at_once, &together);
  if (together != expected) return "merged, the headers are others than Envoy's";
  return "";
}

}  // namespace
}  // namespace callout::host
