// SPDX-License-Identifier: Apache-2.0
// See cron_text.hpp.
#include "core/cron_text.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/refuse.hpp"

namespace posthouse::core {

namespace {

constexpr std::array<std::string_view, 12> months{"jan", "feb", "mar", "apr", "may", "jun",
                                                  "jul", "aug", "sep", "oct", "nov", "dec"};
constexpr std::array<std::string_view, 7> weekdays{"sun", "mon", "tue", "wed", "thu", "fri", "sat"};
constexpr std::array<std::string_view, 7> nicknames{"@yearly", "@annually", "@monthly", "@weekly",
                                                    "@daily",  "@midnight", "@hourly"};
constexpr std::array month_days{31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

struct Field {
  std::string_view name{};
  int low = 0;
  int high = 0;
};
constexpr std::array<Field, 6> fields{{{"second", 0, 59},
                                       {"minute", 0, 59},
                                       {"hour", 0, 23},
                                       {"day of month", 1, 31},
                                       {"month", 1, 12},
                                       {"day of week", 0, 7}}};

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> list;
  bool within = false;
  for (char const c : text) {
    if (is_space(c)) {
      within = false;
      continue;
    }
    if (!within) list.emplace_back();
    within = true;
    list.back() += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  return list;
}

/// 1 to 4 digits.
std::optional<int> number(std::string_view text) {
  if (text.empty() || text.size() > 4 ||
      !std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    return std::nullopt;
  }
  int value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::optional<int> value_of(Field const& field, std::string_view text, bool last) {
  if (auto const plain = number(text)) return plain;
  if (field.name == "month") {
    auto const* const found = std::find(months.begin(), months.end(), text);
    if (found != months.end()) return static_cast<int>(found - months.begin()) + 1;
  } else if (field.name == "day of week") {
    if (last && text == "sun") return 7;
    auto const* const found = std::find(weekdays.begin(), weekdays.end(), text);
    if (found != weekdays.end()) return static_cast<int>(found - weekdays.begin());
  }
  return std::nullopt;
}

/// What is wrong with one item of a list; empty: nothing. Its values are added to `mask`.
std::string_view problem_of(Field const& field, std::string_view item, std::uint64_t& mask) {
  auto const slash = item.find('/');
  auto const range = item.substr(0, slash);
  int step = 1;
  if (slash != std::string_view::npos) {
    auto const given = number(item.substr(slash + 1));
    if (!given) return "is";
    step = *given;
  }
  int from = field.low;
  int to = field.name == "day of week" ? 6 : field.high;
  if (range != "*") {
    auto const dash = range.find('-');
    bool const pair = dash != std::string_view::npos;
    auto const first = value_of(field, range.substr(0, dash), false);
    auto const second = pair ? value_of(field, range.substr(dash + 1), true) : first;
    if (!first || !second) return "is";
    from = *first;
    to = *second;
    if (from < field.low || from > field.high || to < field.low || to > field.high) return "is";
    if (from > to) return "ends before it begins:";
    if (slash != std::string_view::npos && !pair) return "has a step but no range:";
  }
  if (step < 1 || step > field.high - field.low) return "has a step out of range:";
  for (int value = from; value <= to; value += step) mask |= std::uint64_t{1} << static_cast<unsigned>(value);
  return {};
}

std::uint64_t check_field(std::string_view argument, Field const& field, std::string_view text) {
  std::uint64_t mask = 0;
  for (;;) {
    auto const comma = text.find(',');
    auto const item = text.substr(0, comma);
    if (auto const problem = problem_of(field, item, mask); !problem.empty()) {
      std::string allowed = "* or numbers " + std::to_string(field.low) + " to " + std::to_string(field.high);
      if (field.name == "month") allowed += " or jan to dec";
      if (field.name == "day of week") allowed += " (0 and 7 are Sunday) or sun to sat";
      allowed += ", lists (1,2), ranges (1-5), ranges with a step of 1 to " + std::to_string(field.high - field.low) +
                 " (*/2, 1-5/2)";
      refuse_because(std::string(argument) + ": the " + std::string(field.name),
                     std::string(problem) + " " + shown(item), allowed, "");
    }
    if (comma == std::string_view::npos) return mask;
    text.remove_prefix(comma + 1);
  }
}

}  // namespace

void check_cron(std::string_view argument, std::string_view text) {
  auto list = words(text);
  if (list.size() == 1 && std::find(nicknames.begin(), nicknames.end(), list[0]) != nicknames.end()) return;
  if (text.size() > 1000 || (list.size() != 5 && list.size() != 6) || list[0].starts_with('@')) {
    refuse(argument, text,
           "5 fields (minute hour day month weekday), 6 with seconds first, or @yearly, @monthly, @weekly, @daily, "
           "@hourly",
           "For every n minutes from now use every.");
  }
  if (list.size() == 5) list.insert(list.begin(), "0");
  std::array<std::uint64_t, 6> masks{};
  for (std::size_t i = 0; i < fields.size(); ++i) masks.at(i) = check_field(argument, fields.at(i), list[i]);
  // Without a weekday that would do as well, some month must have one of the days.
  if (!list[3].starts_with('*') && !list[5].starts_with('*')) return;
  for (unsigned month = 1; month <= 12; ++month) {
    if ((masks[4] >> month & 1U) == 0) continue;
    if (std::countr_zero(masks[3]) <= month_days.at(month - 1)) return;
  }
  refuse_because(argument,
                 "has the day of month " + shown(list[3]) + ", which none of the months " + shown(list[4]) + " has",
                 "a day that one of them has", "");
}

}  // namespace posthouse::core
