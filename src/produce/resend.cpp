// SPDX-License-Identifier: Apache-2.0
#include "produce/resend.hpp"

#include <algorithm>
#include <thread>

#include <posthouse/error.hpp>

#include "base/random.hpp"
#include "core/sqlstate.hpp"

namespace posthouse::produce {

bool until_resolved(std::chrono::milliseconds limit,
                    std::function<bool(std::chrono::milliseconds remaining)> const& again) {
  using Clock = std::chrono::steady_clock;
  using std::chrono::milliseconds;
  constexpr milliseconds longest{500};
  auto const until = Clock::now() + limit;
  milliseconds pause{5};
  for (;;) {
    auto const remaining = std::chrono::duration_cast<milliseconds>(until - Clock::now());
    if (remaining <= milliseconds(0)) return false;
    try {
      if (again(remaining)) return true;
    } catch (Unavailable const&) {
    } catch (Timeout const&) {
    } catch (Error const& error) {
      if (core::classify(error.sqlstate(), false) != core::Action::retry) return false;
    }
    auto const jittered = std::chrono::microseconds(
        static_cast<std::int64_t>(static_cast<double>(pause.count()) * 1000.0 * (0.5 + base::random_unit() / 2)));
    std::this_thread::sleep_for(std::min<std::chrono::microseconds>(jittered, remaining));
    pause = std::min(pause * 2, longest);
  }
}

}  // namespace posthouse::produce
