// Options that may come from the command line, the environment or a file, in
// this order of precedence; CLI11 reads the first and the last.
//
//   OptionSet options("callout-host", "CALLOUT_");
//   options.Add({.name = "log_level", .group = "Logging", .value = "LEVEL",
//                .default_text = "info", .help = "…", .set = [&](const std::string& text) {…}});
//   absl::Status status = options.Parse(argc, argv, environ);
//
// On the command line: --log_level=debug, --log_level debug, --log-level=debug.
// In the environment: CALLOUT_LOG_LEVEL=debug; the values of a repeatable option
// stand on lines of their own, and an empty variable is as good as none. A name that
// is almost an option's is doubtful, no error: others put variables there, too (for a
// service named "callout" Kubernetes sets CALLOUT_PORT).
// In the file (option "config"): log_level = debug, one a line, repeatable ones
// repeated; what follows the equals sign is the value as it stands, but for
// quotes around all of it. Lines that begin with # or ; are comments.
//
// The values of one option all come from one source, the first that has any.
// Where an option that is not repeatable is given twice, the last value counts.
//
// For one thread, at the start.
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
    std::string name;  // with underscores
    std::string group;
    std::string value;  // how --help calls the value; "" for a switch
    std::string default_text;
    std::string help;
    bool repeatable = false;
    bool command_line_only = false;
    // Reads files while it is set, or is of no use to a process that is told what
    // was read: left out of Given().
    bool supervisor_only = false;
    bool positional = false;  // stands on the command line without its name
    bool secret = false;      // errors do not quote its values
    // Told each value. A switch gets "true" or "false". An error says what was
    // found and what is expected; the source and the value are put before it.
    std::function<absl::Status(const std::string& value)> set;
  };

  // As environ: texts NAME=VALUE, then null.
  using Environment = const char* const*;
  static constexpr const char* const kNoEnvironment[] = {nullptr};

  OptionSet(std::string program, std::string description, std::string environment_prefix);

  void Add(Option option) { options_.push_back(std::move(option)); }

  // Calls `set` for every value of every option, in the order of Add. An option
  // of the name "config" names the file. INVALID_ARGUMENT in one line.
  absl::Status Parse(int argc, const char* const* argv, Environment environment);

  // After Parse: what was given, wherever it stood, as a command line that gives the
  // same again. Without "config" and the options that say so of themselves.
  const std::vector<std::string>& Given() const { return given_; }

  // After Parse: whether the option of this name was given on the command line, which other users
  // of the machine can read.
  bool IsOnCommandLine(const std::string& name) const { return on_command_line_.count(name) > 0; }

  // After Parse: what may be a mistake, each in a line for the log.
  const std::vector<std::string>& Warnings() const { return warnings_; }

  // The options by group, with their defaults.
  std::string Help() const;

 private:
  struct Value {
    std::string source;  // "--x=1", "VALUE 1", "CALLOUT_X=1", "FILE: x = 1"
    std::string text;
  };
  using Values = std::map<std::string, std::vector<Value>>;  // by option name

  absl::Status CheckHasValue(const std::string& argument, const char* next) const;
  std::string_view NearestOption(std::string_view name, size_t letters_max,
                                 bool (*may_stand_there)(const Option&)) const;
  std::string QuotedValue(const Option& option, std::string_view text) const;
  std::string QuotedStray(std::string_view argument, int argc, const char* const* argv) const;
  std::string WhatInstead(std::string_view name, bool in_file) const;
  absl::StatusOr<Values> ReadCommandLine(int argc, const char* const* argv) const;
  std::string VariableOf(std::string_view option) const;  // "CALLOUT_LOG_LEVEL" of "log_level"
  std::vector<Value> ReadVariable(const Option& option, std::string_view text) const;
  // Adds what stands in the environment of options that `values` has nothing of.
  void ReadEnvironment(Environment environment, Values* values);
  void Warn(std::string_view variable);
  absl::StatusOr<Values> ReadFile(const std::string& path) const;

  const std::string program_;
  const std::string description_;
  const std::string prefix_;
  std::vector<Option> options_;
  std::set<std::string> on_command_line_;
  std::vector<std::string> given_;
  std::vector<std::string> warnings_;
};

}  // namespace callout::host

#endif  // CALLOUT_HOST_CONFIG_OPTIONS_H_
