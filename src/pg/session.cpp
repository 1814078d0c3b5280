// SPDX-License-Identifier: Apache-2.0
// What matters when somebody else's SQL runs on a connection: its notices, the place of its errors, the size of what it
// sends, and a way to break the connection off.
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>

#include "base/unique_fd.hpp"
#include "core/text.hpp"
#include "pg/connection_impl.hpp"

namespace posthouse::pg {

void Connection::Impl::keep_notice(PGresult const* notice, char const* severity) {
  if (answer_most == 0 && notices_left == 0) return;
  // What has been read of the answer is no longer held.
  if (answer_most > 0) answer_began = received();
  char const* primary = PQresultErrorField(notice, PG_DIAG_MESSAGE_PRIMARY);
  std::string text =
      std::string(severity == nullptr ? "NOTICE" : severity) + ": " + (primary == nullptr ? "" : primary);
  if (notices_left == 0) {
    ++notices_dropped;
    return;
  }
  text = core::sanitise(text, notices_left);
  notices_left -= std::min(notices_left, std::max<std::size_t>(text.size(), 16));
  notices.push_back(std::move(text));
}

std::uint64_t Connection::Impl::received() {
  tcp_info info{};
  socklen_t size = sizeof info;
  if (::getsockopt(PQsocket(conn), IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
      size >= offsetof(tcp_info, tcpi_bytes_received) + sizeof info.tcpi_bytes_received) {
    return info.tcpi_bytes_received;
  }
  return unix_received;
}

void Connection::Impl::check_answer(bool in_doubt) {
  if (answer_most == 0) return;
  int waiting = 0;
  if (::ioctl(PQsocket(conn), FIONREAD, &waiting) == 0 && waiting > 0) unix_received += static_cast<unsigned>(waiting);
  if (received() - std::min(received(), answer_began) <= answer_most) return;
  close();
  throw StorageFull("the statement's answer has more than " + std::to_string(answer_most) +
                        " bytes (notices, error messages); connection closed",
                    {.sqlstate = {}, .in_doubt = in_doubt, .hint = "send less with RAISE"});
}

std::function<void()> Connection::breaker() const {
  if (impl_->conn == nullptr) return [] {};
  // A descriptor of its own, since the connection's number may be somebody else's by then.
  auto const socket = std::make_shared<base::UniqueFd>(::dup(PQsocket(impl_->conn)));
  return [socket] {
    if (socket->get() >= 0) ::shutdown(socket->get(), SHUT_RDWR);
  };
}

void Connection::keep_notices(std::size_t most_bytes) {
  impl_->notices.clear();
  impl_->notices_left = most_bytes;
  impl_->notices_dropped = 0;
}

std::vector<std::string> Connection::notices() const {
  auto result = impl_->notices;
  if (impl_->notices_dropped > 0) {
    result.push_back("(and " + std::to_string(impl_->notices_dropped) + " more, which were not kept)");
  }
  return result;
}

std::string const& Connection::error_context() const noexcept { return impl_->error_context; }

void Connection::limit_answer(std::size_t bytes) noexcept { impl_->answer_most = bytes; }

}  // namespace posthouse::pg
