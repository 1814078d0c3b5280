// SPDX-License-Identifier: Apache-2.0
#include "base/fork_guard.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <posthouse/error.hpp>

namespace posthouse::base {
namespace {

TEST(ForkGuard, ThrowsInTheChildAndNotInTheParent) {
  ForkGuard const guard("Client");
  pid_t const child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    try {
      guard.check();
      ::_exit(1);
    } catch (InvalidArgument const& error) {
      bool const named = std::string(error.what()).starts_with("Client of process ");
      ::_exit(named ? 0 : 2);
    }
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_NO_THROW(guard.check());
}

}  // namespace
}  // namespace posthouse::base
