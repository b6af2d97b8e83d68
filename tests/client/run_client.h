// SPDX-License-Identifier: Apache-2.0

// Runs callout-client until it ends.
#ifndef CALLOUT_TESTS_CLIENT_RUN_CLIENT_H_
#define CALLOUT_TESTS_CLIENT_RUN_CLIENT_H_

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "host_process.h"
#include "tests/host/sockets.h"

namespace callout::tests {

struct ClientRun {
  int exit_status = -1;
  std::vector<std::string> answers;  // standard output, line by line
  std::string said;                  // standard error
};

inline std::string ReadAll(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

inline ClientRun RunClient(std::vector<std::string> arguments, const std::string& input = "") {
  const host::TempDir dir;
  std::ofstream(dir.Path("in"), std::ios::binary) << input;
  // The shell separates the two outputs; the arguments do not pass through it.
  std::vector<std::string> command = {
      "/bin/sh", "-c",         "cd \"$1\" && shift && exec \"$@\" <in >out 2>err",
      "sh",      dir.Path(""), BuiltFile("host/callout-client")};
  command.insert(command.end(), arguments.begin(), arguments.end());
  ClientRun run;
  run.exit_status = ChildProcess(command).AwaitEnd();
  run.said = ReadAll(dir.Path("err"));
  std::istringstream out(ReadAll(dir.Path("out")));
  for (std::string line; std::getline(out, line);) run.answers.push_back(line);
  return run;
}

}  // namespace callout::tests

#endif  // CALLOUT_TESTS_CLIENT_RUN_CLIENT_H_
