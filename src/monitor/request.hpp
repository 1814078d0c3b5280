// SPDX-License-Identifier: Apache-2.0
// The head of a request, read strictly: whatever two readers could understand differently is refused.
//
// Thread safety: pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace posthouse::monitor {

struct Head {
  int refused = 0;         ///< status to answer with; 0: it is in order
  bool head_only = false;  ///< HEAD
  std::string path{};      ///< as sent, without the query
};

inline constexpr std::size_t max_head_bytes = 16 * 1024;

/// The length of the head with its empty line; nullopt: there is more to come.
std::optional<std::size_t> head_length(std::string_view text);

/// `head` ends with an empty line. `hosts`: names that Host may have beside localhost and addresses, lower case.
Head parse_head(std::string_view head, std::vector<std::string> const& hosts);

}  // namespace posthouse::monitor
