// SPDX-License-Identifier: Apache-2.0

// callout/shared_data.hpp - values by key that the host keeps, as <callout/shared_data.h> describes
// them. Include it beside <callout/plugin.hpp>.
//
//     class Cached {
//      public:
//       explicit Cached(callout::Setup& setup) : teams_(setup) {}
//       void on_request_headers(callout::HeadersCall& call) {
//         const std::string user(call.headers().get("x-user", ""));
//         if (auto team = teams_.get(user)) return call.set_header("x-team", *team);
//         ...
//         teams_.cache(user, found, std::chrono::minutes(5));
//       }
//      private:
//       callout::SharedData teams_;
//     };
//
// Thread: [any].
#ifndef CALLOUT_SHARED_DATA_HPP_
#define CALLOUT_SHARED_DATA_HPP_

#include <callout/shared_data.h>

#include <callout/host.hpp>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace callout {

class SharedData {
 public:
  struct Found {
    std::string value;
    uint64_t version = 0;  // for put_if and remove_if
  };

  // There is no store.
  SharedData() = default;
  // `space`: the name of one that others share; empty: the instance's own. The instance is not made
  // if the host has no shared data.
  explicit SharedData(Setup& setup, std::string_view space = {})
      : SharedData(setup.host().raw(), space) {
    if (table_ == nullptr) setup.fail("this host has no extension " CALLOUT_SHARED_DATA);
  }
  // False as a bool if the host has none.
  explicit SharedData(const callout_host_t* host, std::string_view space = {})
      : host_(host),
        table_(static_cast<const callout_shared_data_t*>(
            host->get_extension(host, CALLOUT_SHARED_DATA))),
        space_(space) {}
  explicit operator bool() const { return table_ != nullptr; }

  std::optional<Found> find(std::string_view key) const {
    if (table_ == nullptr || key.empty()) return std::nullopt;
    char buffer[512];
    callout_shared_entry_t entry = {};
    entry.struct_size = sizeof(entry);
    callout_status_t status =
        table_->get(host_, space(), to_bytes(key), buffer, sizeof(buffer), &entry);
    if (status == CALLOUT_OK) {
      return Found{std::string(buffer, static_cast<size_t>(entry.size)), entry.version};
    }
    Found found;
    while (status == CALLOUT_OUT_OF_RANGE) {
      found.value.resize(static_cast<size_t>(entry.size));
      status = table_->get(host_, space(), to_bytes(key), found.value.data(), found.value.size(),
                           &entry);
    }
    if (status != CALLOUT_OK) return std::nullopt;
    found.value.resize(static_cast<size_t>(entry.size));  // it may have become smaller
    found.version = entry.version;
    return found;
  }
  std::optional<std::string> get(std::string_view key) const {
    std::optional<Found> found = find(key);
    if (!found.has_value()) return std::nullopt;
    return std::move(found->value);
  }

  // Sets a value that stays for `ttl`; 0: until it is removed. RESOURCE_EXHAUSTED: no room.
  callout_status_t put(std::string_view key, std::string_view value,
                       std::chrono::nanoseconds ttl = std::chrono::nanoseconds(0)) const {
    return write(key, value, ttl, CALLOUT_SHARED_ANY, false);
  }
  // The same for what can be found out again: the host may drop it earlier, for room.
  callout_status_t cache(std::string_view key, std::string_view value,
                         std::chrono::nanoseconds ttl = std::chrono::nanoseconds(0)) const {
    return write(key, value, ttl, CALLOUT_SHARED_ANY, true);
  }
  // Only if the value has this version (CALLOUT_SHARED_ABSENT: if there is none); else ABORTED.
  callout_status_t put_if(uint64_t version, std::string_view key, std::string_view value,
                          std::chrono::nanoseconds ttl = std::chrono::nanoseconds(0)) const {
    return write(key, value, ttl, version, false);
  }
  // Sets the value to change(std::optional<std::string>), and tries again while others are faster.
  template <class Change>
  callout_status_t update(std::string_view key, Change&& change,
                          std::chrono::nanoseconds ttl = std::chrono::nanoseconds(0)) const {
    for (;;) {
      std::optional<Found> found = find(key);
      const uint64_t version = found.has_value() ? found->version : CALLOUT_SHARED_ABSENT;
      std::optional<std::string> before;
      if (found.has_value()) before = std::move(found->value);
      const std::string after = change(std::move(before));
      const callout_status_t status = put_if(version, key, after, ttl);
      if (status != CALLOUT_ABORTED) return status;
    }
  }

  // NOT_FOUND: there is none.
  callout_status_t remove(std::string_view key) const { return remove_if(CALLOUT_SHARED_ANY, key); }
  callout_status_t remove_if(uint64_t version, std::string_view key) const {
    if (table_ == nullptr) return CALLOUT_UNIMPLEMENTED;
    return table_->remove(host_, space(), to_bytes(key), version);
  }

  // Adds to a count and returns the sum. It begins at 0, and again `ttl` after its first add(); 0:
  // never. Nothing: there is no room, or the value is no count.
  std::optional<int64_t> add(std::string_view key, int64_t amount,
                             std::chrono::nanoseconds ttl = std::chrono::nanoseconds(0)) const {
    int64_t sum = 0;
    if (table_ == nullptr || ttl.count() < 0) return std::nullopt;
    if (table_->add(host_, space(), to_bytes(key), amount, static_cast<uint64_t>(ttl.count()),
                    &sum) != CALLOUT_OK) {
      return std::nullopt;
    }
    return sum;
  }

 private:
  callout_bytes_t space() const { return to_bytes(std::string_view(space_)); }

  callout_status_t write(std::string_view key, std::string_view value, std::chrono::nanoseconds ttl,
                         uint64_t expected, bool may_evict) const {
    if (table_ == nullptr) return CALLOUT_UNIMPLEMENTED;
    if (ttl.count() < 0) return CALLOUT_INVALID_ARGUMENT;
    callout_shared_put_t how = {};
    how.struct_size = sizeof(how);
    how.may_evict = may_evict ? 1 : 0;
    how.ttl_ns = static_cast<uint64_t>(ttl.count());
    how.expected = expected;
    return table_->put(host_, space(), to_bytes(key), to_bytes(value), &how, nullptr);
  }

  const callout_host_t* host_ = nullptr;
  const callout_shared_data_t* table_ = nullptr;
  std::string space_;
};

}  // namespace callout

#endif  // CALLOUT_SHARED_DATA_HPP_
