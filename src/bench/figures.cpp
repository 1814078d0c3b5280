// SPDX-License-Identifier: Apache-2.0
#include "bench/figures.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "store/json_text.hpp"

namespace posthouse::bench {

namespace {

/// Four significant digits; whole numbers from a thousand on. What is no number is null: JSON has no other.
std::string number(double value) {
  if (!std::isfinite(value)) return "null";
  if (std::abs(value) >= 1000) return fmt::format("{:.0f}", value);
  return fmt::format("{:.4g}", value);
}

}  // namespace

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  auto const middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
}

double Pairs::ratio() const {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < std::min(ours.size(), raw.size()); ++i) {
    ratios.push_back(raw[i] > 0 ? ours[i] / raw[i] : 0);
  }
  return median(std::move(ratios));
}

void Figures::append(Figures const& other) {
  figures_.insert(figures_.end(), other.figures_.begin(), other.figures_.end());
  failed_.insert(failed_.end(), other.failed_.begin(), other.failed_.end());
}

std::string Figures::json() const {
  std::string text = "{";
  for (auto const& [key, value] : figures_) {
    text += fmt::format("{}\n  \"{}\": {}", text.size() > 1 ? "," : "", key, number(value));
  }
  if (!failed_.empty()) {
    text += text.size() > 1 ? ",\n  \"failed\": {" : "\n  \"failed\": {";
    for (auto const& [scenario, error] : failed_) {
      text += &error == &failed_.front().second ? "\n    " : ",\n    ";
      store::append_json_string(text, scenario);
      text += ": ";
      store::append_json_string(text, error);
    }
    text += "\n  }";
  }
  return text + "\n}\n";
}

std::string Figures::table() const {
  std::size_t width = 0;
  for (auto const& [key, value] : figures_) width = std::max(width, key.size());
  std::string text;
  for (auto const& [key, value] : figures_) text += fmt::format("{:<{}}  {:>12}\n", key, width, number(value));
  for (auto const& [scenario, error] : failed_) text += fmt::format("{} failed: {}\n", scenario, error);
  return text;
}

}  // namespace posthouse::bench
