// SPDX-License-Identifier: Apache-2.0
// Frames on the socket between a worker and its child processes: four bytes of length, one of type, and a body of
// numbers and texts.
//
// Both ends are the same program on the same machine, so numbers go as they lie in memory. The other end may die in the
// middle of a frame, or write nonsense into its memory before it does: nothing here trusts a length.
// Thread safety: one thread at a time on an object.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace posthouse::isolate {

/// A job's payload and its texts have to fit; the largest jsonb is smaller.
inline constexpr std::size_t max_frame_bytes = std::size_t{1} << 30U;

enum class Type : std::uint8_t {
  hello = 1,  ///< child: ready
  refused,    ///< child: cannot start, and why
  order,      ///< parent: a job
  begun,      ///< child: its handler is called now
  progress,   ///< child
  heartbeat,  ///< child
  stop,       ///< parent: the handler shall end
  ended       ///< child: how it ended
};

class BadFrame : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Frame {
  Type type{};
  std::string body{};
};

/// Builds one frame.
class FrameWriter {
 public:
  explicit FrameWriter(Type type);
  FrameWriter& number(std::int64_t value);
  FrameWriter& real(double value);
  FrameWriter& text(std::string_view value);
  /// Throws BadFrame when it has become larger than max_frame_bytes.
  std::string take();

 private:
  std::string data_;
};

/// Takes a body apart in the order in which it was built. Throws BadFrame when there is less than asked for.
class FrameReader {
 public:
  explicit FrameReader(std::string_view body) : rest_(body) {}
  std::int64_t number();
  double real();
  std::string_view text();  ///< as long-lived as the body
  /// Throws BadFrame when something is left.
  void end() const;

 private:
  std::string_view take(std::size_t bytes);
  std::string_view rest_;
};

/// Frames out of a stream that comes in pieces.
class FrameStream {
 public:
  void add(std::string_view bytes) { data_.append(bytes); }
  /// The next whole frame. Throws BadFrame for a length or a type that nobody sends.
  std::optional<Frame> next();
  /// The stream has ended inside a frame, if it has ended.
  [[nodiscard]] bool torn() const noexcept { return at_ < data_.size(); }

 private:
  std::string data_{};
  std::size_t at_ = 0;
};

}  // namespace posthouse::isolate
