// SPDX-License-Identifier: Apache-2.0

// Options from the command line, the environment or a file, in this order of
// precedence. CLI11 reads the command line and the file.
//
//   OptionSet options("callout-host", "CALLOUT_");
//   options.Add({.name = "log_level", .group = "Logging", .value = "LEVEL",
//                .default_text = "info", .help = "…", .set = [&](const std::string& text) {…}});
//   absl::Status status = options.Parse(argc, argv, environ);
//
// On the command line: --log_level=debug, --log_level debug, --log-level=debug.
// In the environment: CALLOUT_LOG_LEVEL=debug. A repeatable option takes one value
// per line; an empty variable counts as unset. A name that is close to an option's
// name only produces a warning, because others set such variables, too (Kubernetes
// sets CALLOUT_PORT for a service named "callout").
// In the file (option "config"): log_level = debug, one per line; repeat the line of
// a repeatable option. The text after the equals sign is the value, without quotes
// around all of it; a line without one is an error. Lines that begin with # or ; are comments.
//
// All values of an option come from one source, the first that has any. If an option
// that is not repeatable is given twice, the last value counts.
//
// An option that was renamed lists its old names as aliases. An alias works wherever
// the name does; --help, errors and Given() only show the name.
//
// Single-threaded; for the start of the process.
//
// Tested by tests/host/config/config_test.cc.
#ifndef CALLOUT_HOST_CONFIG_OPTIONS_H_
#define CALLOUT_HOST_CONFIG_OPTIONS_H_

#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace callout::host {

class OptionSet {
 public:
  struct Option {
    std::string name;                       // with underscores
    std::vector<std::string> aliases = {};  // old names, with underscores
    std::string group;
    std::string value;  // what --help calls the value; "" for a switch
    std::string default_text;
    std::string help;
    bool repeatable = false;
    bool command_line_only = false;
    // Only the supervisor reads it (it may read files); left out of Given().
    bool supervisor_only = false;
    bool positional = false;  // given on the command line without its name
    bool secret = false;      // errors do not quote its values
    // Called with each value. A switch gets "true" or "false". An error says what was
    // found and what is expected; the source and the value are put before it.
    std::function<absl::Status(const std::string& value)> set;
  };

  // As environ: texts NAME=VALUE, then null.
  using Environment = const char* const*;
  static constexpr const char* const kNoEnvironment[] = {nullptr};

  OptionSet(std::string program, std::string description, std::string environment_prefix);

  void Add(Option option) { options_.push_back(std::move(option)); }

  // Calls `set` for every value of every option, in the order of Add. The option
  // named "config" names the file. Errors are INVALID_ARGUMENT, in one line.
  absl::Status Parse(int argc, const char* const* argv, Environment environment);

  // After Parse: a command line that gives the same values again, whatever their
  // source. Leaves out "config", supervisor_only and command_line_only options.
  const std::vector<std::string>& Given() const { return given_; }

  // One value that is in force.
  struct Setting {
    std::string name;
    std::string value;   // "…" in place of what is secret
    std::string source;  // "command line", "environment CALLOUT_X", the file's path, or "default"
    std::string help;
  };
  // After Parse: every option that is not command_line_only, in the order of Add; a repeatable one
  // once for each value.
  const std::vector<Setting>& InForce() const { return in_force_; }

  // After Parse: whether the option of this name was given on the command line, which other users
  // of the machine can read.
  bool IsOnCommandLine(const std::string& name) const { return on_command_line_.count(name) > 0; }

  // After Parse: likely mistakes, one line each, for the log.
  const std::vector<std::string>& Warnings() const { return warnings_; }

  // The options by group, with their defaults.
  std::string Help() const;

 private:
  struct Value {
    std::string source;  // "--x=1", "VALUE 1", "CALLOUT_X=1", "FILE: x = 1"
    std::string text;
    std::string place;  // "command line", "environment CALLOUT_X", FILE
  };
  using Values = std::map<std::string, std::vector<Value>>;  // by option name

  // By name or alias; null if there is none.
  const Option* Find(std::string_view name) const;
  std::string WithNames(const std::string& argument) const;
  absl::Status CheckHasValue(const std::string& argument, const char* next) const;
  std::string_view NearestOption(std::string_view name, size_t letters_max,
                                 bool (*may_stand_there)(const Option&)) const;
  std::string QuotedValue(const Option& option, std::string_view text) const;
  std::string QuotedStray(std::string_view argument, int argc, const char* const* argv) const;
  std::string WhatInstead(std::string_view name, bool in_file) const;
  absl::StatusOr<Values> ReadCommandLine(int argc, const char* const* argv) const;
  std::string VariableOf(std::string_view option) const;  // "CALLOUT_LOG_LEVEL" of "log_level"
  std::vector<Value> ReadVariable(const Option& option, std::string_view text) const;
  // Adds the variables of those options that `values` has no value for.
  void ReadEnvironment(Environment environment, Values* values);
  void Warn(std::string_view variable);
  void NoteInForce(const Option& option, const std::vector<Value>* values);
  absl::StatusOr<Values> ReadFile(const std::string& path) const;

  const std::string program_;
  const std::string description_;
  const std::string prefix_;
  std::vector<Option> options_;
  std::set<std::string> on_command_line_;
  std::vector<std::string> given_;
  std::vector<std::string> warnings_;
  std::vector<Setting> in_force_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_CONFIG_OPTIONS_H_
