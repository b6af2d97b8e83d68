// SPDX-License-Identifier: Apache-2.0

// Header mutations of several plugins in a row: merged into one, applied one after the
// other, and applied by a model of Envoy.
//
// Readers: host/wire/mutation.cc
#include <algorithm>
#include <cctype>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
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

// Filters run headers and body one after the other; in a chain all headers come first.
std::string MergeUnder(Choices& choices) {
  const std::string before = AnyMessage(choices);
  ModelMutation first = AnyMutation(choices), body = AnyMutation(choices),
                later = AnyMutation(choices);
  // Two that append to one name keep the order in which they were said.
  for (ModelSet& set : body.set) set.append = false;
  ModelHeaders expected, actual;
  if (!Read(before, &expected) || !Read(before, &actual)) return "a message cannot be read";
  for (const ModelMutation* mutation : {&first, &body, &later}) ApplyModel(*mutation, &expected);

  MergedHeaders of_later, merged;
  of_later.Add(ViewOf(later));
  merged.Add(ViewOf(body));
  merged.AddUnder(ViewOf(body), of_later);
  for (const ModelMutation* mutation : {&first, &later}) ApplyModel(*mutation, &actual);
  ModelMutation written;
  if (!Read(merged.Write(), &written)) return "what was merged under another cannot be parsed";
  ApplyModel(written, &actual);
  if (actual != expected) return "merged under another, the headers are others than Envoy's";
  for (const ModelSet& set : body.set) {
    if (!merged.Mentions(set.name)) return "a header that is set is not mentioned";
  }
  return "";
}

// Messages that the host makes of others: read again they are what was to be written.
std::string Rewrite(Choices& choices) {
  ext_proc::HttpHeaders headers;
  const std::string open = WithoutEndOfStream(AnyMessage(choices));
  if (!ParsesAs(open, &headers) || headers.end_of_stream()) return "headers end a message still";
  ext_proc::ProcessingRequest request;
  request.mutable_request_body()->set_body(choices.Bytes(8));
  request.mutable_request_body()->set_end_of_stream(choices.Next(2) == 0);
  request.set_observability_mode(choices.Next(2) == 0);
  (*request.mutable_attributes())["a"];
  const std::string text = choices.Bytes(8);
  const bool ends = choices.Next(2) == 0;
  const std::string body = WriteBodyMessage(request.request_body().SerializeAsString(), text, ends);
  const std::string bytes = ReplaceMessage(request.SerializeAsString(), CALLOUT_REQUEST_BODY, body);
  if (!absl::EndsWith(bytes, body)) return "a message is not at the end";
  request.mutable_request_body()->set_body(text);
  request.mutable_request_body()->set_end_of_stream(ends);
  ext_proc::ProcessingRequest read;
  if (!ParsesAs(bytes, &read)) return "a message that was replaced cannot be parsed";
  return InOrder(read) == InOrder(request) ? "" : "another message is replaced";
}

// A request that is changed in place, beside its message that is made anew.
class Changed {
 public:
  explicit Changed(const std::string& message) {
    request_.mutable_request_headers()->ParseFromString(message);
    request_.set_observability_mode(true);
    (*request_.mutable_attributes())["a"];
    bytes_ = request_.SerializeAsString();
    message_ = message;
  }

  std::string Apply(const HeaderMutationView& mutation, const std::string& expected) {
    if (changed_.has_value()) {
      changed_->Apply(mutation);
    } else {
      changed_.emplace(bytes_, CALLOUT_REQUEST_HEADERS, message_, mutation);
    }
    if (changed_->message() != expected) return "changed in place, the message is another";
    ext_proc::ProcessingRequest read;
    if (!ParsesAs(std::string(changed_->request()), &read))
      return "a changed request is no request";
    request_.mutable_request_headers()->ParseFromString(expected);
    return InOrder(read) == InOrder(request_) ? "" : "changed in place, the request is another";
  }

 private:
  ext_proc::ProcessingRequest request_;
  std::string bytes_, message_;
  std::optional<ChangedHeaders> changed_;
};

FUZZ_TARGET(mutation, .rounds = 20000, .bytes = 40) {
  switch (choices.Next(8)) {
    case 6:
      return Rewrite(choices);
    case 7:
      return MergeUnder(choices);
    default:
      break;
  }
  const std::string before = AnyMessage(choices);
  ModelHeaders expected;
  if (!Read(before, &expected)) return "a message cannot be read";
  std::string message = before;
  Changed changed(message);
  size_t count = CountHeaders(message);
  MergedHeaders merged;
  for (unsigned plugins = 1 + choices.Next(4); plugins > 0; --plugins) {
    const ModelMutation mutation = AnyMutation(choices);
    const HeaderMutationView view = ViewOf(mutation);
    const HeaderSize most = LargestHeaderSize(message, count, view);
    count = most.count;
    ApplyModel(mutation, &expected);
    merged.Add(view);
    message = ApplyHeaderMutation(message, view);
    if (const std::string wrong = changed.Apply(view, message); !wrong.empty()) return wrong;
    const HeaderSize size = MeasureHeaders(message);
    if (size.count > most.count || size.bytes > most.bytes) return "headers are larger than said";
  }
  ModelHeaders one_by_one;
  if (!Read(message, &one_by_one)) return "what was applied cannot be parsed";
  if (one_by_one != expected) return "applied one by one, the headers are others than Envoy's";

  ModelMutation at_once;
  if (!Read(merged.Write(), &at_once)) return "what was merged cannot be parsed";
  if (std::max(at_once.set.size(), at_once.remove.size()) != merged.entries().longer()) {
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
