// SPDX-License-Identifier: Apache-2.0

// Whom requests are sent on to.
//
//   const std::vector<Provider> providers = ReadProviders(&config, &setup);   // throws
//   const Provider* provider = Choose(providers, "gpt-4o");
//
// Read once; any thread afterwards.
#ifndef CALLOUT_PLUGINS_AI_GATEWAY_PROVIDERS_H_
#define CALLOUT_PLUGINS_AI_GATEWAY_PROVIDERS_H_

#include <callout/plugin.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "support/json_config.hpp"

namespace ai_gateway {

enum class Shape { kOpenai, kAnthropic };

struct Provider {
  std::string name;                 // [a-z][a-z0-9_]*, also in the names of its metrics
  std::vector<std::string> models;  // prefixes
  Shape shape = Shape::kOpenai;
  std::string host;
  std::string path;
  std::string credential_header;
  std::string credential;  // the header's value; "": the provider wants none
  int64_t max_tokens = 0;  // where a shape wants them and the client sets none
  callout::Counter requests;
  callout::Counter prompt_tokens;
  callout::Counter completion_tokens;
};

inline constexpr size_t kProvidersMax = 16;  // metrics are limited

// Throws std::invalid_argument with what is wrong.
std::vector<Provider> ReadProviders(callout::plugins::JsonConfig* config, callout::Setup* setup);

// The one with the longest prefix of `model`; null if there is none.
const Provider* Choose(const std::vector<Provider>& providers, std::string_view model);

}  // namespace ai_gateway

#endif  // CALLOUT_PLUGINS_AI_GATEWAY_PROVIDERS_H_
