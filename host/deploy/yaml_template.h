// SPDX-License-Identifier: Apache-2.0

// Fills a text that has {{name}} where a value belongs. Templates stay YAML that people
// can read, with the comments that say why.
//
//   FillTemplate("timeout: {{timeout}}  # {{why}}\n", {{"timeout", "1s"}, {"why", "…"}})
//
// - A value of several lines is indented as its first line is.
// - A line with a value that is empty, or that `values` does not have, is left out, and
//   the comment lines right above it are as well, unless it is nothing but the marker.
//
// A plain function; any thread.
#ifndef CALLOUT_HOST_DEPLOY_YAML_TEMPLATE_H_
#define CALLOUT_HOST_DEPLOY_YAML_TEMPLATE_H_

#include <map>
#include <string>
#include <string_view>

namespace callout::host {

using TemplateValues = std::map<std::string, std::string, std::less<>>;

std::string FillTemplate(std::string_view text, const TemplateValues& values);

// A text as one YAML scalar, quoted where it could be read as anything else.
std::string YamlScalar(std::string_view text);

}  // namespace callout::host

#endif  // CALLOUT_HOST_DEPLOY_YAML_TEMPLATE_H_
