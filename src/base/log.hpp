// SPDX-License-Identifier: Apache-2.0
// What the library says of itself: to the user's Logger, or as lines to a file descriptor.
//
//   log.info("claimed", {{"jobs", "12"}});
//
// Thread safety: a Log and the loggers made here may be used from any number of threads.
#pragma once

#include <chrono>
#include <map>
#include <posthouse/options.hpp>
#include <string>
#include <string_view>

namespace posthouse::base {

enum class LogFormat { text, json };

/// One event as one line without its end: UTC time, level, message, fields; whatever the bytes in them, it stays one
/// line of valid UTF-8 and no terminal is steered by it.
std::string format_event(LogFormat format, LogRecord const& event, std::chrono::system_clock::time_point time);

/// Writes each event of at least that level to `fd` in one write. The caller keeps `fd` open.
Logger fd_logger(int fd, LogFormat format, LogLevel least);

class Log {
 public:
  using Fields = std::map<std::string, std::string>;

  /// Everything goes to `logger`; an empty one means warnings and errors as text to standard error.
  explicit Log(Logger logger = {});

  void debug(std::string_view message, Fields const& fields = {}) const { write(LogLevel::debug, message, fields); }
  void info(std::string_view message, Fields const& fields = {}) const { write(LogLevel::info, message, fields); }
  void warning(std::string_view message, Fields const& fields = {}) const { write(LogLevel::warning, message, fields); }
  void error(std::string_view message, Fields const& fields = {}) const { write(LogLevel::error, message, fields); }

 private:
  /// A logger that throws loses the event and nothing else.
  void write(LogLevel level, std::string_view message, Fields const& fields) const noexcept;

  Logger logger_;
};

/// "debug", "info", "warning" or "error".
std::string_view to_string(LogLevel level) noexcept;

}  // namespace posthouse::base
