// SPDX-License-Identifier: Apache-2.0

#include "host/base/nearest_name.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace callout::host {
namespace {

constexpr size_t kComparedMax = 64;

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, changed}));
    }
  }
  return row.back();
}

}  // namespace

std::string_view NearestName(std::string_view name, const std::vector<std::string_view>& known,
                             size_t letters_max) {
  std::string_view nearest;
  size_t best = letters_max + 1;
  for (std::string_view candidate : known) {
    const size_t distance = EditDistance(name.substr(0, kComparedMax), candidate);
    if (distance >= best) continue;
    best = distance;
    nearest = candidate;
  }
  return nearest;
}

}  // namespace callout::host
