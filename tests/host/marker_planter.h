// SPDX-License-Identifier: Apache-2.0

// Plants markers in every field of a message, by the message's descriptor, so that a test can look
// for them where nothing of the message may be.
//
//   MarkerPlanter planter(choice);
//   planter.Fill(&request, "request");
//   … send it; then: for (const std::string& path : planter.FoundIn(page)) ADD_FAILURE() << path;
//
// For one thread.
#ifndef CALLOUT_TESTS_HOST_MARKER_PLANTER_H_
#define CALLOUT_TESTS_HOST_MARKER_PLANTER_H_

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace callout::host {

// Puts a marker of its own into every text of a message, and calls itself for what is in it. Of a
// oneof the member `choice` is set, so that several rounds see all of them.
class MarkerPlanter {
 public:
  explicit MarkerPlanter(int choice) : choice_(choice) {}

  void Fill(google::protobuf::Message* message, const std::string& path, int depth = 0) {
    const auto* descriptor = message->GetDescriptor();
    for (int i = 0; i < descriptor->field_count(); ++i) {
      const google::protobuf::FieldDescriptor* field = descriptor->field(i);
      const auto* oneof = field->real_containing_oneof();
      if (oneof != nullptr && field != oneof->field(choice_ % oneof->field_count())) continue;
      FillField(message, field, path + "." + field->name(), depth);
    }
  }
  void set_choice(int choice) { choice_ = choice; }

  // A marker for what is no field of a message.
  std::string Plant(const std::string& path) {
    const std::string marker = "marker" + std::to_string(1000000 + markers_.size()) + "end";
    markers_[marker] = path;
    return marker;
  }

  // The path of each marker.
  const std::map<std::string, std::string>& markers() const { return markers_; }
  // The paths of those that are in the text.
  std::vector<std::string> FoundIn(std::string_view text) const {
    std::vector<std::string> found;
    for (const auto& [marker, path] : markers_) {
      if (text.find(marker) != text.npos) found.push_back(path);
    }
    return found;
  }

 private:
  void FillField(google::protobuf::Message* message, const google::protobuf::FieldDescriptor* field,
                 const std::string& path, int depth) {
    const auto* reflection = message->GetReflection();
    if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_STRING) {
      field->is_repeated() ? reflection->AddString(message, field, Plant(path))
                           : reflection->SetString(message, field, Plant(path));
    } else if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE &&
               depth < 12) {
      google::protobuf::Message* inner = field->is_repeated()
                                             ? reflection->AddMessage(message, field)
                                             : reflection->MutableMessage(message, field);
      Fill(inner, path, depth + 1);
    }
  }

  int choice_;
  std::map<std::string, std::string> markers_;
};

}  // namespace callout::host

#endif  // CALLOUT_TESTS_HOST_MARKER_PLANTER_H_
