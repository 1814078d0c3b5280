// SPDX-License-Identifier: Apache-2.0
// What is kept of a handler's result: made storable on the handler's thread, or dropped with the reason.
//
// Thread safety: a pure function.
#pragma once

#include <cstddef>
#include <memory>
#include <posthouse/outcome.hpp>
#include <string>

namespace posthouse::execute {

inline constexpr std::size_t max_problem_bytes = 1000;

struct Kept {
  bool has_value = false;
  bool is_bytes = false;
  std::string data{};     ///< JSON that jsonb takes, or any bytes
  std::string problem{};  ///< why it is missing or not whole; empty: nothing
};

/// Null when there is nothing to store. `max_bytes` 0: nothing is wanted.
std::unique_ptr<Kept> kept(Success const& success, std::size_t max_bytes);

}  // namespace posthouse::execute
