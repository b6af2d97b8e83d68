// SPDX-License-Identifier: Apache-2.0

#include "host/tester/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>

#include "absl/strings/str_replace.h"
#include "host/base/log.h"

namespace callout::host {
namespace {

size_t CountFailed(const std::vector<CaseResult>& results) {
  return static_cast<size_t>(std::count_if(results.begin(), results.end(), [](const auto& result) {
    return !result.differences.empty();
  }));
}

size_t CountSkipped(const std::vector<CaseResult>& results) {
  return static_cast<size_t>(std::count_if(
      results.begin(), results.end(), [](const auto& result) { return !result.skipped.empty(); }));
}

// Control characters are none of XML's.
std::string Xml(std::string_view text) {
  return absl::StrReplaceAll(EscapeControls(text),
                             {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

}  // namespace

std::string FailureText(const CaseResult& result) {
  std::string text;
  for (const CaseDifference& difference : result.differences) {
    text += fmt::format("{}:{}: {}: {}\n", result.file, difference.line,
                        EscapeControls(result.name), difference.text);
  }
  return text;
}

std::string SummaryText(const std::vector<CaseResult>& results) {
  const size_t failed = CountFailed(results), skipped = CountSkipped(results);
  return fmt::format("{} passed, {} failed{}", results.size() - failed - skipped, failed,
                     skipped == 0 ? "" : fmt::format(", {} skipped", skipped));
}

std::string JunitXml(const std::vector<CaseResult>& results) {
  std::map<std::string, std::vector<CaseResult>> by_file;
  for (const CaseResult& result : results) by_file[result.file].push_back(result);
  std::string xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n";
  for (const auto& [file, cases] : by_file) {
    xml += fmt::format("  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">\n",
                       Xml(file), cases.size(), CountFailed(cases), CountSkipped(cases));
    for (const CaseResult& result : cases) {
      xml += fmt::format(
          "    <testcase name=\"{}\" classname=\"{}\" file=\"{}\" line=\"{}\" "
          "time=\"{:.6f}\"",
          Xml(result.name), Xml(file), Xml(file), result.line, result.milliseconds / 1000);
      if (!result.skipped.empty()) {
        xml += fmt::format(">\n      <skipped message=\"{}\"/>\n    </testcase>\n",
                           Xml(result.skipped));
        continue;
      }
      if (result.differences.empty()) {
        xml += "/>\n";
        continue;
      }
      xml += fmt::format(">\n      <failure message=\"{}\">{}</failure>\n    </testcase>\n",
                         Xml(result.differences[0].text), Xml(FailureText(result)));
    }
    xml += "  </testsuite>\n";
  }
  return xml + "</testsuites>\n";
}

std::string JsonReport(const std::vector<CaseResult>& results) {
  const size_t failed = CountFailed(results), skipped = CountSkipped(results);
  nlohmann::json json = {
      {"passed", results.size() - failed - skipped}, {"failed", failed}, {"skipped", skipped}};
  json["cases"] = nlohmann::json::array();
  for (const CaseResult& result : results) {
    nlohmann::json differences = nlohmann::json::array();
    for (const CaseDifference& difference : result.differences) {
      differences.push_back({{"line", difference.line}, {"text", difference.text}});
    }
    json["cases"].push_back({{"file", result.file},
                             {"line", result.line},
                             {"name", result.name},
                             {"passed", result.differences.empty() && result.skipped.empty()},
                             {"skipped", result.skipped},
                             {"milliseconds", result.milliseconds},
                             {"differences", differences}});
  }
  // A file's name may not be UTF-8.
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace callout::host
