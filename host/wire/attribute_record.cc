// SPDX-License-Identifier: Apache-2.0

#include "host/wire/attribute_record.h"

#include "host/wire/field_numbers.h"
#include "host/wire/wire.h"

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
  std::string value;
  AppendBytes(field::Value::kStringValue, text, &value);
  AppendMapEntry(field::Struct::kFields, name, value, fields);
}

std::string WriteAttributeRecord(std::string_view filter, std::string_view fields) {
  std::string record;
  AppendMapEntry(field::ProcessingRequest::kAttributes, filter, fields, &record);
  return record;
}

}  // namespace callout::host
