// SPDX-License-Identifier: Apache-2.0
#include "core/refuse.hpp"

#include <fmt/format.h>

#include <posthouse/error.hpp>

#include "base/terminal.hpp"
#include "core/text.hpp"

namespace posthouse::core {

std::string shown(std::string_view value) {
  constexpr std::size_t most = 80;
  auto const start = truncate_utf8(value, most);
  auto text = fmt::format("\"{}\"", base::printable(start));
  if (start.size() < value.size()) text += fmt::format("… ({} bytes)", value.size());
  return text;
}

void refuse(std::string_view argument, std::string_view value, std::string_view allowed, std::string_view mend) {
  refuse_because(argument, fmt::format("is {}", shown(value)), allowed, mend);
}

void refuse_because(std::string_view argument, std::string_view problem, std::string_view allowed,
                    std::string_view mend) {
  throw InvalidArgument(fmt::format("{} {}; allowed: {}", argument, problem, allowed), {.hint = std::string(mend)});
}

void check_range(std::string_view argument, std::int64_t value, std::int64_t least, std::int64_t most,
                 std::string_view unit) {
  if (value >= least && value <= most) return;
  std::string_view const space = unit.empty() ? "" : " ";
  refuse_because(argument, fmt::format("is {}{}{}", value, space, unit),
                 fmt::format("{} to {}{}{}", least, most, space, unit),
                 fmt::format("Set {} to a value in that range.", argument));
}

}  // namespace posthouse::core
