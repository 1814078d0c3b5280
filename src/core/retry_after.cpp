// SPDX-License-Identifier: Apache-2.0
#include "core/retry_after.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace posthouse::core {
namespace {

using namespace std::chrono;

constexpr std::array<std::string_view, 12> kMonths{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

std::optional<int> number(std::string_view text, std::size_t least, std::size_t most) {
  if (text.size() < least || text.size() > most) return std::nullopt;
  int value = 0;
  for (char const c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + (c - '0');
  }
  return value;
}

std::vector<std::string_view> words(std::string_view text, std::string_view between) {
  std::vector<std::string_view> result;
  while (!text.empty()) {
    auto const end = std::min(text.find_first_of(between), text.size());
    if (end > 0) result.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return result;
}

std::optional<system_clock::time_point> time_of(std::string_view day, std::string_view month, std::string_view year,
                                                std::string_view clock, system_clock::time_point now) {
  auto const parts = words(clock, ":");
  auto const name = std::find(kMonths.begin(), kMonths.end(), month);
  auto const d = number(day, 1, 2);
  auto y = number(year, 2, 4);
  if (parts.size() != 3 || clock.size() != 8 || name == kMonths.end() || !d || !y || year.size() == 3)
    return std::nullopt;
  if (year.size() == 2) {
    // As the RFC says: more than 50 years in the future means the century before.
    auto const this_year = static_cast<int>(year_month_day(floor<days>(now)).year());
    *y += this_year / 100 * 100;
    if (*y > this_year + 50) *y -= 100;
  }
  auto const h = number(parts[0], 2, 2);
  auto const m = number(parts[1], 2, 2);
  auto const s = number(parts[2], 2, 2);
  if (!h || !m || !s || *h > 23 || *m > 59 || *s > 60) return std::nullopt;
  // What system_clock can hold.
  if (*y < 1700 || *y > 2250) return *y < 1700 ? now : now + longest_retry_after;
  year_month_day const date(std::chrono::year(*y),
                            std::chrono::month(static_cast<unsigned>(name - kMonths.begin()) + 1),
                            std::chrono::day(static_cast<unsigned>(*d)));
  if (!date.ok()) return std::nullopt;
  return sys_days(date) + hours(*h) + minutes(*m) + seconds(*s);
}

std::optional<system_clock::time_point> http_date(std::string_view text, system_clock::time_point now) {
  auto const parts = words(text, " ,");
  if (parts.size() == 6 && parts[5] == "GMT") return time_of(parts[1], parts[2], parts[3], parts[4], now);
  if (parts.size() == 4 && parts[3] == "GMT") {  // Sunday, 06-Nov-94 08:49:37 GMT
    auto const date = words(parts[1], "-");
    if (date.size() == 3) return time_of(date[0], date[1], date[2], parts[2], now);
  }
  if (parts.size() == 5) return time_of(parts[2], parts[1], parts[4], parts[3], now);  // Sun Nov  6 08:49:37 1994
  return std::nullopt;
}

}  // namespace

std::optional<milliseconds> parse_retry_after(std::string_view text, system_clock::time_point now) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  if (text.empty()) return std::nullopt;
  if (text.find_first_not_of("0123456789") == std::string_view::npos) {
    std::int64_t value = 0;
    for (char const c : text) {
      value = std::min<std::int64_t>(value * 10 + (c - '0'), seconds(longest_retry_after).count());
    }
    return seconds(value);
  }
  auto const time = http_date(text, now);
  if (!time) return std::nullopt;
  return std::clamp(ceil<milliseconds>(*time - now), milliseconds(0), milliseconds(longest_retry_after));
}

}  // namespace posthouse::core
