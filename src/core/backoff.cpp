// SPDX-License-Identifier: Apache-2.0
#include "core/backoff.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "core/refuse.hpp"

namespace posthouse::core {

namespace {

std::int64_t exponential(Backoff const& backoff, std::int64_t attempt) {
  std::int64_t const base = backoff.base.count();
  std::int64_t const cap = backoff.cap.count();
  std::int64_t const doublings = attempt - 1;
  if (base <= 0) return 0;
  if (doublings >= 62 || base > (cap >> doublings)) return cap;
  return base << doublings;
}

std::int64_t linear(Backoff const& backoff, std::int64_t attempt) {
  std::int64_t const base = backoff.base.count();
  std::int64_t const cap = backoff.cap.count();
  if (base <= 0) return 0;
  return attempt > cap / base ? cap : base * attempt;
}

std::int64_t from_list(Backoff const& backoff, std::int64_t attempt) {
  if (backoff.list.empty()) return 0;
  auto const last = static_cast<std::int64_t>(backoff.list.size()) - 1;
  return backoff.list[static_cast<std::size_t>(std::min(attempt - 1, last))].count();
}

std::int64_t custom(Backoff const& backoff, std::int64_t attempt) {
  try {
    if (backoff.custom) return backoff.custom(attempt).count();
  } catch (...) {  // NOLINT(bugprone-empty-catch)
  }
  return exponential(Backoff{}, attempt);
}

std::int64_t without_jitter(Backoff const& backoff, std::int64_t attempt) {
  switch (backoff.kind) {
    case Backoff::Kind::exponential:
      return exponential(backoff, attempt);
    case Backoff::Kind::linear:
      return linear(backoff, attempt);
    case Backoff::Kind::fixed_list:
      return from_list(backoff, attempt);
    case Backoff::Kind::custom:
      return custom(backoff, attempt);
  }
  return 0;
}

}  // namespace

std::int64_t delay_ms(Backoff const& backoff, std::int64_t attempt, double random) {
  attempt = std::max<std::int64_t>(attempt, 1);
  // Clamped before it becomes a double, which holds ten years of milliseconds exactly.
  auto const delay = std::clamp<std::int64_t>(without_jitter(backoff, attempt), 0, max_delay_ms);
  double const factor = 1.0 + backoff.jitter * (2.0 * random - 1.0);
  auto const spread = std::llround(static_cast<double>(delay) * factor);
  return std::clamp<std::int64_t>(spread, 0, max_delay_ms);
}

void validate(Backoff const& backoff) {
  constexpr std::int64_t day = 24LL * 3600 * 1000;
  check_range("backoff.base", backoff.base.count(), 0, day, "ms");
  check_range("backoff.cap", backoff.cap.count(), 0, 30 * day, "ms");
  if (!(backoff.jitter >= 0 && backoff.jitter <= 1)) {
    refuse("backoff.jitter", fmt::format("{}", backoff.jitter), "0 to 1",
           "Set backoff.jitter to a share, 0.25 for ±25 %.");
  }
  if (backoff.kind == Backoff::Kind::fixed_list) {
    if (backoff.list.empty()) refuse_because("backoff.list", "is empty", "one delay or more", "Add a delay.");
    for (auto const delay : backoff.list) check_range("backoff.list entry", delay.count(), 0, max_delay_ms, "ms");
  }
  if (backoff.kind == Backoff::Kind::custom && !backoff.custom) {
    refuse_because("backoff.custom", "is empty", "a function of the attempt", "Set it, or choose another kind.");
  }
}

}  // namespace posthouse::core
