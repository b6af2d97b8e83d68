// SPDX-License-Identifier: Apache-2.0

#include "host/config/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <sstream>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "host/base/file.h"
#include "host/base/nearest_name.h"
#include "host/base/status_text.h"

namespace callout::host {
namespace {

// Errors quote so much of a value, since a plugin's configuration may be long.
constexpr size_t kQuotedBytesMax = 200;

// The largest file of options. It may have the configurations of plugins.
constexpr size_t kFileBytesMax = size_t{16} << 20;

// A variable whose name is at most this many letters away from an option's is likely
// misspelled. Others may have variables of their own that share our prefix.
constexpr size_t kTypoLettersMax = 2;

std::string Quoted(std::string_view text) {
  if (text.size() <= kQuotedBytesMax) return std::string(text);
  return fmt::format("{}…", text.substr(0, kQuotedBytesMax));
}

bool IsLikeAName(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-';
  });
}

// Dashes in the name of an option to underscores.
std::string WithUnderscores(const std::string& argument) {
  if (!argument.starts_with("--")) return argument;
  const size_t end = std::min(argument.find('='), argument.size());
  std::string result = argument;
  std::replace(result.begin() + 2, result.begin() + static_cast<std::ptrdiff_t>(end), '-', '_');
  return result;
}

// "log_level" of "--log_level=info"; "" if it does not begin with "--".
std::string_view NameIn(std::string_view argument) {
  if (!argument.starts_with("--")) return {};
  return argument.substr(2, argument.find('=') - 2);
}

bool MayStandInFile(const OptionSet::Option& option) {
  return !option.command_line_only && option.name != "config";
}

bool MayStandInEnvironment(const OptionSet::Option& option) { return !option.command_line_only; }

bool MayStandOnCommandLine(const OptionSet::Option& option) { return !option.positional; }

// CLI11's name of an option.
std::string NameOf(const OptionSet::Option& option) {
  return option.positional ? option.name : "--" + option.name;
}

// One line for each option, "  --name VALUE=DEFAULT  help", as the pages, the manual pages and the
// tests read it. CLI11's own lines are not the same in each of its releases.
class HelpLines : public CLI::Formatter {
 public:
  std::string make_option(const CLI::Option* option, bool is_positional) const override {
    std::string line = "  " + make_option_name(option, is_positional);
    if (option->get_type_size() != 0) {  // else a flag
      line += " " + option->get_type_name();
      if (!option->get_default_str().empty()) line += "=" + option->get_default_str();
    }
    const size_t width = get_column_width();
    if (line.size() >= width) line += "\n" + std::string(width, ' ');
    line.resize(std::max(line.size(), width), ' ');
    return line + option->get_description() + "\n";
  }
};

// All options for CLI11; values stay texts.
std::unique_ptr<CLI::App> MakeApp(const std::string& program, const std::string& description,
                                  const std::vector<OptionSet::Option>& options) {
  auto app = std::make_unique<CLI::App>(description, program);
  app->set_help_flag();
  const auto lines = std::make_shared<HelpLines>();
  lines->column_width(44);
  app->formatter(lines);
  for (const OptionSet::Option& option : options) {
    const std::string name = NameOf(option);
    if (option.value.empty()) {
      app->add_flag(name)->description(option.help)->group(option.group);
      continue;
    }
    app->add_option(name, [](const CLI::results_t&) { return true; })
        ->description(option.help)
        ->group(option.group)
        ->type_name(option.value)
        ->default_str(option.default_text)
        // One value for each occurrence, and "[a, b]" is one value. All arguments without a name
        // are one occurrence.
        ->expected(1)
        ->allow_extra_args(option.positional && option.repeatable)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }
  return app;
}

// CLI11's reader of "name = value" lines. Its separators are replaced by characters
// that no text file contains, so that it never splits a value.
CLI::ConfigBase MakeFileReader() {
  CLI::ConfigBase reader;
  reader.arrayBounds('\x01', '\x02')
      ->arrayDelimiter('\x03')
      ->comment('\x04')
      ->parentSeparator('\x05');
  return reader;
}

}  // namespace

OptionSet::OptionSet(std::string program, std::string description, std::string environment_prefix)
    : program_(std::move(program)),
      description_(std::move(description)),
      prefix_(std::move(environment_prefix)) {}

const OptionSet::Option* OptionSet::Find(std::string_view name) const {
  const auto found = std::find_if(options_.begin(), options_.end(), [&](const Option& option) {
    return option.name == name ||
           std::find(option.aliases.begin(), option.aliases.end(), name) != option.aliases.end();
  });
  return found == options_.end() ? nullptr : &*found;
}

// "--secure-address=a-b" to "--secure_address=a-b", and an alias to the option's name.
std::string OptionSet::WithNames(const std::string& argument) const {
  std::string result = WithUnderscores(argument);
  const std::string_view name = NameIn(result);
  const Option* option = name.empty() ? nullptr : Find(name);
  if (option == nullptr || option->name == name) return result;
  return fmt::format("--{}{}", option->name, std::string_view(result).substr(2 + name.size()));
}

// Without this check CLI11 would take the next option for the value.
absl::Status OptionSet::CheckHasValue(const std::string& argument, const char* next) const {
  const bool empty = argument.starts_with("--") && argument.find('=') == argument.size() - 1;
  const bool without =
      (next == nullptr || *next == '\0' || std::string_view(next).starts_with("--")) &&
      std::any_of(options_.begin(), options_.end(), [&](const Option& option) {
        return !option.value.empty() && argument == "--" + option.name;
      });
  if (!empty && !without) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format("{}: no value; expected --OPTION=VALUE", argument));
}

// The option whose name or alias differs by at most so many letters; "" if there is none.
std::string_view OptionSet::NearestOption(std::string_view name, size_t letters_max,
                                          bool (*may_stand_there)(const Option&)) const {
  std::vector<std::string_view> known;
  for (const Option& option : options_) {
    if (!may_stand_there(option)) continue;
    known.push_back(option.name);
    known.insert(known.end(), option.aliases.begin(), option.aliases.end());
  }
  const std::string_view nearest = NearestName(name, known, letters_max);
  return nearest.empty() ? nearest : std::string_view(Find(nearest)->name);
}

// A value for an error. Of a secret option only the plugin's name is shown.
std::string OptionSet::QuotedValue(const Option& option, std::string_view text) const {
  if (!option.secret) return Quoted(text);
  const size_t equals = text.find('=');
  const std::string_view name = text.substr(0, equals);
  const bool named = equals != std::string_view::npos && IsLikeAName(name);
  return named ? fmt::format("{}=…", Quoted(name)) : "…";
}

// An unknown argument, for an error. It may be a secret: the value of a misspelt option, or a part
// of a value that the shell has split.
std::string OptionSet::QuotedStray(std::string_view argument, int argc,
                                   const char* const* argv) const {
  if (argument.starts_with("--")) {
    const std::string_view name = argument.substr(0, argument.find('='));
    return name == argument ? fmt::format("'{}'", Quoted(name))
                            : fmt::format("'{}=…'", Quoted(name));
  }
  bool has_secrets = false;
  for (int i = 1; i < argc; ++i) {
    const std::string given = WithUnderscores(argv[i]);
    for (const Option& option : options_) {
      has_secrets = has_secrets || (option.secret && NameIn(given) == option.name);
    }
  }
  const bool is_word = std::all_of(argument.begin(), argument.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
           std::string_view("_-./,:").find(c) != std::string_view::npos;
  });
  if (is_word && !has_secrets) return fmt::format("'{}'", Quoted(argument));
  return fmt::format("an argument of {} bytes", argument.size());
}

// What to do about an unknown option of this name.
std::string OptionSet::WhatInstead(std::string_view name, bool in_file) const {
  const std::string_view nearest =
      NearestOption(name, (name.size() + 1) / 3, in_file ? MayStandInFile : MayStandOnCommandLine);
  if (nearest.empty()) return "--help lists the options";
  return fmt::format("did you mean {}{}?", in_file ? "" : "--", nearest);
}

absl::StatusOr<OptionSet::Values> OptionSet::ReadCommandLine(int argc,
                                                             const char* const* argv) const {
  std::vector<std::string> arguments;
  for (int i = 1; i < argc; ++i) {
    arguments.push_back(WithNames(argv[i]));
    if (absl::Status status = CheckHasValue(arguments.back(), i + 1 < argc ? argv[i + 1] : nullptr);
        !status.ok()) {
      return status;
    }
  }
  const auto app = MakeApp(program_, description_, options_);
  std::reverse(arguments.begin(), arguments.end());  // the order that CLI11 expects
  try {
    app->parse(std::move(arguments));
  } catch (const CLI::ExtrasError&) {
    const std::string argument = app->remaining().front();
    const bool is_option = argument.starts_with('-') && argument != "--";
    return absl::InvalidArgumentError(
        fmt::format("{} {}; {}", is_option ? "unknown option" : "unexpected argument",
                    QuotedStray(argument, argc, argv), WhatInstead(NameIn(argument), false)));
  } catch (const CLI::Error& error) {
    return absl::InvalidArgumentError(fmt::format("{}; --help lists the options", error.what()));
  }
  Values values;
  for (const Option& option : options_) {
    for (const std::string& text : app->get_option(NameOf(option))->results()) {
      const std::string quoted = QuotedValue(option, text);
      std::string source = option.positional ? fmt::format("{} {}", option.value, quoted)
                                             : fmt::format("--{}={}", option.name, quoted);
      values[option.name].push_back({std::move(source), text, "command line"});
    }
  }
  return values;
}

std::string OptionSet::VariableOf(std::string_view option) const {
  return prefix_ + absl::AsciiStrToUpper(std::string(option));
}

std::vector<OptionSet::Value> OptionSet::ReadVariable(const Option& option,
                                                      std::string_view text) const {
  std::vector<Value> values;
  const auto add = [&](std::string_view value) {
    if (value.empty()) return;
    values.push_back({fmt::format("{}={}", VariableOf(option.name), QuotedValue(option, value)),
                      std::string(value), fmt::format("environment {}", VariableOf(option.name))});
  };
  if (!option.repeatable) {
    add(text);
  } else {
    const std::vector<std::string> lines = absl::StrSplit(std::string(text), '\n');
    for (const std::string& line : lines) add(line);
  }
  return values;
}

void OptionSet::ReadEnvironment(Environment environment, Values* values) {
  Values by_alias;
  for (; *environment != nullptr; ++environment) {
    const std::string_view variable = *environment;
    const size_t equals = variable.find('=');
    if (!variable.starts_with(prefix_) || equals == std::string_view::npos) continue;
    const std::string_view name = variable.substr(0, equals);
    const std::string option_name = absl::AsciiStrToLower(std::string(name.substr(prefix_.size())));
    const Option* option = Find(option_name);
    if (option == nullptr || !MayStandInEnvironment(*option) || VariableOf(option_name) != name) {
      Warn(name);
      continue;
    }
    std::vector<Value> found = ReadVariable(*option, variable.substr(equals + 1));
    if (found.empty()) continue;
    (option->name == option_name ? *values : by_alias).emplace(option->name, std::move(found));
  }
  values->merge(by_alias);  // values that are there already stay
}

// About a variable with our prefix whose name is close to an option's.
void OptionSet::Warn(std::string_view variable) {
  const std::string name = absl::AsciiStrToLower(std::string(variable.substr(prefix_.size())));
  const std::string_view nearest = NearestOption(name, kTypoLettersMax, MayStandInEnvironment);
  if (nearest.empty()) return;
  warnings_.push_back(fmt::format("environment variable {} is not an option; did you mean {}?",
                                  Quoted(variable), VariableOf(nearest)));
}

absl::StatusOr<OptionSet::Values> OptionSet::ReadFile(const std::string& path) const {
  absl::StatusOr<std::string> text = host::ReadFile(path, kFileBytesMax);
  if (!text.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("cannot read the options from {}: {}", path, MessageOf(text.status())));
  }
  std::istringstream stream(*std::move(text));
  std::vector<CLI::ConfigItem> items;
  try {
    items = MakeFileReader().from_config(stream);
  } catch (const CLI::Error& error) {
    return absl::InvalidArgumentError(
        fmt::format("cannot read the options from {}: {}", path, error.what()));
  }
  Values values;
  for (const CLI::ConfigItem& item : items) {
    if (!item.parents.empty()) {
      return absl::InvalidArgumentError(
          fmt::format("{}: section [{}]: expected only lines of the form name = value", path,
                      item.parents.front()));
    }
    const std::string name = absl::StrReplaceAll(item.name, {{"-", "_"}});
    const Option* known = Find(name);
    if (known == nullptr || !MayStandInFile(*known)) {
      // If it is not like a name, it may be a part of a value on a line of its own.
      if (!IsLikeAName(name)) {
        return absl::InvalidArgumentError(fmt::format(
            "{}: a line is not of the form name = value; a value has to be on one line", path));
      }
      return absl::InvalidArgumentError(fmt::format("{}: unknown option '{}'; {}", path,
                                                    Quoted(item.name), WhatInstead(name, true)));
    }
    for (const std::string& text : item.inputs) {
      // A template writes such a line if its variable is not set. What the option would have said,
      // as which clients are let in, would be lost in silence.
      if (text.empty()) {
        return absl::InvalidArgumentError(fmt::format(
            "{}: {}: no value; expected a line name = value, or none", path, known->name));
      }
      values[known->name].push_back(
          {fmt::format("{}: {} = {}", path, known->name, QuotedValue(*known, text)), text, path});
    }
  }
  return values;
}

absl::Status OptionSet::Parse(int argc, const char* const* argv, Environment environment) {
  absl::StatusOr<Values> values = ReadCommandLine(argc, argv);
  if (!values.ok()) return values.status();
  for (const auto& [name, list] : *values) on_command_line_.insert(name);
  ReadEnvironment(environment, &*values);
  if (const auto config = values->find("config"); config != values->end()) {
    absl::StatusOr<Values> from_file = ReadFile(config->second.back().text);
    if (!from_file.ok()) return from_file.status();
    values->merge(*from_file);  // values that are there already stay
  }
  for (const Option& option : options_) {
    const auto found = values->find(option.name);
    if (found == values->end()) {
      NoteInForce(option, nullptr);
      continue;
    }
    std::vector<Value>& list = found->second;
    if (!option.repeatable) list.erase(list.begin(), list.end() - 1);
    NoteInForce(option, &list);
    for (const Value& value : list) {
      if (absl::Status status = option.set(value.text); !status.ok()) {
        return absl::Status(status.code(), fmt::format("{}: {}", value.source, MessageOf(status)));
      }
      const bool again = !option.command_line_only && !option.supervisor_only;
      if (again && option.name != "config" && !value.text.empty()) {
        given_.push_back(fmt::format("--{}={}", option.name, value.text));
      }
    }
  }
  return absl::OkStatus();
}

void OptionSet::NoteInForce(const Option& option, const std::vector<Value>* values) {
  if (option.command_line_only) return;
  if (values == nullptr) {
    std::string value = option.value.empty() ? "false" : option.default_text;
    in_force_.push_back({option.name, std::move(value), "default", option.help});
    return;
  }
  for (const Value& value : *values) {
    in_force_.push_back({option.name, QuotedValue(option, value.text), value.place, option.help});
  }
}

std::string OptionSet::Help() const { return MakeApp(program_, description_, options_)->help(); }

}  // namespace callout::host
