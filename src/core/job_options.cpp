// SPDX-License-Identifier: Apache-2.0
#include "core/job_options.hpp"

#include <boost/json.hpp>
#include <cstdint>
#include <limits>

#include "core/backoff.hpp"
#include "core/refuse.hpp"

namespace posthouse::core {

namespace {

[[noreturn]] void refuse_options(std::string_view text) {
  refuse("options", text,
         "a JSON object with max_attempts, timeout_ms and expires_in_ms as integers, depends_on as an array of them",
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

std::vector<std::int64_t> ids(boost::json::object const& object, std::string_view key, std::string_view text) {
  auto const* value = object.if_contains(key);
  if (value == nullptr || value->is_null()) return {};
  if (!value->is_array()) refuse_options(text);
  std::vector<std::int64_t> list;
  list.reserve(value->get_array().size());
  for (auto const& element : value->get_array()) {
    boost::json::error_code ec;
    list.push_back(element.to_number<std::int64_t>(ec));
    if (ec) refuse_options(text);
  }
  return list;
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
  if (auto const n = integer(object, "timeout_ms", max_delay_ms, text)) {
    options.timeout = std::chrono::milliseconds(*n);
  }
  if (auto const n = integer(object, "expires_in_ms", max_delay_ms, text)) {
    options.expires_in = std::chrono::milliseconds(*n);
  }
  if (auto const n = integer(object, "child_crashes", int_max, text)) options.child_crashes = *n;
  options.depends_on = ids(object, "depends_on", text);
  return options;
}

}  // namespace posthouse::core
