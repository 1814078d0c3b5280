// SPDX-License-Identifier: Apache-2.0
// The child's side: takes jobs from the parent, one at a time, and runs them on the calling thread.
//
// A second thread reads the socket, so that a request to stop reaches a handler, and the parent's death ends the process,
// whatever the handler does. SIGINT and SIGTERM do nothing here: the parent decides.
// Thread safety: once a process.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <posthouse/job.hpp>
#include <posthouse/transaction.hpp>
#include <string>

#include "base/log.hpp"
#include "base/unique_fd.hpp"
#include "execute/pool.hpp"
#include "execute/result.hpp"

namespace posthouse::isolate {

/// The socket to the parent, when this process was started as a child; only the first call finds it, and the variable
/// that says so is gone afterwards. From then on this process dies with its parent; when the parent has died already, it
/// ends here. Call it before there are threads.
std::optional<base::UniqueFd> parent_socket();

struct Service {
  std::map<std::string, execute::Registered, std::less<>> const& handlers;
  execute::Around around{};
  std::function<void()> on_start{};  ///< may be empty; what it throws keeps the child from becoming ready
  std::size_t max_result_bytes = 1024 * 1024;
  /// Behind Job::complete; the result may be null.
  std::function<void(Job const&, Transaction const&, execute::Kept const* result)> complete{};
};

/// Returns an exit status when the parent wants no more.
int serve(base::UniqueFd socket, Service const& service, base::Log const& log);

}  // namespace posthouse::isolate
