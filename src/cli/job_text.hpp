// SPDX-License-Identifier: Apache-2.0
// What the commands on jobs have in common: reading ids, showing payloads and results.
//
// Thread safety: pure functions.
#pragma once

#include <cstdint>
#include <string>

#include <posthouse/client.hpp>

#include "cli/print.hpp"

namespace posthouse::cli {

/// Throws InvalidArgument naming `argument`.
std::int64_t id_of(std::string const& argument, std::string const& text);

/// For people: cut off where it becomes long, and harmless to a terminal.
std::string shown_payload(Payload const& payload);

/// "payload" and "payload_bytes", or other names: JSON as it is, bytes as hex, null for what it is not.
void add_payload(JsonObject& object, std::string_view name, std::string_view bytes_name, Payload const& payload);

}  // namespace posthouse::cli
