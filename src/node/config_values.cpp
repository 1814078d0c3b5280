// SPDX-License-Identifier: Apache-2.0
#include "node/config_values.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdlib>

#include "core/backoff.hpp"
#include "core/duration.hpp"
#include "core/refuse.hpp"
#include "core/text.hpp"

namespace posthouse::node {
namespace {

using namespace std::chrono_literals;

[[noreturn]] void refuse_node(std::string const& argument, Tree const& value, std::string_view allowed) {
  if (value.kind == Tree::Kind::scalar) core::refuse(argument, value.text, allowed, "");
  core::refuse_because(argument, value.kind == Tree::Kind::null ? "has no value" : "is " + value.shown(), allowed, "");
}

double fraction_value(std::string const& argument, Tree const& value) {
  auto const& text = text_value(argument, value);
  double number = 0;
  auto const [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (code != std::errc{} || end != text.data() + text.size() || !std::isfinite(number) || number < 0 || number > 1) {
    refuse_node(argument, value, "a number from 0 to 1");
  }
  return number;
}

}  // namespace

std::string const& text_value(std::string const& argument, Tree const& value) {
  if (value.kind != Tree::Kind::scalar) refuse_node(argument, value, "one value");
  core::check_text(argument, value.text);
  return value.text;
}

std::int64_t integer_value(std::string const& argument, Tree const& value, std::int64_t least, std::int64_t most) {
  auto const allowed = fmt::format("a whole number from {} to {}", least, most);
  if (value.kind != Tree::Kind::scalar) refuse_node(argument, value, allowed);
  std::int64_t number = 0;
  auto const* const last = value.text.data() + value.text.size();
  auto const [end, code] = std::from_chars(value.text.data(), last, number);
  if (code != std::errc{} || end != last || number < least || number > most) refuse_node(argument, value, allowed);
  return number;
}

double decimal_value(std::string const& argument, Tree const& value, double least, double most) {
  auto const allowed = fmt::format("a number from {} to {}", least, most);
  if (value.kind != Tree::Kind::scalar) refuse_node(argument, value, allowed);
  double number = 0;
  auto const* const last = value.text.data() + value.text.size();
  auto const [end, code] = std::from_chars(value.text.data(), last, number);
  if (code != std::errc{} || end != last || !(number >= least && number <= most)) refuse_node(argument, value, allowed);
  return number;
}

bool boolean_value(std::string const& argument, Tree const& value) {
  static std::vector<std::string_view> const words{"true", "false", "yes", "no", "on", "off", "1", "0"};
  for (std::size_t i = 0; value.kind == Tree::Kind::scalar && i < words.size(); ++i) {
    if (value.text == words[i]) return i % 2 == 0;
  }
  refuse_node(argument, value, "true or false");
}

std::chrono::milliseconds duration_value(std::string const& argument, Tree const& value, std::chrono::milliseconds unit,
                                         std::chrono::milliseconds least, std::chrono::milliseconds most) {
  auto const duration = core::parse_duration(argument, text_value(argument, value), unit);
  if (duration < least || duration > most) {
    refuse_node(argument, value, core::format_duration(least) + " to " + core::format_duration(most));
  }
  return duration;
}

std::size_t choice_value(std::string const& argument, Tree const& value, std::vector<std::string_view> const& choices) {
  std::string allowed;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (value.kind == Tree::Kind::scalar && value.text == choices[i]) return i;
    if (i > 0) allowed += i + 1 == choices.size() ? " or " : ", ";
    allowed += choices[i];
  }
  refuse_node(argument, value, allowed);
}

std::vector<std::string> text_list(std::string const& argument, Tree const& value, bool single) {
  if (single && value.kind == Tree::Kind::scalar) return {text_value(argument, value)};
  if (value.kind != Tree::Kind::list)
    refuse_node(argument, value, single ? "a text or a list of texts" : "a list of texts");
  std::vector<std::string> texts;
  for (auto const& item : value.items) {
    texts.push_back(text_value(argument + "[" + std::to_string(texts.size()) + "]", item));
  }
  return texts;
}

Backoff backoff_value(std::string const& argument, Tree const& value) {
  constexpr auto longest_base = 24h;
  constexpr auto longest_cap = 24h * 30;
  if (value.kind == Tree::Kind::scalar) {
    return Backoff::fixed({duration_value(argument, value, 1s, 0ms, longest_cap)});
  }
  if (value.kind == Tree::Kind::list) {
    std::vector<std::chrono::milliseconds> delays;
    for (auto const& item : value.items) {
      delays.push_back(
          duration_value(argument + "[" + std::to_string(delays.size()) + "]", item, 1s, 0ms, longest_cap));
    }
    if (delays.empty()) core::refuse_because(argument, "is an empty list", "at least one delay, as [1s, 10s, 5m]", "");
    return Backoff::fixed(std::move(delays));
  }
  if (value.kind != Tree::Kind::map) refuse_node(argument, value, "a delay, a list of delays, or a mapping with type");

  Backoff backoff;
  std::size_t type = 0;
  if (auto const* node = value.find("type")) {
    type = choice_value(argument + ".type", *node, {"exponential", "linear"});
  }
  if (type == 1) backoff.kind = Backoff::Kind::linear;
  // The first delay is what a linear policy adds each time, so there it is called step.
  std::string_view const first = type == 1 ? "step" : "first";
  for (auto const& [key, node] : value.members) {
    auto const full = argument + "." + key;
    if (key == "type") continue;
    if (key == first) {
      backoff.base = duration_value(full, node, 1s, 0ms, longest_base);
    } else if (key == "longest") {
      backoff.cap = duration_value(full, node, 1s, 0ms, longest_cap);
    } else if (key == "jitter") {
      backoff.jitter = fraction_value(full, node);
    } else {
      core::refuse_because(full, "is no key of a " + std::string(type == 1 ? "linear" : "exponential") + " backoff",
                           "type, " + std::string(first) + ", longest, jitter", "");
    }
  }
  core::validate(backoff);
  return backoff;
}

}  // namespace posthouse::node
