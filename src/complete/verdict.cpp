// SPDX-License-Identifier: Apache-2.0
// See verdict.hpp.
#include "complete/verdict.hpp"

#include <algorithm>
#include <string>
#include <type_traits>
#include <variant>

#include "core/backoff.hpp"
#include "core/text.hpp"

namespace posthouse::complete {

namespace {

std::int64_t bounded(milliseconds delay) { return std::clamp<std::int64_t>(delay.count(), 0, core::max_delay_ms); }

}  // namespace

std::optional<store::Move> verdict(std::int64_t token, int position, std::int64_t id, Ending const& ending,
                                   double random) {
  store::Move move{.token = token, .position = position, .id = id};
  auto const explain = [&](std::string_view type, std::string_view message, std::string_view stack = {}) {
    move.type = core::sanitise(type, max_type_bytes);
    move.message = core::sanitise(message, max_message_bytes);
    move.stack = core::sanitise(stack, max_message_bytes);
  };
  auto const retry = [&](std::int64_t delay) {
    bool const exhausted = ending.attempt >= ending.max_attempts;
    move.outcome = exhausted ? "fail" : "retry";
    move.delay_ms = exhausted ? 0 : delay;
  };
  auto const policy = [&] {
    return core::delay_ms(ending.kind == nullptr ? Backoff{} : ending.kind->backoff, ending.attempt, random);
  };

  return std::visit(
      [&](auto const& end) -> std::optional<store::Move> {
        using End = std::decay_t<decltype(end)>;
        if constexpr (std::is_same_v<End, Success>) {
          return std::nullopt;
        } else if constexpr (std::is_same_v<End, Snooze>) {
          move.outcome = "snooze";
          move.delay_ms = bounded(end.delay);
        } else if constexpr (std::is_same_v<End, Discard>) {
          explain("discarded", end.reason);
          move.outcome = "fail";
        } else if constexpr (std::is_same_v<End, RetryAfter>) {
          explain("retry later", end.reason);
          retry(bounded(end.delay));
          if (end.hold_kind) move.hold_ms = std::min(bounded(end.delay), max_hold_ms);
        } else {
          auto const crashes = ending.crashes + (ending.crashed ? 1 : 0);
          if (ending.crashed && crashes >= max_crashes) {
            explain(end.type, "quarantined: " + std::to_string(crashes) +
                                  " child processes have died of this job; last: " + end.message);
            move.outcome = "fail";
            return move;
          }
          explain(end.type, end.message, end.stack);
          if (ending.crashed) move.crashes = crashes;
          bool const keep =
              !ending.decode_error || (ending.kind != nullptr && ending.kind->on_decode_error == OnDecodeError::retry);
          if (keep) {
            retry(policy());
          } else {
            move.outcome = "fail";
          }
        }
        return move;
      },
      ending.outcome);
}

void name_timeout(Outcome& outcome) {
  constexpr std::string_view type = "Timeout";
  auto* const failure = std::get_if<Failure>(&outcome);
  if (failure == nullptr || failure->type == type) return;
  failure->message =
      "the handler was asked to stop at its time limit and failed with " + failure->type + ": " + failure->message;
  failure->type = type;
}

}  // namespace posthouse::complete
