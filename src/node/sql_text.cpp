// SPDX-License-Identifier: Apache-2.0
#include "node/sql_text.hpp"

#include <algorithm>

namespace posthouse::node {

using namespace std::chrono_literals;

std::string payload_text(Payload const& payload) {
  if (payload.is_null()) return "null";
  if (payload.is_json()) return std::string(payload.data());
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text = "\\x";
  text.reserve(2 + 2 * payload.data().size());
  for (char const c : payload.data()) {
    auto const byte = static_cast<unsigned char>(c);
    text += digits[byte >> 4U];
    text += digits[byte & 15U];
  }
  return text;
}

std::chrono::milliseconds time_left(Job const& job) {
  if (!job.deadline()) return 0ms;
  // Zero would mean no limit at all.
  return std::max<std::chrono::milliseconds>(
      1ms, std::chrono::ceil<std::chrono::milliseconds>(*job.deadline() - std::chrono::steady_clock::now()));
}

}  // namespace posthouse::node
