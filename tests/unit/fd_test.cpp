// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <utility>

#include "base/event_fd.hpp"
#include "base/unique_fd.hpp"

namespace posthouse::base {
namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) != -1; }

bool readable(int fd) {
  pollfd p{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&p, 1, 0) == 1;
}

TEST(UniqueFd, ClosesWhatItOwnsAndNothingElse) {
  int raw = -1;
  {
    UniqueFd a(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    raw = a.get();
    ASSERT_TRUE(is_open(raw));
    UniqueFd b = std::move(a);
    EXPECT_FALSE(a);  // NOLINT(bugprone-use-after-move)
    EXPECT_EQ(b.get(), raw);
    UniqueFd c;
    c = std::move(b);
    EXPECT_TRUE(is_open(raw));
  }
  EXPECT_FALSE(is_open(raw));
}

TEST(UniqueFd, ReleaseGivesItAway) {
  int raw = -1;
  {
    UniqueFd a(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    raw = a.release();
  }
  EXPECT_TRUE(is_open(raw));
  ::close(raw);
}

TEST(UniqueFd, ResetClosesTheOldOne) {
  UniqueFd a(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  int const raw = a.get();
  a.reset();
  EXPECT_FALSE(a);
  EXPECT_FALSE(is_open(raw));
}

TEST(EventFd, IsReadableFromSignalToDrain) {
  EventFd const event;
  EXPECT_FALSE(readable(event.fd()));
  EXPECT_FALSE(event.drain());
  event.signal();
  event.signal();
  EXPECT_TRUE(readable(event.fd()));
  EXPECT_TRUE(event.drain());
  EXPECT_FALSE(readable(event.fd()));
  EXPECT_FALSE(event.drain());
}

TEST(EventFd, IsNotInheritedByPrograms) {
  EventFd const event;
  EXPECT_NE(::fcntl(event.fd(), F_GETFD) & FD_CLOEXEC, 0);
}

}  // namespace
}  // namespace posthouse::base
