// SPDX-License-Identifier: Apache-2.0
// Notices that an object is used in a forked child, where its threads are gone and its sockets belong to the parent.
//
// Thread safety: immutable.
#pragma once

#include <sys/types.h>

#include <string>

namespace posthouse::base {

class ForkGuard {
 public:
  /// `what` names the guarded object in the message: "Client".
  explicit ForkGuard(std::string what);

  /// Throws InvalidArgument in any process but the one that built the guard.
  void check() const;

 private:
  std::string what_;
  pid_t owner_;
};

}  // namespace posthouse::base
