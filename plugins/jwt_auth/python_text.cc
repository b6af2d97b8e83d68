// SPDX-License-Identifier: Apache-2.0

#include "python_text.h"

#include <utf8proc.h>

#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

namespace jwt_auth {
namespace {

// What str.isprintable() says no to, but for the space.
bool IsPrintable(utf8proc_int32_t character) {
  switch (utf8proc_category(character)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
      return false;
    default:
      return true;
  }
}

void AppendEscape(utf8proc_int32_t character, std::string* to) {
  const auto code = static_cast<unsigned>(character);
  const char* format = code <= 0xff ? "\\x%02x" : code <= 0xffff ? "\\u%04x" : "\\U%08x";
  std::array<char, 16> text;
  std::snprintf(text.data(), text.size(), format, code);
  to->append(text.data());
}

void AppendCharacter(utf8proc_int32_t character, std::string_view bytes, char quote,
                     std::string* to) {
  if (character == quote || character == '\\') {
    to->append("\\").append(bytes);
  } else if (character == '\n') {
    to->append("\\n");
  } else if (character == '\r') {
    to->append("\\r");
  } else if (character == '\t') {
    to->append("\\t");
  } else if (character == ' ' || IsPrintable(character)) {
    to->append(bytes);
  } else {
    AppendEscape(character, to);
  }
}

// `text` is UTF-8, as ParseJson makes sure.
void AppendQuoted(std::string_view text, std::string* to) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const bool has_double = text.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  to->push_back(quote);
  while (!text.empty()) {
    utf8proc_int32_t character = 0;
    const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
    const utf8proc_ssize_t size =
        utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(text.size()), &character);
    if (size <= 0) break;
    AppendCharacter(character, text.substr(0, static_cast<size_t>(size)), quote, to);
    text.remove_prefix(static_cast<size_t>(size));
  }
  to->push_back(quote);
}

// The shortest digits that read back as the same number, with an exponent from 1e16 on and
// below 1e-4.
void AppendFloat(double value, std::string* to) {
  std::array<char, 32> text;
  char* const begin = text.data();
  char* end = std::to_chars(begin, begin + text.size(), value, std::chars_format::scientific).ptr;
  const std::string scientific(begin, end);
  const int exponent = std::atoi(scientific.c_str() + scientific.find('e') + 1);
  if (exponent < -4 || exponent >= 16) {
    to->append(scientific);
    return;
  }
  end = std::to_chars(begin, begin + text.size(), value, std::chars_format::fixed).ptr;
  const std::string_view fixed(begin, static_cast<size_t>(end - begin));
  to->append(fixed);
  if (fixed.find('.') == std::string_view::npos) to->append(".0");
}

// repr(value). ParseJson limits how deep it goes.
void AppendRepr(const Json& value, std::string* to) {
  std::string_view separator;
  switch (value.type()) {
    case Json::value_t::null:
      to->append("None");
      return;
    case Json::value_t::boolean:
      to->append(value.get<bool>() ? "True" : "False");
      return;
    case Json::value_t::number_float:
      AppendFloat(value.get<double>(), to);
      return;
    case Json::value_t::string:
      AppendQuoted(value.get_ref<const std::string&>(), to);
      return;
    case Json::value_t::array:
      to->push_back('[');
      for (const Json& item : value) {
        to->append(std::exchange(separator, ", "));
        AppendRepr(item, to);
      }
      to->push_back(']');
      return;
    case Json::value_t::object:
      to->push_back('{');
      for (const auto& [name, member] : value.items()) {
        to->append(std::exchange(separator, ", "));
        AppendQuoted(name, to);
        to->append(": ");
        AppendRepr(member, to);
      }
      to->push_back('}');
      return;
    default:  // integers
      to->append(value.is_binary() ? *DigitsOf(value) : value.dump());
  }
}

}  // namespace

std::string PythonText(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  std::string text;
  AppendRepr(value, &text);
  return text;
}

}  // namespace jwt_auth
