// SPDX-License-Identifier: Apache-2.0
// How a handler ends, and how long a failed job waits.
//
// A handler may return normally (success), throw any exception (retry by the kind's policy), return or throw one of
// Discard, Snooze and RetryAfter, return a value (the job's result, stored), or return an Outcome made from any of these.
// Thread safety: plain values.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <posthouse/payload.hpp>

namespace posthouse {

using std::chrono::milliseconds;

/// Give up for good: the job goes to the dead letters with this reason; the attempt is counted.
struct Discard {
  std::string reason{};
};

/// Not now: run again after `delay` (0 to 10 years). No attempt is counted.
struct Snooze {
  milliseconds delay{0};
};

/// Failed, but the handler knows when to try again: 429 Too Many Requests and the like. The attempt is counted; attempts
/// exhausted end it as usual. What sent this job away would send the next one away too, so no other job of its kind is
/// started for `delay` either, at most an hour, in the whole fleet; those that run go on.
struct RetryAfter {
  milliseconds delay{0};
  std::string reason{};
  bool hold_kind = true;  ///< false: it concerns this job alone
};

/// The job has succeeded. Its result is stored with its acknowledgement and kept for retention.results (1 day); see
/// Client::wait. One that cannot be stored (larger than WorkerOptions::max_result_bytes, JSON that is malformed or has
/// \u0000) is dropped and the reason stored instead: it never keeps a job from succeeding.
struct Success {
  Payload result{};       ///< null: none
  std::string problem{};  ///< why the result is missing or not whole, at most 1,000 bytes are kept; empty: nothing
};

/// A handler's return value as its result. One that the codec cannot encode does not undo what the handler did.
template <class T>
Success success_of(T const& value) {
  try {
    return {codec<std::decay_t<T>>::encode(value), {}};
  } catch (std::exception const& error) {
    return {{}, std::string("the result cannot be encoded: ") + error.what()};
  }
}

/// The attempt failed; the kind's backoff decides the delay.
struct Failure {
  std::string type{};     ///< class of the error, at most 200 bytes are kept
  std::string message{};  ///< at most 64 KiB are kept
  std::string stack{};    ///< optional, at most 64 KiB are kept
};

using Outcome = std::variant<Success, Failure, Discard, Snooze, RetryAfter>;

/// For a handler that has seen that it is asked to stop (Job::stop_token): throw it, or anything else. When the reason is
/// a cancel, the job ends as cancelled; else the attempt has failed.
class Cancelled : public std::runtime_error {
 public:
  Cancelled() : std::runtime_error("stopped as asked") {}
};

/// A payload that the codec cannot read. By default the job goes to the dead letters at once.
class DecodeError : public std::runtime_error {
 public:
  DecodeError(std::string path, std::string const& problem)
      : std::runtime_error(path + ": " + problem), path_(std::move(path)) {}
  [[nodiscard]] std::string const& path() const noexcept { return path_; }

 private:
  std::string path_;
};

/// Delay before the next attempt. `attempt` below is the number of attempts already made, from 1.
struct Backoff {
  enum class Kind { exponential, linear, fixed_list, custom };

  Kind kind = Kind::exponential;
  milliseconds base{1000};                             ///< first delay; 0 to 1 day
  milliseconds cap{3'600'000};                         ///< longest delay; up to 30 days
  double jitter = 0.25;                                ///< 0 to 1: the delay is spread evenly over ±jitter
  std::vector<milliseconds> list{};                    ///< fixed_list: the last entry repeats; not empty
  std::function<milliseconds(std::int64_t)> custom{};  ///< custom: called with `attempt`, must not throw

  static Backoff exponential(milliseconds first = milliseconds{1000}, milliseconds longest = milliseconds{3'600'000}) {
    Backoff b;
    b.base = first;
    b.cap = longest;
    return b;
  }
  static Backoff linear(milliseconds step, milliseconds longest = milliseconds{3'600'000}) {
    Backoff b;
    b.kind = Kind::linear;
    b.base = step;
    b.cap = longest;
    return b;
  }
  static Backoff fixed(std::vector<milliseconds> delays) {
    Backoff b;
    b.kind = Kind::fixed_list;
    b.list = std::move(delays);
    b.jitter = 0;
    return b;
  }
  static Backoff from(std::function<milliseconds(std::int64_t)> function) {
    Backoff b;
    b.kind = Kind::custom;
    b.custom = std::move(function);
    b.jitter = 0;
    return b;
  }
};

}  // namespace posthouse
