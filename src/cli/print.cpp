// SPDX-License-Identifier: Apache-2.0
#include "cli/print.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>

#include "base/terminal.hpp"
#include "base/utf8.hpp"
#include "core/text.hpp"
#include "store/json_text.hpp"

namespace posthouse::cli {
namespace {

constexpr std::size_t kWidestCell = 80;

std::size_t width_of(std::string_view text) {
  std::size_t width = 0;
  while (!text.empty()) {
    text.remove_prefix(base::first_code_point(text).length);
    ++width;
  }
  return width;
}

std::string shortened(std::string text) {
  if (width_of(text) <= kWidestCell) return text;
  std::string_view rest = text;
  std::size_t bytes = 0;
  for (std::size_t i = 0; i + 1 < kWidestCell; ++i) {
    auto const length = base::first_code_point(rest).length;
    rest.remove_prefix(length);
    bytes += length;
  }
  return text.substr(0, bytes) + "…";
}

std::size_t terminal_width() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace

void print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

void tell(std::string_view text) {
  std::fflush(stdout);
  std::fwrite(text.data(), 1, text.size(), stderr);
}

std::string with_commas(std::int64_t value) {
  auto const digits = std::to_string(value);
  auto const first = digits.front() == '-' ? std::size_t{1} : std::size_t{0};
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > first && (digits.size() - i) % 3 == 0) text.push_back(',');
    text.push_back(digits[i]);
  }
  return text;
}

std::string count_of(std::int64_t number, std::string_view noun) {
  return fmt::format("{} {}{}", with_commas(number), noun, number == 1 ? "" : "s");
}

Table::Table(std::vector<std::string> header) : header_(std::move(header)) {
  for (auto& name : header_) {
    bool const right = !name.empty() && name[0] == '>';
    right_.push_back(right);
    if (right) name.erase(0, 1);
  }
}

void Table::add(std::vector<std::string> row) {
  row.resize(header_.size());
  for (auto& cell : row) cell = shortened(base::printable(cell));
  rows_.push_back(std::move(row));
}

std::string Table::text(bool colour) const {
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < header_.size(); ++i) {
    auto width = width_of(header_[i]);
    for (auto const& row : rows_) width = std::max(width, width_of(row[i]));
    widths.push_back(width);
  }
  std::string out;
  auto const line = [&](std::vector<std::string> const& row) {
    std::string text;
    for (std::size_t i = 0; i < row.size(); ++i) {
      std::string const space(widths[i] - width_of(row[i]), ' ');
      if (i > 0) text += "  ";
      text += right_[i] ? space + row[i] : row[i] + space;
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
  };
  out += base::paint(colour, base::Style::bold, line(header_)) + "\n";
  for (auto const& row : rows_) out += line(row) + "\n";
  return out;
}

void JsonObject::name(std::string_view name) {
  if (text_.size() > 1) text_ += ", ";
  store::append_json_string(text_, name);
  text_ += ": ";
}

JsonObject& JsonObject::text(std::string_view name, std::optional<std::string_view> value) {
  if (!value) return raw(name, "null");
  this->name(name);
  store::append_json_string(text_, core::sanitise(*value, value->size() * 3 + 1));
  return *this;
}

JsonObject& JsonObject::id(std::string_view name, std::int64_t value) { return text(name, std::to_string(value)); }

JsonObject& JsonObject::id(std::string_view name, std::optional<std::int64_t> value) {
  return value ? id(name, *value) : raw(name, "null");
}

JsonObject& JsonObject::number(std::string_view name, std::int64_t value) { return raw(name, std::to_string(value)); }

JsonObject& JsonObject::boolean(std::string_view name, bool value) { return raw(name, value ? "true" : "false"); }

JsonObject& JsonObject::raw(std::string_view name, std::string_view json) {
  this->name(name);
  text_ += json;
  return *this;
}

std::string json_strings(std::vector<std::string> const& list) {
  std::string out = "[";
  for (auto const& text : list) {
    if (out.size() > 1) out += ", ";
    store::append_json_string(out, core::sanitise(text, text.size() * 3 + 1));
  }
  return out + "]";
}

std::string json_number(std::optional<std::int64_t> value) { return value ? std::to_string(*value) : "null"; }

std::string json_array(std::vector<std::string> const& objects) {
  std::string out = "[";
  for (std::size_t i = 0; i < objects.size(); ++i) {
    out += i == 0 ? "\n  " : ",\n  ";
    out += objects[i];
  }
  out += objects.empty() ? "]\n" : "\n]\n";
  return out;
}

std::string hex(std::string_view bytes) {
  std::string out = "\\x";
  for (char const c : bytes) fmt::format_to(std::back_inserter(out), "{:02x}", static_cast<unsigned char>(c));
  return out;
}

Progress::Progress() : terminal_(::isatty(STDERR_FILENO) == 1) {}

void Progress::show(std::function<std::string()> const& line) {
  auto const now = std::chrono::steady_clock::now();
  if (!terminal_ || now < next_) return;
  next_ = now + std::chrono::milliseconds(100);
  auto text = line();
  auto const widest = terminal_width() - 1;
  if (width_of(text) > widest) text.resize(std::min(text.size(), widest));
  shown_ = true;
  tell("\r\x1b[K" + text);
}

void Progress::clear() {
  if (shown_) tell("\r\x1b[K");
  shown_ = false;
}

std::string bar(double fraction, int width) {
  fraction = std::clamp(fraction, 0.0, 1.0);
  auto const done = static_cast<int>(std::lround(fraction * width));
  return fmt::format("[{}{}] {:3.0f} %", std::string(static_cast<std::size_t>(done), '='),
                     std::string(static_cast<std::size_t>(width - done), ' '), fraction * 100);
}

}  // namespace posthouse::cli
