// SPDX-License-Identifier: Apache-2.0

#include "providers.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <utility>

namespace ai_gateway {
namespace {

using callout::plugins::JsonConfig;

constexpr size_t kCredentialBytesMax = 8192;

// [a-z][a-z0-9]*, and `separator` within.
bool IsName(std::string_view name, char separator) {
  const auto is_letter = [](char c) { return c >= 'a' && c <= 'z'; };
  return !name.empty() && is_letter(name.front()) &&
         std::all_of(name.begin(), name.end(), [&](char c) {
           return is_letter(c) || (c >= '0' && c <= '9') || c == separator;
         });
}

// Printable ASCII without blanks: hosts, paths, credentials.
bool IsWord(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

std::string Word(JsonConfig* config, const std::string& key, std::string fallback) {
  std::string word = fallback.empty() ? config->text(key) : config->text(key, std::move(fallback));
  if (!IsWord(word)) config->refuse(key, "must be characters of ASCII without blanks");
  return word;
}

// The first line of the file.
std::string ReadCredential(const JsonConfig& config, const std::string& path) {
  std::ifstream file(path);
  if (!file) config.refuse("credential_path", "cannot read " + path + ": " + std::strerror(errno));
  std::string line(kCredentialBytesMax, '\0');
  file.read(line.data(), static_cast<std::streamsize>(line.size()));
  line.resize(static_cast<size_t>(file.gcount()));
  const size_t end = line.find_first_of("\r\n");
  if (end == std::string::npos && line.size() == kCredentialBytesMax) {
    config.refuse("credential_path", path + " begins with a line of more than " +
                                         std::to_string(kCredentialBytesMax - 1) + " bytes");
  }
  line.resize(std::min(line.size(), end));
  if (!IsWord(line)) config.refuse("credential_path", path + " does not begin with a credential");
  return line;
}

std::string CredentialOf(JsonConfig* config) {
  const std::optional<std::string> path = config->optional_text("credential_path");
  const std::optional<std::string> text = config->optional_text("credential");
  if (path.has_value() && text.has_value()) {
    config->refuse("credential", "and \"credential_path\" exclude each other");
  }
  if (path.has_value()) return ReadCredential(*config, *path);
  if (text.has_value() && !IsWord(*text)) {
    config->refuse("credential", "must be characters of ASCII without blanks");
  }
  return text.value_or("");
}

Shape ShapeOf(JsonConfig* config) {
  const std::string shape = config->text("shape", "openai");
  if (shape == "openai") return Shape::kOpenai;
  if (shape != "anthropic") config->refuse("shape", R"(must be "openai" or "anthropic")");
  return Shape::kAnthropic;
}

Provider ReadProvider(JsonConfig* config) {
  Provider provider;
  provider.name = config->text("name");
  if (!IsName(provider.name, '_')) config->refuse("name", "must be like [a-z][a-z0-9_]*");
  provider.models = config->texts("models");
  provider.shape = ShapeOf(config);
  const bool is_openai = provider.shape == Shape::kOpenai;
  provider.host = Word(config, "host", "");
  provider.path = Word(config, "path", is_openai ? "/v1/chat/completions" : "/v1/messages");
  provider.credential_header =
      config->text("credential_header", is_openai ? "authorization" : "x-api-key");
  if (!IsName(provider.credential_header, '-')) {
    config->refuse("credential_header", "must be like [a-z][a-z0-9-]*");
  }
  provider.credential = CredentialOf(config);
  if (!provider.credential.empty() && provider.credential_header == "authorization") {
    provider.credential.insert(0, "Bearer ");
  }
  provider.max_tokens =
      config->integer("max_tokens", {.fallback = 4096, .min = 1, .max = INT32_MAX});
  config->done();
  return provider;
}

}  // namespace

std::vector<Provider> ReadProviders(JsonConfig* config, callout::Setup* setup) {
  std::vector<Provider> providers;
  std::set<std::string> names;
  std::set<std::string> models;
  for (JsonConfig& item : config->objects("providers")) {
    Provider provider = ReadProvider(&item);
    if (!names.insert(provider.name).second) item.refuse("name", "is there twice");
    if (provider.models.empty()) item.refuse("models", "must name at least one");
    for (const std::string& model : provider.models) {
      if (!models.insert(model).second) item.refuse("models", "names \"" + model + "\" again");
    }
    const std::string prefix = "ai_gateway_" + provider.name;
    provider.requests = setup->counter(prefix + "_requests_total", "Requests sent on");
    provider.prompt_tokens =
        setup->counter(prefix + "_prompt_tokens_total", "Tokens of prompts, as answers tell them");
    provider.completion_tokens = setup->counter(prefix + "_completion_tokens_total",
                                                "Tokens of completions, as answers tell them");
    providers.push_back(std::move(provider));
    if (providers.size() > kProvidersMax) config->refuse("providers", "has more than 16");
  }
  if (providers.empty()) config->refuse("providers", "must have at least one");
  return providers;
}

const Provider* Choose(const std::vector<Provider>& providers, std::string_view model) {
  const Provider* best = nullptr;
  size_t best_size = 0;
  for (const Provider& provider : providers) {
    for (const std::string& prefix : provider.models) {
      if (model.substr(0, prefix.size()) != prefix) continue;
      if (best != nullptr && prefix.size() <= best_size) continue;
      best = &provider;
      best_size = prefix.size();
    }
  }
  return best;
}

}  // namespace ai_gateway
