// SPDX-License-Identifier: Apache-2.0
// See frame.hpp.
#include "isolate/frame.hpp"

#include <cstring>
#include <utility>

namespace posthouse::isolate {

namespace {

constexpr std::size_t header_bytes = sizeof(std::uint32_t) + 1;
constexpr std::size_t keep_capacity = 1024 * 1024;  // a rare large frame's memory is not kept

template <class T>
void append(std::string& data, T value) {
  char raw[sizeof value];  // NOLINT(modernize-avoid-c-arrays)
  std::memcpy(raw, &value, sizeof value);
  data.append(raw, sizeof value);
}

template <class T>
T read(std::string_view raw) {
  T value{};
  std::memcpy(&value, raw.data(), sizeof value);
  return value;
}

}  // namespace

FrameWriter::FrameWriter(Type type) : data_(sizeof(std::uint32_t), '\0') {
  data_ += static_cast<char>(static_cast<std::uint8_t>(type));
}

FrameWriter& FrameWriter::number(std::int64_t value) {
  append(data_, value);
  return *this;
}

FrameWriter& FrameWriter::real(double value) {
  append(data_, value);
  return *this;
}

FrameWriter& FrameWriter::text(std::string_view value) {
  append(data_, static_cast<std::uint64_t>(value.size()));
  data_.append(value);
  return *this;
}

std::string FrameWriter::take() {
  auto const body = data_.size() - header_bytes;
  if (body > max_frame_bytes) {
    throw BadFrame("a message of " + std::to_string(body) + " bytes is larger than " + std::to_string(max_frame_bytes));
  }
  auto const length = static_cast<std::uint32_t>(body);
  std::memcpy(data_.data(), &length, sizeof length);
  return std::move(data_);
}

std::string_view FrameReader::take(std::size_t bytes) {
  if (bytes > rest_.size()) throw BadFrame("a message is shorter than it says");
  auto const part = rest_.substr(0, bytes);
  rest_.remove_prefix(bytes);
  return part;
}

std::int64_t FrameReader::number() { return read<std::int64_t>(take(sizeof(std::int64_t))); }

double FrameReader::real() { return read<double>(take(sizeof(double))); }

std::string_view FrameReader::text() {
  auto const bytes = read<std::uint64_t>(take(sizeof(std::uint64_t)));
  if (bytes > rest_.size()) throw BadFrame("a message is shorter than it says");
  return take(static_cast<std::size_t>(bytes));
}

void FrameReader::end() const {
  if (!rest_.empty()) throw BadFrame("a message is longer than it says");
}

std::optional<Frame> FrameStream::next() {
  auto const rest = std::string_view(data_).substr(at_);
  if (rest.size() >= header_bytes) {
    auto const length = read<std::uint32_t>(rest);
    auto const type = static_cast<std::uint8_t>(rest[sizeof length]);
    if (length > max_frame_bytes) throw BadFrame("a message says that it has " + std::to_string(length) + " bytes");
    if (type < static_cast<std::uint8_t>(Type::hello) || type > static_cast<std::uint8_t>(Type::ended)) {
      throw BadFrame("a message is of the unknown type " + std::to_string(type));
    }
    if (rest.size() - header_bytes >= length) {
      Frame frame{static_cast<Type>(type), std::string(rest.substr(header_bytes, length))};
      at_ += header_bytes + length;
      return frame;
    }
  }
  data_.erase(0, std::exchange(at_, 0));
  if (data_.empty() && data_.capacity() > keep_capacity) data_ = {};
  return std::nullopt;
}

}  // namespace posthouse::isolate
