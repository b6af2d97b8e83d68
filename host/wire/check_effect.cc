// SPDX-License-Identifier: Apache-2.0

#include "host/wire/check_effect.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "host/base/ascii.h"
#include "host/base/percent.h"
#include "host/base/utf8.h"
#include "host/wire/annotations.h"
#include "host/wire/field_numbers.h"
#include "host/wire/wire.h"

namespace callout::host {

namespace {

// Envoy ignores their removal.
bool IsRemovable(std::string_view name) {
  return !name.empty() && name.front() != ':' && !EqualsIgnoreCase(name, "host");
}

// Envoy keeps a request's "host" as ":authority", and lower-cases names.
std::string PlainName(std::string_view name) {
  return EqualsIgnoreCase(name, "host") ? ":authority" : ToLowerAscii(name);
}

void AppendStatus(int32_t code, std::string_view message, std::string* response) {
  std::string status;
  if (code != 0) AppendVarint(field::Status::kCode, static_cast<uint64_t>(code), &status);
  if (!message.empty()) AppendBytes(field::Status::kMessage, message, &status);
  AppendBytes(field::CheckResponse::kStatus, status, response);
}

struct QueryParameter {
  std::string_view key;
  std::string_view value;
};

std::vector<QueryParameter> ReadQuery(std::string_view path) {
  std::vector<QueryParameter> parameters;
  const size_t mark = path.find('?');
  std::string_view rest = mark == path.npos ? std::string_view() : path.substr(mark + 1);
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('&'), rest.size());
    const std::string_view one = rest.substr(0, end);
    const size_t equals = one.find('=');
    parameters.push_back(
        {one.substr(0, equals), equals == one.npos ? std::string_view() : one.substr(equals + 1)});
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return parameters;
}

// Whether a server reads a key of the client's as `key`, though it is not written as the host
// writes it.
bool IsOtherSpelling(std::string_view written, std::string_view key) {
  if (written.size() < key.size() || written == PercentEncode(key)) return false;
  if (LenientlyDecoded(written) == key) return true;
  std::string form(written);
  std::replace(form.begin(), form.end(), '+', ' ');
  return LenientlyDecoded(form) == key;
}

// The path with the changes made to its query as Envoy makes them: it sorts the keys.
std::string ChangedPath(std::string_view path, const std::vector<std::string_view>& removed,
                        const std::vector<std::pair<std::string, std::string>>& set) {
  std::map<std::string, std::vector<std::string>> parameters;
  for (const QueryParameter& parameter : ReadQuery(path)) {
    parameters[std::string(parameter.key)].emplace_back(parameter.value);
  }
  for (const auto& [key, value] : set) parameters[key] = {value};
  for (std::string_view key : removed) parameters.erase(std::string(key));
  std::string changed(path.substr(0, path.find('?')));
  char before = '?';
  for (const auto& [key, values] : parameters) {
    for (const std::string& value : values) {
      changed.append(fmt::format("{}{}={}", std::exchange(before, '&'), key, value));
    }
  }
  return changed;
}

}  // namespace

std::string JoinHeaderValues(std::string_view name, std::string_view before,
                             std::string_view after) {
  return fmt::format("{}{}{}", before, EqualsIgnoreCase(name, "cookie") ? "; " : ",", after);
}

CheckEffect::CheckEffect(const CheckRequestView* request) : path_(request->path) {
  constexpr size_t kUsuallyAdded = 8;
  headers_.reserve(request->headers.size() + kUsuallyAdded);
  headers_.assign(request->headers.begin(), request->headers.end());
}

std::string_view CheckEffect::Keep(std::string text) {
  if (texts_ == nullptr) texts_ = std::make_shared<std::forward_list<std::string>>();
  const std::string& kept = texts_->emplace_front(std::move(text));
  text_bytes_ += sizeof(kept) + kept.capacity();
  return kept;
}

// --- The request's headers ----------------------------------------------------

bool CheckEffect::Exists(std::string_view name) const {
  return std::any_of(headers_.begin(), headers_.end(), [&](const CheckHeader& header) {
    return EqualsIgnoreCase(header.name, name);
  });
}

CheckEffect::Change& CheckEffect::ChangeOf(std::string_view name) {
  const auto found = std::find_if(changes_.begin(), changes_.end(),
                                  [&](const Change& change) { return change.name == name; });
  if (found != changes_.end()) return *found;
  // As if nothing had been appended yet.
  changes_.push_back({name, Change::Kind::kAppend, {}});
  return changes_.back();
}

void CheckEffect::Set(std::string_view name, std::string_view value) {
  Change& change = ChangeOf(name);
  change.kind = Change::Kind::kSet;
  change.value = value;
  std::erase_if(headers_,
                [&](const CheckHeader& header) { return EqualsIgnoreCase(header.name, name); });
  headers_.push_back({name, value});
  // Envoy changes the query after the headers: what was done to that of another path is over.
  if (name != ":path") return;
  query_.clear();
  other_spellings_.clear();
}

void CheckEffect::Append(std::string_view name, std::string_view value) {
  const auto present =
      std::find_if(headers_.begin(), headers_.end(),
                   [&](const CheckHeader& header) { return EqualsIgnoreCase(header.name, name); });
  if (present == headers_.end()) return Set(name, value);
  present->value = Keep(JoinHeaderValues(name, present->value, value));
  const bool is_new = std::none_of(changes_.begin(), changes_.end(),
                                   [&](const Change& change) { return change.name == name; });
  Change& change = ChangeOf(name);
  change.value = is_new ? value : Keep(JoinHeaderValues(name, change.value, value));
}

// Also one that the host does not know: Envoy may be told to send some headers only.
void CheckEffect::Remove(std::string_view name) {
  Change& change = ChangeOf(name);
  change.kind = Change::Kind::kRemove;
  change.value = {};
  std::erase_if(headers_,
                [&](const CheckHeader& header) { return EqualsIgnoreCase(header.name, name); });
}

void CheckEffect::Apply(const CheckHeaderOption& option) {
  const std::string_view name = Keep(PlainName(option.name));
  const std::string_view value = Keep(std::string(option.value));
  switch (option.action) {
    case HeaderAction::kAppend:
      return Append(name, value);
    case HeaderAction::kAddIfAbsent:
      return Exists(name) ? void() : Set(name, value);
    case HeaderAction::kSet:
      return Set(name, value);
    case HeaderAction::kSetIfExists:
      return Exists(name) ? Set(name, value) : void();
  }
}

// --- The query ----------------------------------------------------------------

void CheckEffect::ChangeQuery(std::string_view key, std::optional<std::string> value) {
  const auto found = std::find_if(query_.begin(), query_.end(),
                                  [&](const QueryChange& change) { return change.key == key; });
  if (found != query_.end()) {
    found->value = std::move(value);
  } else {
    query_.push_back({std::string(key), std::move(value)});
  }
}

std::string_view CheckEffect::path() const {
  for (const CheckHeader& header : headers_) {
    if (header.name == ":path") return header.value;
  }
  return path_;
}

void CheckEffect::RemoveOtherSpellings(const CheckResponseView& ok,
                                       std::vector<QueryChange>* changes) {
  const auto note = [&](const QueryParameter& parameter, std::string_view key) {
    // Envoy shows other bytes in place of those that are not UTF-8, and would refuse them here.
    if (!IsOtherSpelling(parameter.key, key) || !IsUtf8(parameter.key)) return;
    const auto [spelling, is_new] = other_spellings_.emplace(parameter.key);
    if (is_new) changes->push_back({*spelling, {}});
  };
  for (const QueryParameter& parameter : ReadQuery(path())) {
    for (const auto& [key, value] : ok.query_set) note(parameter, key);
    for (std::string_view key : ok.query_remove) note(parameter, key);
  }
}

void CheckEffect::ShowQuery(const std::vector<QueryChange>& changes) {
  std::vector<std::string_view> removed;
  std::vector<std::pair<std::string, std::string>> set;
  for (const QueryChange& change : changes) {
    if (change.value.has_value()) {
      set.emplace_back(change.key, *change.value);
    } else {
      removed.push_back(change.key);
    }
  }
  for (CheckHeader& header : headers_) {
    if (header.name == ":path") header.value = Keep(ChangedPath(header.value, removed, set));
  }
}

// --- Together -----------------------------------------------------------------

std::optional<std::string> CheckEffect::Allow(const CheckResponseView& ok) {
  if (!ok.response_headers.empty()) {
    auto& added = response_headers_.emplace_back();
    for (const CheckHeaderOption& option : ok.response_headers) {
      const CheckHeader header = {Keep(ToLowerAscii(option.name)), Keep(std::string(option.value))};
      added.push_back({header, option.action});
    }
    for (const ResponseChange& change : FoldResponse()) {
      const bool plain =
          change.exists == change.absent && (change.keeps || change.exists.size() < 2);
      const bool if_absent = change.keeps && change.exists.empty() && change.absent.size() == 1;
      const bool if_exists = !change.keeps && change.exists.size() == 1 && change.absent.empty();
      if (plain || if_absent || if_exists) continue;
      response_headers_.pop_back();
      return fmt::format(
          "the chain's changes of the response header '{}' cannot be said in one "
          "CheckResponse",
          change.name);
    }
  }
  changes_request_ = changes_request_ || !ok.headers.empty() || !ok.remove.empty() ||
                     !ok.query_set.empty() || !ok.query_remove.empty();
  // As Envoy does: what is appended comes after what is set, wherever it stands.
  for (const bool appends : {false, true}) {
    for (const CheckHeaderOption& option : ok.headers) {
      if ((option.action == HeaderAction::kAppend) == appends) Apply(option);
    }
  }
  for (std::string_view name : ok.remove) {
    if (IsRemovable(name)) Remove(Keep(ToLowerAscii(name)));
  }
  std::vector<QueryChange> changes;
  for (const auto& [key, value] : ok.query_set) {
    changes.push_back({PercentEncode(key), PercentEncode(value)});
  }
  for (std::string_view key : ok.query_remove) changes.push_back({PercentEncode(key), {}});
  for (const QueryChange& change : changes) ChangeQuery(change.key, change.value);
  if (!changes.empty()) RemoveOtherSpellings(ok, &changes);
  if (!changes.empty()) ShowQuery(changes);
  for (std::string_view metadata : ok.metadata) {
    MergeStructs(metadata_, metadata, &metadata_);
    has_metadata_ = true;
  }
  return std::nullopt;
}

void CheckEffect::AddMetadata(std::string_view records) {
  WireReader reader(records);
  while (reader.Next()) {
    if (!reader.Is(field::CheckResponse::kDynamicMetadata)) continue;
    MergeStructs(metadata_, reader.bytes(), &metadata_);
    has_metadata_ = true;
  }
}

// --- The response's headers ---------------------------------------------------

CheckEffect::ResponseChanges CheckEffect::FoldResponse() const {
  ResponseChanges changes;
  for (auto added = response_headers_.rbegin(); added != response_headers_.rend(); ++added) {
    for (const auto& [header, action] : *added) {
      auto change = std::find_if(changes.begin(), changes.end(),
                                 [name = header.name](const auto& c) { return c.name == name; });
      if (change == changes.end()) {
        changes.push_back({std::string(header.name), true, {}, {}});
        change = changes.end() - 1;
      }
      const bool is_there = change->keeps || !change->exists.empty();
      switch (action) {
        case HeaderAction::kAppend:
          // Envoy appends before it sets, so that the two cannot be said of one header.
          if (!change->keeps && !change->absent.empty() && header.name != "set-cookie") {
            change->exists.back() =
                JoinHeaderValues(header.name, change->exists.back(), header.value);
            change->absent.back() =
                JoinHeaderValues(header.name, change->absent.back(), header.value);
            break;
          }
          change->exists.emplace_back(header.value);
          change->absent.emplace_back(header.value);
          break;
        case HeaderAction::kSet:
          change->keeps = false;
          change->exists = change->absent = {std::string(header.value)};
          break;
        case HeaderAction::kAddIfAbsent:
          if (!is_there) change->exists = {std::string(header.value)};
          if (change->absent.empty()) change->absent = {std::string(header.value)};
          break;
        case HeaderAction::kSetIfExists:
          if (is_there) {
            change->keeps = false;
            change->exists = {std::string(header.value)};
          }
          if (!change->absent.empty()) change->absent = {std::string(header.value)};
          break;
      }
    }
  }
  return changes;
}

void CheckEffect::AppendResponseHeaders(std::string* ok) const {
  constexpr uint32_t kField = field::OkHttpResponse::kResponseHeadersToAdd;
  for (const ResponseChange& change : FoldResponse()) {
    if (change.exists == change.absent) {
      const HeaderAction action = change.keeps ? HeaderAction::kAppend : HeaderAction::kSet;
      for (const std::string& value : change.exists) {
        AppendCheckHeader(kField, change.name, value, action, ok);
      }
    } else if (change.exists.empty()) {
      AppendCheckHeader(kField, change.name, change.absent[0], HeaderAction::kAddIfAbsent, ok);
    } else {
      AppendCheckHeader(kField, change.name, change.exists[0], HeaderAction::kSetIfExists, ok);
    }
  }
}

// --- Out ----------------------------------------------------------------------

std::string CheckEffect::WriteAllowed() const {
  std::string ok;
  for (const Change& change : changes_) {
    if (change.kind == Change::Kind::kRemove) {
      AppendBytes(field::OkHttpResponse::kHeadersToRemove, change.name, &ok);
      continue;
    }
    AppendCheckHeader(
        field::OkHttpResponse::kHeaders, change.name, change.value,
        change.kind == Change::Kind::kSet ? HeaderAction::kSet : HeaderAction::kAppend, &ok);
  }
  AppendResponseHeaders(&ok);
  for (const QueryChange& change : query_) {
    if (!change.value.has_value()) {
      AppendBytes(field::OkHttpResponse::kQueryParametersToRemove, change.key, &ok);
      continue;
    }
    std::string parameter;
    AppendBytes(field::QueryParameter::kKey, change.key, &parameter);
    AppendBytes(field::QueryParameter::kValue, *change.value, &parameter);
    AppendBytes(field::OkHttpResponse::kQueryParametersToSet, parameter, &ok);
  }
  for (const std::string& spelling : other_spellings_) {
    AppendBytes(field::OkHttpResponse::kQueryParametersToRemove, spelling, &ok);
  }
  constexpr size_t kHeads = 32;
  std::string response;
  response.reserve(ok.size() + metadata_.size() + kHeads);
  AppendStatus(0, {}, &response);
  AppendBytes(field::CheckResponse::kOkResponse, ok, &response);
  if (has_metadata_) AppendBytes(field::CheckResponse::kDynamicMetadata, metadata_, &response);
  return response;
}

// DeniedHttpResponse. Envoy keeps headers of one name beside each other that are not said to
// be appended, and loses those that are.
std::string CheckEffect::WriteRefusal(const CheckResponseView& refusal) const {
  constexpr uint64_t kForbidden = 403;
  std::vector<std::pair<std::string, std::string_view>> headers;
  const auto exists = [&headers](std::string_view name) {
    return std::any_of(headers.begin(), headers.end(),
                       [&](const auto& header) { return header.first == name; });
  };
  const auto apply = [&](std::string_view said, std::string_view value, HeaderAction action) {
    std::string name = ToLowerAscii(said);
    const bool is_there = exists(name);
    if (action == HeaderAction::kAddIfAbsent && is_there) return;
    if (action == HeaderAction::kSetIfExists && !is_there) return;
    if (action != HeaderAction::kAppend) {
      std::erase_if(headers, [&](const auto& header) { return header.first == name; });
    }
    headers.emplace_back(std::move(name), value);
  };
  for (const CheckHeaderOption& option : refusal.headers) {
    apply(option.name, option.value, option.action);
  }
  for (auto added = response_headers_.rbegin(); added != response_headers_.rend(); ++added) {
    for (const auto& [header, action] : *added) apply(header.name, header.value, action);
  }
  const uint64_t http_status = refusal.http_status == 0 ? kForbidden : refusal.http_status;
  std::string status;
  AppendVarint(field::HttpStatus::kCode, http_status, &status);
  std::string denied;
  AppendBytes(field::DeniedHttpResponse::kStatus, status, &denied);
  for (const auto& [name, value] : headers) {
    AppendCheckHeader(field::DeniedHttpResponse::kHeaders, name, value, HeaderAction::kSet,
                      &denied);
  }
  // Responses of these statuses have no body.
  const bool has_body = http_status != 204 && http_status != 304 && !refusal.body.empty();
  if (has_body) AppendBytes(field::DeniedHttpResponse::kBody, refusal.body, &denied);
  return denied;
}

std::string CheckEffect::WriteDenied(const CheckResponseView& denied, int32_t code,
                                     std::string_view why) const {
  std::string response;
  AppendStatus(code, why, &response);
  AppendBytes(field::CheckResponse::kDeniedResponse, WriteRefusal(denied), &response);
  if (has_metadata_) AppendBytes(field::CheckResponse::kDynamicMetadata, metadata_, &response);
  return response;
}

std::string CheckEffect::WriteError(const CheckResponseView& error, std::string_view why) const {
  constexpr int32_t kInternal = 13;
  std::string response;
  AppendStatus(kInternal, why, &response);
  AppendBytes(field::CheckResponse::kErrorResponse, WriteRefusal(error), &response);
  if (has_metadata_) AppendBytes(field::CheckResponse::kDynamicMetadata, metadata_, &response);
  return response;
}

}  // namespace callout::host
