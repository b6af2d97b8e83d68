// SPDX-License-Identifier: Apache-2.0

#include "host/wire/attribute_record.h"

#include "host/wire/field_numbers.h"
#include "host/wire/wire.h"
#include "host/wire/wire_put.h"

namespace callout::host {

void AppendMapEntry(uint32_t number, std::string_view key, std::string_view value,
                    std::string* out) {
  AppendBytesHead(number,
                  BytesSize(field::HeadersEntry::kKey, key.size()) +
                      BytesSize(field::HeadersEntry::kValue, value.size()),
                  out);
  AppendBytes(field::HeadersEntry::kKey, key, out);
  AppendBytes(field::HeadersEntry::kValue, value, out);
}

void AppendTextAttribute(std::string_view name, std::string_view text, std::string* fields) {
  const size_t value_size = BytesSize(field::Value::kStringValue, text.size());
  const size_t entry_size = BytesSize(field::FieldsEntry::kKey, name.size()) +
                            BytesSize(field::FieldsEntry::kValue, value_size);
  const size_t before = fields->size();
  fields->resize(before + BytesSize(field::Struct::kFields, entry_size));
  char* to = PutBytesHead(field::Struct::kFields, entry_size, fields->data() + before);
  to = PutBytes(field::FieldsEntry::kKey, name, to);
  to = PutBytesHead(field::FieldsEntry::kValue, value_size, to);
  PutBytes(field::Value::kStringValue, text, to);
}

std::string WriteAttributeRecord(std::string_view filter, std::string_view fields) {
  constexpr size_t kHeads = 24;
  std::string record;
  record.reserve(filter.size() + fields.size() + kHeads);
  AppendMapEntry(field::ProcessingRequest::kAttributes, filter, fields, &record);
  return record;
}

}  // namespace callout::host
