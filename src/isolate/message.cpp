// SPDX-License-Identifier: Apache-2.0
// See message.hpp.
#include "isolate/message.hpp"

#include <chrono>
#include <type_traits>
#include <utility>
#include <variant>

namespace posthouse::isolate {

namespace {

using Clock = std::chrono::steady_clock;

enum : std::int64_t { kNull = 0, kJson = 1, kBytes = 2 };
enum : std::int64_t { kSuccess = 0, kFailure = 1, kDiscard = 2, kSnooze = 3, kRetryAfter = 4 };

void put(FrameWriter& out, Payload const& payload) {
  out.number(payload.is_null() ? kNull : payload.is_json() ? kJson : kBytes).text(payload.data());
}

Payload payload_of(FrameReader& in) {
  auto const what = in.number();
  std::string data(in.text());
  switch (what) {
    case kNull:
      return {};
    case kJson:
      return json{std::move(data)};
    case kBytes:
      return bytes{std::move(data)};
    default:
      throw BadFrame("a payload of an unknown kind");
  }
}

std::string_view cut(std::string const& text) { return std::string_view(text).substr(0, max_text_bytes); }

Outcome outcome_of(FrameReader& in) {
  auto const text = [&] { return std::string(in.text()); };
  auto const delay = [&] { return milliseconds(in.number()); };
  switch (in.number()) {
    case kSuccess: {
      auto result = payload_of(in);
      return Success{std::move(result), text()};
    }
    case kFailure: {
      Failure failure;
      failure.type = text();
      failure.message = text();
      failure.stack = text();
      return failure;
    }
    case kDiscard:
      return Discard{text()};
    case kSnooze:
      return Snooze{delay()};
    case kRetryAfter: {
      auto const later = delay();
      auto reason = text();
      return RetryAfter{.delay = later, .reason = std::move(reason), .hold_kind = in.number() != 0};
    }
    default:
      throw BadFrame("an outcome of an unknown kind");
  }
}

}  // namespace

std::string encode_order(std::int64_t number, Job::Facts const& facts) {
  FrameWriter out(Type::order);
  out.number(number).number(facts.id).text(facts.kind).text(facts.queue).number(facts.priority);
  out.number(facts.attempt).number(facts.max_attempts).number(facts.worker).number(facts.token).number(facts.position);
  out.number(facts.deadline ? 1 : 0).number(facts.deadline ? facts.deadline->time_since_epoch().count() : 0);
  put(out, facts.payload);
  out.number(static_cast<std::int64_t>(facts.headers.size()));
  for (auto const& [name, value] : facts.headers) out.text(name).text(value);
  out.number(static_cast<std::int64_t>(facts.depends_on.size()));
  for (auto const id : facts.depends_on) out.number(id);
  return out.take();
}

Order decode_order(std::string_view body) {
  FrameReader in(body);
  Order order;
  auto& facts = order.facts;
  order.number = in.number();
  facts.id = in.number();
  facts.kind = in.text();
  facts.queue = in.text();
  facts.priority = static_cast<int>(in.number());
  facts.attempt = in.number();
  facts.max_attempts = in.number();
  facts.worker = in.number();
  facts.token = in.number();
  facts.position = static_cast<int>(in.number());
  bool const limited = in.number() != 0;
  auto const until = in.number();
  if (limited) facts.deadline = Clock::time_point(Clock::duration(until));
  facts.payload = payload_of(in);
  for (auto left = in.number(); left > 0; --left) {
    std::string name(in.text());
    facts.headers.insert_or_assign(std::move(name), std::string(in.text()));
  }
  for (auto left = in.number(); left > 0; --left) facts.depends_on.push_back(in.number());
  in.end();
  return order;
}

std::string encode_ending(std::int64_t number, execute::Run const& run) {
  FrameWriter out(Type::ended);
  out.number(number).number(run.decode_error ? 1 : 0);
  std::visit(
      [&](auto const& end) {
        using End = std::decay_t<decltype(end)>;
        if constexpr (std::is_same_v<End, Success>) {
          out.number(kSuccess);
          put(out, end.result);
          out.text(cut(end.problem));
        } else if constexpr (std::is_same_v<End, Failure>) {
          out.number(kFailure).text(cut(end.type)).text(cut(end.message)).text(cut(end.stack));
        } else if constexpr (std::is_same_v<End, Discard>) {
          out.number(kDiscard).text(cut(end.reason));
        } else if constexpr (std::is_same_v<End, Snooze>) {
          out.number(kSnooze).number(end.delay.count());
        } else {
          out.number(kRetryAfter).number(end.delay.count()).text(cut(end.reason)).number(end.hold_kind ? 1 : 0);
        }
      },
      run.outcome);
  return out.take();
}

Ending decode_ending(std::string_view body) {
  FrameReader in(body);
  Ending ending;
  ending.number = in.number();
  ending.run.decode_error = in.number() != 0;
  ending.run.outcome = outcome_of(in);
  in.end();
  return ending;
}

}  // namespace posthouse::isolate
