// SPDX-License-Identifier: Apache-2.0
#include "bench/figures.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace posthouse::bench {

namespace {

/// Four significant digits; whole numbers from a thousand on.
std::string number(double value) {
  if (std::abs(value) >= 1000) return fmt::format("{:.0f}", value);
  return fmt::format("{:.4g}", value);
}

}  // namespace

std::string Figures::json() const {
  std::string text = "{";
  for (auto const& [key, value] : figures_) {
    text += fmt::format("{}\n  \"{}\": {}", text.size() > 1 ? "," : "", key, number(value));
  }
  return text + "\n}\n";
}

std::string Figures::table() const {
  std::size_t width = 0;
  for (auto const& [key, value] : figures_) width = std::max(width, key.size());
  std::string text;
  for (auto const& [key, value] : figures_) text += fmt::format("{:<{}}  {:>12}\n", key, width, number(value));
  return text;
}

}  // namespace posthouse::bench
