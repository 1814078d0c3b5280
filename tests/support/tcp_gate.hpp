// SPDX-License-Identifier: Apache-2.0
// A gate between a client and a PostgreSQL server that a test can cut, hang, delay, and cut in the middle of a message.
//
// Listens on a port of 127.0.0.1 and passes bytes on to the server of a URL, a Unix socket or TCP. Each control is in
// effect when its call returns: not one byte passes against it afterwards.
// Thread safety: every function may be called from any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace posthouse::test {

class TcpGate {
 public:
  enum class Way { to_server, to_client, both };

  /// `server_url` as libpq takes it; host (a folder or a name) and port are replaced in url().
  explicit TcpGate(std::string const& server_url);
  ~TcpGate();
  TcpGate(TcpGate const&) = delete;
  TcpGate& operator=(TcpGate const&) = delete;

  /// The server's URL through the gate, without TLS.
  [[nodiscard]] std::string url() const;
  [[nodiscard]] int port() const;

  // -- what happens to new connections
  void refuse();  ///< they are reset as soon as they are accepted
  void accept();  ///< as at first

  // -- what happens to those that are open, and to later ones
  void cut();                      ///< every open connection is reset, both sides, once
  void hang(Way way = Way::both);  ///< nothing passes; nobody learns of it
  void delay(std::chrono::milliseconds time, Way way = Way::both);  ///< each byte is kept for so long
  void pass();                                                      ///< no hang and no delay any more; kept bytes go on

  // -- once each, for the first connection that it fits; then forgotten
  /// After `bytes` more in that way (not both) the connection is cut: in the middle of a message, when so chosen.
  void cut_after(std::size_t bytes, Way way);
  /// When the client has sent `text` (a statement's text, say) the connection is cut before the server sees any of the
  /// packet that completes it.
  void lose_request(std::string text);
  /// When the client has sent `text` it is passed on, and the connection is cut when the first byte of the answer to it
  /// arrives: the server has done what was asked, the client does not know.
  void lose_reply(std::string text);
  /// True when no trap of the three is set any more, that is when it has sprung.
  [[nodiscard]] bool sprung() const;

  [[nodiscard]] int open_connections() const;
  [[nodiscard]] int accepted() const;                ///< since the start
  [[nodiscard]] std::uint64_t bytes(Way way) const;  ///< passed on since the start

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace posthouse::test
