// SPDX-License-Identifier: Apache-2.0
// See registration.hpp.
#include "node/registration.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "core/text.hpp"

namespace posthouse::node {

namespace {

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? core::sanitise(name.data(), name.size()) : "unknown";
}

}  // namespace

std::int64_t register_incarnation(WorkerCore& core, store::Work& work) {
  store::Registration registration;
  registration.host = host_name();
  registration.pid = ::getpid();
  registration.name =
      core.options.name.empty() ? registration.host + ":" + std::to_string(registration.pid) : core.options.name;
  registration.version = POSTHOUSE_VERSION;
  registration.queues = core.options.queues;
  for (auto const& [kind, registered] : core.handlers) {
    registration.kinds.push_back(kind);
    registration.max_attempts.push_back(registered.options.max_attempts);
  }
  registration.lease_ms = core.options.claim_lease.count();
  registration.slots = core.options.concurrency;
  core.statement();
  return work.register_worker(registration);
}

std::string profile_of(WorkerCore const& core) {
  auto queues = core.options.queues;
  std::sort(queues.begin(), queues.end());
  queues.erase(std::unique(queues.begin(), queues.end()), queues.end());
  // Names hold no spaces.
  std::string profile;
  for (auto const& queue : queues) profile += queue + " ";
  profile += "|";
  for (auto const& [kind, registered] : core.handlers) profile += " " + kind;
  return profile;
}

}  // namespace posthouse::node
