// SPDX-License-Identifier: Apache-2.0
#include "execute/http_reader.hpp"

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>

namespace posthouse::execute {
namespace {

constexpr int kMostInterim = 10;
constexpr std::size_t kMostLine = 4096;  ///< of the size of a chunk
constexpr std::size_t kMostKept = 8000;  ///< of a header's value

std::string lowered(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return out;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::optional<std::uint64_t> number(std::string_view text, int base) {
  std::uint64_t value = 0;
  auto const [end, code] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (text.empty() || code != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

HttpReader::State HttpReader::feed(std::string_view bytes) {
  if (state_ != State::more) return state_;
  in_ += bytes;
  return state_ = go_on();
}

HttpReader::State HttpReader::end() {
  if (state_ == State::more) state_ = part_ == Part::to_end ? State::done : State::broken;
  return state_;
}

std::optional<std::string> HttpReader::take_line() {
  auto const end = in_.find("\r\n");
  if (end == std::string::npos) return std::nullopt;
  auto line = in_.substr(0, end);
  in_.erase(0, end + 2);
  around_ += end + 2;
  return line;
}

bool HttpReader::take_body_bytes(std::uint64_t most) {
  auto const there = static_cast<std::size_t>(std::min<std::uint64_t>(most, in_.size()));
  auto const room = most_body_ - body_.size();
  body_.append(in_, 0, std::min(there, room));
  in_.erase(0, there);
  left_ -= there;
  cut_ = there > room;
  return !cut_;
}

HttpReader::State HttpReader::go_on() {
  while (true) {
    switch (part_) {
      case Part::head: {
        auto const end = in_.find("\r\n\r\n");
        if (end == std::string::npos ? in_.size() > most_head : end > most_head) return State::flooded;
        if (end == std::string::npos) {
          // Not HTTP at all is seen at once, not when it falls silent.
          return in_.substr(0, 5) == std::string_view("HTTP/").substr(0, in_.size()) ? State::more : State::broken;
        }
        auto const head = in_.substr(0, end + 2);
        in_.erase(0, end + 4);
        if (!read_head(head)) return State::broken;
        if (status_ < 200) {
          if (++interim_ > kMostInterim || status_ == 101) return State::broken;
          break;
        }
        if (no_body_ || status_ == 204 || status_ == 304) return State::done;
        if (!choose_body()) return State::broken;
        break;
      }
      case Part::sized:
        if (!take_body_bytes(left_) || left_ == 0) return State::done;
        return State::more;
      case Part::to_end:
        left_ = std::numeric_limits<std::uint64_t>::max();
        return take_body_bytes(left_) ? State::more : State::done;
      case Part::chunk_size: {
        if (around_ > 4 * static_cast<std::uint64_t>(most_body_) + most_head) return State::flooded;
        auto const line = take_line();
        if (!line) return in_.size() > kMostLine ? State::flooded : State::more;
        auto const size = number(trimmed(std::string_view(*line).substr(0, line->find(';'))), 16);
        if (!size) return State::broken;
        left_ = *size;
        part_ = left_ == 0 ? Part::trailer : Part::chunk_data;
        break;
      }
      case Part::chunk_data:
        if (!take_body_bytes(left_)) return State::done;
        if (left_ > 0) return State::more;
        part_ = Part::chunk_end;
        break;
      case Part::chunk_end:
        if (in_.size() < 2) return State::more;
        if (!in_.starts_with("\r\n")) return State::broken;
        in_.erase(0, 2);
        around_ += 2;
        part_ = Part::chunk_size;
        break;
      case Part::trailer: {
        auto const line = take_line();
        if (!line) return in_.size() > most_head ? State::flooded : State::more;
        if (line->empty()) return State::done;
        if (around_ > 4 * static_cast<std::uint64_t>(most_body_) + 2 * most_head) return State::flooded;
        break;
      }
    }
  }
}

bool HttpReader::read_head(std::string_view head) {
  auto line_end = head.find("\r\n");
  auto const line = head.substr(0, line_end);
  head.remove_prefix(line_end + 2);
  // HTTP/1.1 200 OK
  if (line.size() < 12 || !(line.starts_with("HTTP/1.1 ") || line.starts_with("HTTP/1.0 "))) return false;
  auto const code = number(line.substr(9, 3), 10);
  if (!code || *code < 100 || *code > 599 || (line.size() > 12 && line[12] != ' ')) return false;
  status_ = static_cast<int>(*code);
  reason_ = line.size() > 13 ? std::string(line.substr(13, 200)) : std::string();
  retry_after_.clear();
  location_.clear();
  length_.reset();
  chunked_ = false;
  while (!head.empty()) {
    line_end = head.find("\r\n");
    if (!read_field(head.substr(0, line_end))) return false;
    head.remove_prefix(line_end + 2);
  }
  return true;
}

bool HttpReader::read_field(std::string_view line) {
  auto const colon = line.find(':');
  if (colon == std::string_view::npos || colon == 0) return false;
  // A blank before the colon, or a line that goes on the one before: nobody honest sends it.
  if (line.substr(0, colon).find_first_of(" \t\r\n") != std::string_view::npos) return false;
  auto const name = lowered(line.substr(0, colon));
  auto const value = trimmed(line.substr(colon + 1));
  if (name == "content-length") {
    auto const length = number(value, 10);
    if (!length || (length_ && *length_ != *length)) return false;
    length_ = length;
  } else if (name == "transfer-encoding") {
    if (chunked_ || lowered(value) != "chunked") return false;
    chunked_ = true;
  } else if (name == "retry-after") {
    retry_after_ = value.substr(0, kMostKept);
  } else if (name == "location") {
    location_ = value.substr(0, kMostKept + 1);  // so that one that is too long is refused, not shortened
  }
  return true;
}

bool HttpReader::choose_body() {
  if (chunked_ && length_) return false;
  if (chunked_) {
    part_ = Part::chunk_size;
  } else if (length_) {
    part_ = Part::sized;
    left_ = *length_;
  } else {
    part_ = Part::to_end;
  }
  return true;
}

}  // namespace posthouse::execute
