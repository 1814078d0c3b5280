// SPDX-License-Identifier: Apache-2.0
#include "core/duration.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <optional>

#include "core/refuse.hpp"

namespace posthouse::core {

namespace {

struct Unit {
  std::string_view name;
  std::int64_t ms;
};
constexpr std::array<Unit, 5> units{{{"d", 86'400'000}, {"h", 3'600'000}, {"m", 60'000}, {"s", 1'000}, {"ms", 1}}};
constexpr std::int64_t longest_ms = 36'500 * units[0].ms;

std::optional<std::int64_t> number(std::string_view digits) {
  std::int64_t value = 0;
  auto const [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (digits.empty() || digits[0] == '-' || ec != std::errc{} || end != digits.data() + digits.size()) return {};
  return value;
}

std::optional<std::int64_t> to_ms(std::string_view text, std::int64_t plain_unit) {
  auto const unit_at = text.find_first_not_of("0123456789.");
  std::int64_t unit = plain_unit;
  if (unit_at != std::string_view::npos) {
    auto const name = text.substr(unit_at);
    unit = 0;
    for (auto const& known : units) {
      if (known.name == name) unit = known.ms;
    }
    text = text.substr(0, unit_at);
  }
  auto const point = text.find('.');
  auto const whole = number(text.substr(0, point));
  if (unit == 0 || !whole || *whole > longest_ms / unit) return {};
  std::int64_t result = *whole * unit;
  if (point != std::string_view::npos) {
    auto const digits = text.substr(point + 1);
    auto const fraction = number(digits);
    if (!fraction || digits.size() > 9) return {};
    std::int64_t scale = 1;
    for (std::size_t i = 0; i < digits.size(); ++i) scale *= 10;
    if (*fraction * unit % scale != 0) return {};
    result += *fraction * unit / scale;
  }
  return result <= longest_ms ? std::optional(result) : std::nullopt;
}

}  // namespace

std::chrono::milliseconds parse_duration(std::string_view argument, std::string_view text,
                                         std::chrono::milliseconds plain_unit) {
  if (auto const ms = to_ms(text, plain_unit.count())) return std::chrono::milliseconds(*ms);
  refuse(argument, text,
         fmt::format("a number with ms, s, m, h or d, or without for units of {}, whole milliseconds, at most 36500d",
                     format_duration(plain_unit)),
         "Write for example 250ms, 30s, 5m, 1h or 2d.");
}

std::string format_duration(std::chrono::milliseconds duration) {
  std::int64_t ms = duration.count();
  if (ms < 0) return "-" + format_duration(-duration);
  if (ms < 1'000) return fmt::format("{}ms", ms);
  if (ms < 60'000) return fmt::format("{}s", static_cast<double>(ms) / 1000.0);
  std::size_t largest = 0;
  while (ms < units[largest].ms) ++largest;
  std::int64_t const next = ms % units[largest].ms / units[largest + 1].ms;
  std::string out = fmt::format("{}{}", ms / units[largest].ms, units[largest].name);
  if (next != 0) out += fmt::format(" {}{}", next, units[largest + 1].name);
  return out;
}

}  // namespace posthouse::core
