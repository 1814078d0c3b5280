// SPDX-License-Identifier: Apache-2.0
#include "core/time_format.hpp"

#include <date/date.h>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <locale>
#include <sstream>

#include "core/refuse.hpp"

namespace posthouse::core {

using std::chrono::microseconds;
using std::chrono::system_clock;

std::string format_time(system_clock::time_point time) {
  auto const us = std::chrono::floor<microseconds>(time);
  auto const seconds = std::chrono::floor<std::chrono::seconds>(us);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:06}Z", fmt::gmtime(system_clock::to_time_t(seconds)),
                     (us - seconds).count());
}

system_clock::time_point parse_time(std::string_view argument, std::string_view text) {
  constexpr std::string_view example = "2025-11-21T07:58:00Z";
  std::string work(text);
  bool fits = work.size() >= example.size() && (work[10] == 'T' || work[10] == 't' || work[10] == ' ');
  if (fits) {
    work[10] = 'T';
    if (work.back() == 'Z' || work.back() == 'z') work.replace(work.size() - 1, 1, "+00:00");
    // Finer than a microsecond is cut off: PostgreSQL keeps no more.
    if (auto const point = work.find('.'); point != std::string::npos) {
      auto const end = work.find_first_not_of("0123456789", point + 1);
      if (end != std::string::npos && end > point + 7) work.erase(point + 7, end - point - 7);
    }
    std::istringstream in(work);
    in.imbue(std::locale::classic());
    date::sys_time<microseconds> time;
    in >> date::parse("%FT%T%Ez", time);
    fits = !in.fail() && in.peek() == std::istringstream::traits_type::eof();
    auto const year = date::year_month_day(date::floor<date::days>(time)).year();
    if (fits && year >= date::year(1678) && year <= date::year(2261)) return time;
  }
  refuse(argument, text, "a time with its offset from UTC, in the years 1678 to 2261",
         "Write for example 2025-11-21T07:58:00Z or 2025-11-21T08:58:00+01:00; infinity is no time.");
}

}  // namespace posthouse::core
