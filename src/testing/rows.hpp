// SPDX-License-Identifier: Apache-2.0
// Reading the engine's tables through a caller's Executor.
//
// Thread safety: pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <posthouse/payload.hpp>

namespace posthouse::testing {

/// As an SQL identifier, with a dot behind.
std::string schema_prefix(std::string_view schema);

/// From the columns `payload::text` and `encode(payload_bytes, 'hex')`.
Payload payload_from(std::optional<std::string> const& text, std::optional<std::string> const& hex);

/// {1,2,3} for a bigint[] parameter.
template <class Container>
std::string bigint_array(Container const& values) {
  std::string result = "{";
  for (auto const value : values) {
    if (result.size() > 1) result += ',';
    result += std::to_string(value);
  }
  return result + "}";
}

}  // namespace posthouse::testing
