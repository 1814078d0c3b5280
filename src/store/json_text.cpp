// SPDX-License-Identifier: Apache-2.0
// JSON text made by hand.
#include "store/json_text.hpp"

namespace posthouse::store {

void append_json_string(std::string& json, std::string_view text) {
  static constexpr char digits[] = "0123456789abcdef";
  json += '"';
  for (char const c : text) {
    auto const byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      json += '\\';
      json += c;
    } else if (byte < 0x20) {
      json += "\\u00";
      json += digits[byte >> 4U];
      json += digits[byte & 15U];
    } else {
      json += c;
    }
  }
  json += '"';
}

void append_base64_string(std::string& json, std::string_view bytes) {
  static constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  json += '"';
  json.reserve(json.size() + (bytes.size() + 2) / 3 * 4 + 1);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    auto const byte = [&](std::size_t offset) {
      return i + offset < bytes.size() ? static_cast<unsigned>(static_cast<unsigned char>(bytes[i + offset])) : 0U;
    };
    unsigned const group = byte(0) << 16U | byte(1) << 8U | byte(2);
    json += digits[group >> 18U];
    json += digits[group >> 12U & 63U];
    json += i + 1 < bytes.size() ? digits[group >> 6U & 63U] : '=';
    json += i + 2 < bytes.size() ? digits[group & 63U] : '=';
  }
  json += '"';
}

}  // namespace posthouse::store
