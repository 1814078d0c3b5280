// SPDX-License-Identifier: Apache-2.0
// Worker processes that a scenario starts: this program with the hidden command `bench-drain-process`.
//
// They are killed when the object goes, and by the kernel when this process dies.
// Thread safety: one thread, the one that starts them: the kernel watches that one.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/unique_fd.hpp"
#include "bench/site.hpp"

namespace posthouse::bench {

class Children {
 public:
  /// Starts them, and returns when each has registered as a worker. Throws when one ends instead, or within half a
  /// minute has not.
  Children(Site& site, int count);
  ~Children();
  Children(Children const&) = delete;
  Children& operator=(Children const&) = delete;

  /// Throws when one has ended, with what it said.
  void check();
  /// Lets them leave; those that have not within half a minute are killed.
  void stop();
  /// The largest that its resident memory has been, in MiB.
  [[nodiscard]] double peak_mib(std::size_t child) const;

 private:
  struct Child {
    pid_t pid = 0;
    base::UniqueFd said{};  ///< its standard error
  };
  void start(Site& site);
  void kill() noexcept;

  Site& site_;
  std::vector<Child> children_{};
};

/// Waits until worker processes have finished `jobs` jobs of the log. Throws when one ends, or when none makes progress.
void await_finished(Site& site, Children& children, std::int64_t jobs);

}  // namespace posthouse::bench
