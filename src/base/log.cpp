// SPDX-License-Identifier: Apache-2.0
#include "base/log.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <iterator>
#include <utility>

#include "base/terminal.hpp"
#include "base/utf8.hpp"

namespace posthouse::base {

namespace {

/// A JSON string; characters that printable() would escape are written as \u escapes.
void append_json(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    CodePoint const point = first_code_point(text);
    auto const raw = text.substr(0, point.length);
    text.remove_prefix(point.length);
    if (raw == "\"" || raw == "\\") {
      out += '\\';
      out += raw;
    } else if (!point.valid) {
      out += "\\ufffd";
    } else if (point.value < 0x10000 && printable(raw) != raw) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(point.value));
    } else {
      out += raw;
    }
  }
  out += '"';
}

void append_text_value(std::string& out, std::string_view value) {
  std::string const shown = printable(value);
  if (!shown.empty() && shown.find_first_of(" \"=\\") == std::string::npos) {
    out += shown;
    return;
  }
  out += '"';
  for (char const c : shown) {
    if (c == '"') out += '\\';
    out += c;
  }
  out += '"';
}

std::string utc(std::chrono::system_clock::time_point time) {
  auto const ms = std::chrono::floor<std::chrono::milliseconds>(time);
  auto const seconds = std::chrono::floor<std::chrono::seconds>(ms);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(seconds)),
                     (ms - seconds).count());
}

}  // namespace

std::string_view to_string(LogLevel level) noexcept {
  switch (level) {
    case LogLevel::debug:
      return "debug";
    case LogLevel::info:
      return "info";
    case LogLevel::warning:
      return "warning";
    case LogLevel::error:
      return "error";
  }
  return "unknown";
}

std::string format_event(LogFormat format, LogRecord const& event, std::chrono::system_clock::time_point time) {
  std::string out;
  if (format == LogFormat::text) {
    fmt::format_to(std::back_inserter(out), "{} {:<7} {}", utc(time), to_string(event.level), printable(event.message));
    for (auto const& [name, value] : event.fields) {
      out += ' ';
      out += printable(name);
      out += '=';
      append_text_value(out, value);
    }
    return out;
  }
  fmt::format_to(std::back_inserter(out), R"({{"time":"{}","level":"{}","message":)", utc(time),
                 to_string(event.level));
  append_json(out, event.message);
  // In an object of their own, so that no field can pass for the time or the level.
  out += ",\"fields\":{";
  bool first = true;
  for (auto const& [name, value] : event.fields) {
    if (!std::exchange(first, false)) out += ',';
    append_json(out, name);
    out += ':';
    append_json(out, value);
  }
  out += "}}";
  return out;
}

Logger fd_logger(int fd, LogFormat format, LogLevel least) {
  return [fd, format, least](LogRecord const& event) {
    if (event.level < least) return;
    std::string line = format_event(format, event, std::chrono::system_clock::now());
    line += '\n';
    std::string_view rest = line;
    while (!rest.empty()) {
      ssize_t const sent = ::write(fd, rest.data(), rest.size());
      if (sent > 0) {
        rest.remove_prefix(static_cast<std::size_t>(sent));
      } else if (errno != EINTR) {
        return;  // nobody reads; a log must not stop the work
      }
    }
  };
}

Log::Log(Logger logger)
    : logger_(logger ? std::move(logger) : fd_logger(STDERR_FILENO, LogFormat::text, LogLevel::warning)) {}

void Log::write(LogLevel level, std::string_view message, Fields const& fields) const noexcept {
  try {
    logger_({.level = level, .message = message, .fields = fields});
  } catch (...) {  // NOLINT(bugprone-empty-catch)
  }
}

}  // namespace posthouse::base
