// SPDX-License-Identifier: Apache-2.0
#include "core/job_options.hpp"

#include <boost/json.hpp>
#include <cstdint>
#include <limits>

#include "core/refuse.hpp"

namespace posthouse::core {

namespace {

[[noreturn]] void refuse_options(std::string_view text) {
  refuse("options", text, "a JSON object with max_attempts, timeout_ms and crashes as integers, enqueued_at as text",
         "The row was written by hand; correct its column options or delete the job.");
}

std::optional<std::int64_t> integer(boost::json::object const& object, std::string_view key, std::int64_t most,
                                    std::string_view text) {
  auto const* value = object.if_contains(key);
  if (value == nullptr || value->is_null()) return std::nullopt;
  boost::json::error_code ec;
  auto const number = value->to_number<std::int64_t>(ec);
  if (ec || number < 0 || number > most) refuse_options(text);
  return number;
}

}  // namespace

JobOptions parse_job_options(std::string_view text) {
  JobOptions options;
  if (text.empty() || text == "{}") return options;
  unsigned char buffer[1024];
  boost::json::monotonic_resource memory(buffer);
  boost::json::error_code ec;
  auto const value = boost::json::parse(text, ec, &memory);
  if (ec || !value.is_object()) refuse_options(text);
  auto const& object = value.get_object();
  constexpr std::int64_t int_max = std::numeric_limits<int>::max();
  if (auto const n = integer(object, "max_attempts", int_max, text)) options.max_attempts = static_cast<int>(*n);
  if (auto const n = integer(object, "timeout_ms", std::numeric_limits<std::int64_t>::max(), text)) {
    options.timeout = std::chrono::milliseconds(*n);
  }
  if (auto const n = integer(object, "crashes", int_max, text)) options.crashes = static_cast<int>(*n);
  if (auto const* at = object.if_contains("enqueued_at"); at != nullptr && !at->is_null()) {
    if (!at->is_string()) refuse_options(text);
    options.enqueued_at = at->get_string().c_str();
  }
  return options;
}

std::string write_job_options(JobOptions const& options) {
  boost::json::object object;
  if (options.max_attempts) object["max_attempts"] = *options.max_attempts;
  if (options.timeout) object["timeout_ms"] = options.timeout->count();
  if (options.crashes != 0) object["crashes"] = options.crashes;
  if (!options.enqueued_at.empty()) object["enqueued_at"] = options.enqueued_at;
  return object.empty() ? std::string{} : boost::json::serialize(object);
}

}  // namespace posthouse::core
