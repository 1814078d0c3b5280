// SPDX-License-Identifier: Apache-2.0
#include "cli/job_text.hpp"

#include <fmt/format.h>

#include <charconv>

#include "base/terminal.hpp"
#include "core/refuse.hpp"

namespace posthouse::cli {

std::int64_t id_of(std::string const& argument, std::string const& text) {
  std::int64_t id = 0;
  auto const [end, code] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (code != std::errc{} || end != text.data() + text.size() || id < 1) {
    core::refuse(argument, text, "a job's id, a whole number from 1", "`posthouse jobs list` shows ids.");
  }
  return id;
}

std::string shown_payload(Payload const& payload) {
  if (payload.is_null()) return "none";
  constexpr std::size_t most = 4000;
  auto text = payload.is_bytes() ? hex(payload.data().substr(0, most / 2))
                                 : base::printable(payload.data().substr(0, most), base::Lines::many);
  if (text.size() >= most) text += fmt::format("… ({} bytes; all of it with --json)", payload.data().size());
  return text;
}

void add_payload(JsonObject& object, std::string_view name, std::string_view bytes_name, Payload const& payload) {
  object.raw(name, payload.is_json() ? payload.data() : "null");
  if (payload.is_bytes()) {
    object.text(bytes_name, hex(payload.data()));
  } else {
    object.raw(bytes_name, "null");
  }
}

}  // namespace posthouse::cli
