// SPDX-License-Identifier: Apache-2.0
#include "execute/http_template.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <utility>

#include "core/json_path.hpp"
#include "core/refuse.hpp"
#include "core/text.hpp"

namespace posthouse::execute {
namespace {

constexpr std::array<std::string_view, 6> kFacts{"id", "kind", "queue", "attempt", "max_attempts", "token"};
constexpr std::size_t kMostSecret = 64 * 1024;
constexpr std::string_view kAllowed =
    "{{payload}}, {{payload.name}}, {{job.id}} (kind, queue, attempt, max_attempts, token) and {{headers.NAME}}";

/// A value that is filled in.
struct Value {
  bool is_json = false;  ///< text is JSON and no string; else text is text
  std::string text{};
};

std::string fact(Job const& job, std::string const& name) {
  if (name == "id") return std::to_string(job.id());
  if (name == "kind") return job.kind();
  if (name == "queue") return job.queue();
  if (name == "attempt") return std::to_string(job.attempt());
  if (name == "max_attempts") return std::to_string(job.max_attempts());
  return job.fencing_token();
}

void percent_encode(std::string& out, std::string_view text, bool form) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  for (char const c : text) {
    auto const byte = static_cast<unsigned char>(c);
    bool const plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                       c == '.' || c == '_' || c == '~';
    if (plain) {
      out += c;
    } else if (form && c == ' ') {
      out += '+';
    } else {
      out += '%';
      out += digits[byte >> 4U];
      out += digits[byte & 15U];
    }
  }
}

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    auto const byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && c != '\t') || byte == 0x7F;
  });
}

/// Follows literal JSON text, to know whether a place is inside a string.
class Quotes {
 public:
  void pass(std::string_view text) {
    for (char const c : text) {
      if (escaped_) {
        escaped_ = false;
      } else if (inside_ && c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        inside_ = !inside_;
      }
    }
  }
  [[nodiscard]] bool inside() const noexcept { return inside_; }

 private:
  bool inside_ = false;
  bool escaped_ = false;
};

std::string read_file(std::string const& argument, std::string const& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text;
  if (file) text.assign(std::istreambuf_iterator<char>(file), {});
  if (!file || text.size() > kMostSecret) {
    core::refuse_because(argument, "the file " + core::shown(path) + (file ? " is too large" : " cannot be read"),
                         "a readable file of at most 64 KiB", "");
  }
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

}  // namespace

Template::Template(std::string argument, std::string_view text) : argument_(std::move(argument)) {
  core::check_text(argument_, text);
  std::string literal;
  auto const flush = [&] {
    if (!literal.empty()) parts_.push_back({.what = Part::What::text, .text = std::exchange(literal, {})});
  };
  while (!text.empty()) {
    if (text.starts_with("$${")) {
      literal += "${";
      text.remove_prefix(3);
    } else if (text.starts_with("${")) {
      auto const end = text.find('}');
      auto const name = std::string(text.substr(2, end == std::string_view::npos ? 0 : end - 2));
      if (name.empty() || name == "file:") {
        core::refuse_because(argument_, "has ${ without a name and }",
                             "${NAME}, ${file:/path}, or $${ for the characters", "");
      }
      flush();
      parts_.push_back({.what = Part::What::secret, .text = name});
      text.remove_prefix(end + 1);
    } else if (text.starts_with("{{")) {
      auto const end = text.find("}}");
      auto name = std::string(text.substr(2, end == std::string_view::npos ? 0 : end - 2));
      name.erase(0, name.find_first_not_of(' '));
      name.erase(name.find_last_not_of(' ') + 1);
      Part part;
      if (name == "payload" || name.starts_with("payload.")) {
        part.what = Part::What::payload;
        for (std::size_t at = 8; at <= name.size() && name != "payload";) {
          auto const dot = std::min(name.find('.', at), name.size());
          part.path.push_back(name.substr(at, dot - at));
          at = dot + 1;
        }
        if (std::find(part.path.begin(), part.path.end(), "") != part.path.end()) name.clear();
      } else if (name.starts_with("job.") && std::find(kFacts.begin(), kFacts.end(), name.substr(4)) != kFacts.end()) {
        part.what = Part::What::fact;
        part.text = name.substr(4);
      } else if (name.starts_with("headers.") && name.size() > 8) {
        part.what = Part::What::header;
        part.text = name.substr(8);
      } else {
        name.clear();
      }
      if (name.empty()) {
        auto const given = text.substr(0, end == std::string_view::npos ? text.size() : end + 2);
        core::refuse_because(argument_, "has " + core::shown(given), kAllowed, "");
      }
      flush();
      parts_.push_back(std::move(part));
      text.remove_prefix(end + 2);
    } else {
      literal += text.front();
      text.remove_prefix(1);
    }
  }
  flush();
}

void Template::read_secrets(std::vector<std::string>& secrets) {
  for (auto& part : parts_) {
    if (part.what != Part::What::secret || part.read) continue;
    if (part.text.starts_with("file:")) {
      part.text = read_file(argument_, part.text.substr(5));
    } else {
      char const* const value = std::getenv(part.text.c_str());
      if (value == nullptr) {
        core::refuse_because(argument_, "the variable " + core::shown(part.text) + " is not set", "a variable that is",
                             "set it in the environment of posthouse, or write $${ for the characters ${");
      }
      part.text = value;
    }
    core::check_text(argument_, part.text);
    part.read = true;
    secrets.push_back(part.text);
  }
}

bool Template::fixed() const noexcept {
  return std::all_of(parts_.begin(), parts_.end(), [](Part const& part) { return part.what == Part::What::text; });
}

std::string Template::json_sample() const {
  std::string out;
  Quotes quotes;
  for (auto const& part : parts_) {
    if (part.what != Part::What::text) {
      out += quotes.inside() ? "" : "0";
      continue;
    }
    out += part.text;
    quotes.pass(part.text);
  }
  return out;
}

std::string Template::render(Job const& job, Into into) const {
  std::string out;
  Quotes quotes;
  for (auto const& part : parts_) {
    if (part.what == Part::What::text) {
      out += part.text;
      if (into == Into::json) quotes.pass(part.text);
      continue;
    }
    auto name = part.text;
    Value value;
    if (part.what == Part::What::secret) {
      name = "a secret";
      value.text = part.text;
    } else if (part.what == Part::What::fact) {
      name = "job." + part.text;
      value.text = fact(job, part.text);
      value.is_json = part.text == "attempt" || part.text == "max_attempts";
    } else if (part.what == Part::What::header) {
      name = "headers." + part.text;
      auto const found = job.headers().find(part.text);
      if (found == job.headers().end())
        throw CannotFill(argument_ + ": the job has no header " + core::shown(part.text));
      value.text = found->second;
    } else {
      name = "payload";
      for (auto const& step : part.path) name += "." + step;
      auto const& payload = job.payload();
      if (!payload.is_null() && !payload.is_json()) {
        if (!part.path.empty() || into == Into::json) throw CannotFill(argument_ + ": the payload is no JSON");
        value.text = payload.data();
      } else {
        auto const found = core::json_at(payload.is_null() ? "null" : payload.data(), part.path);
        if (!found) throw CannotFill(argument_ + ": the payload has no " + core::shown(name));
        value.is_json = found->front() != '"';
        value.text = value.is_json ? std::string(*found) : core::json_unquoted(*found);
      }
    }
    auto const simple = !value.is_json || (value.text[0] != '{' && value.text[0] != '[' && value.text != "null");
    if (!simple && (into == Into::url || into == Into::form || into == Into::header)) {
      throw CannotFill(argument_ + ": " + name + " is " + (value.text == "null" ? "null" : "an object or an array") +
                       "; a text, a number, true or false can stand here");
    }
    switch (into) {
      case Into::url:
      case Into::form:
        percent_encode(out, value.text, into == Into::form);
        break;
      case Into::json:
        if (quotes.inside()) {
          out += core::json_escaped(value.text);
        } else if (value.is_json) {
          out += value.text;
        } else {
          out += '"' + core::json_escaped(value.text) + '"';
        }
        break;
      case Into::header:
        if (has_control(value.text)) throw CannotFill(argument_ + ": " + name + " has a control character");
        out += value.text;
        break;
      case Into::text:
        out += value.text;
        break;
    }
  }
  return out;
}

}  // namespace posthouse::execute
