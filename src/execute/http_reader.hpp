// SPDX-License-Identifier: Apache-2.0
// An HTTP/1.1 answer out of bytes as they come: strict, and bounded whatever the server sends.
//
// Thread safety: one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace posthouse::execute {

class HttpReader {
 public:
  enum class State {
    more,    ///< feed it again
    done,    ///< all of it is there, or as much of the body as is wanted (cut)
    broken,  ///< this is no answer
    flooded  ///< more headers, or more framing around the body, than anybody needs
  };
  static constexpr std::size_t most_head = 64 * 1024;

  /// `no_body`: it answers a HEAD. `most_body`: the rest of a longer body is not wanted.
  HttpReader(bool no_body, std::size_t most_body) : no_body_(no_body), most_body_(most_body) {}

  State feed(std::string_view bytes);
  /// The server has closed the connection in due form: the end of a body that has no length.
  State end();

  [[nodiscard]] int status() const noexcept { return status_; }
  [[nodiscard]] std::string const& reason() const noexcept { return reason_; }
  [[nodiscard]] std::string const& retry_after() const noexcept { return retry_after_; }
  [[nodiscard]] std::string const& location() const noexcept { return location_; }
  [[nodiscard]] std::string take_body() noexcept { return std::move(body_); }
  [[nodiscard]] bool cut() const noexcept { return cut_; }

 private:
  enum class Part { head, sized, to_end, chunk_size, chunk_data, chunk_end, trailer };

  State go_on();
  bool read_head(std::string_view head);
  bool read_field(std::string_view line);
  bool choose_body();
  /// A line without its end; nullopt: it is not all there yet.
  std::optional<std::string> take_line();
  /// False: no more is wanted.
  bool take_body_bytes(std::uint64_t most);

  bool const no_body_;
  std::size_t const most_body_;
  Part part_ = Part::head;
  State state_ = State::more;
  std::string in_{};
  std::uint64_t left_ = 0;    ///< of the body or the chunk
  std::uint64_t around_ = 0;  ///< bytes of framing so far
  int interim_ = 0;
  int status_ = 0;
  std::string reason_{};
  std::string retry_after_{};
  std::string location_{};
  std::optional<std::uint64_t> length_{};
  bool chunked_ = false;
  std::string body_{};
  bool cut_ = false;
};

}  // namespace posthouse::execute
