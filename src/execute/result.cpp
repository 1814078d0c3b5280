// SPDX-License-Identifier: Apache-2.0
#include "execute/result.hpp"

#include <fmt/format.h>

#include <posthouse/error.hpp>

#include "core/payload_check.hpp"
#include "core/text.hpp"

namespace posthouse::execute {

std::unique_ptr<Kept> kept(Success const& success, std::size_t max_bytes) {
  bool const none = success.result.is_null() && success.problem.empty();
  if (none || max_bytes == 0) return nullptr;
  auto result = std::make_unique<Kept>();
  result->problem = core::sanitise(success.problem, max_problem_bytes);
  if (success.result.is_null()) return result;
  auto const drop = [&](std::string_view why) {
    result->problem = core::sanitise(why, max_problem_bytes);
    return std::move(result);
  };
  auto const data = success.result.data();
  if (data.size() > max_bytes) {
    return drop(fmt::format("the result has {} bytes, more than {} (max_result_bytes)", data.size(), max_bytes));
  }
  if (success.result.is_json()) {
    try {
      core::check_json("the result", data);
    } catch (InvalidArgument const& error) {
      return drop(error.what());
    }
  }
  result->has_value = true;
  result->is_bytes = success.result.is_bytes();
  result->data = data;
  return result;
}

}  // namespace posthouse::execute
