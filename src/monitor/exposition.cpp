// SPDX-License-Identifier: Apache-2.0
#include "monitor/exposition.hpp"

#include <fmt/format.h>

#include <cmath>
#include <iterator>

#include "core/text.hpp"

namespace posthouse::monitor {
namespace {

constexpr std::size_t kMostValue = 200;

void append_escaped(std::string& out, std::string_view text, bool quotes) {
  for (char const c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && quotes) {
      out += "\\\"";
    } else {
      out += c;
    }
  }
}

}  // namespace

void Exposition::family(std::string_view name, std::string_view type, std::string_view help) {
  name_ = name;
  text_ += fmt::format("# HELP {} ", name);
  append_escaped(text_, help, false);
  text_ += fmt::format("\n# TYPE {} {}\n", name, type);
}

void Exposition::sample(Labels const& labels, double value, std::string_view suffix) {
  text_ += name_;
  text_ += suffix;
  if (!labels.empty()) {
    char before = '{';
    for (auto const& [label, given] : labels) {
      text_ += before;
      text_ += label;
      text_ += "=\"";
      append_escaped(text_, core::sanitise(given, kMostValue), true);
      text_ += '"';
      before = ',';
    }
    text_ += '}';
  }
  if (std::isinf(value)) {
    text_ += value > 0 ? " +Inf\n" : " -Inf\n";
  } else if (std::isnan(value)) {
    text_ += " NaN\n";
  } else {
    fmt::format_to(std::back_inserter(text_), " {}\n", value);
  }
}

}  // namespace posthouse::monitor
