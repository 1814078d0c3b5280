// SPDX-License-Identifier: Apache-2.0
// See registration.hpp.
#include "node/registration.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "core/text.hpp"
#include "store/fair.hpp"
#include "store/limits.hpp"

namespace posthouse::node {

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? core::sanitise(name.data(), name.size()) : "unknown";
}

namespace {

std::string name_of(WorkerCore const& core) {
  return core.options.name.empty() ? host_name() + ":" + std::to_string(::getpid()) : core.options.name;
}

}  // namespace

std::int64_t register_incarnation(WorkerCore& core, store::Work& work) {
  store::Registration registration;
  registration.host = host_name();
  registration.pid = ::getpid();
  registration.name = name_of(core);
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

void declare_limits(WorkerCore const& core, pg::Connection& connection) {
  std::vector<store::Limit> limits;
  auto const add = [&](char const* scope, std::string const& name, int concurrency, double per_second, int burst) {
    store::Limit limit{.scope = scope, .name = name};
    if (concurrency > 0) limit.concurrency = concurrency;
    if (per_second > 0) limit.per_second = per_second;
    if (burst > 0) limit.burst = burst;
    limits.push_back(std::move(limit));
  };
  for (auto const& [kind, registered] : core.handlers) {
    auto const& options = registered.options;
    add("kind", kind, options.concurrency_limit, options.requests_per_second, options.burst);
    add("key", kind, options.key_limit > 1 ? options.key_limit : 0, 0, 0);  // 1 is what holds without a declaration
    add("key_rate", kind, 0, options.key_requests_per_second, options.key_burst);
    add("serialized", kind, options.serialized_dispatch ? 1 : 0, 0, 0);
  }
  for (auto const& [queue, own] : core.options.queue_limits) {
    add("queue", queue, own.max_concurrency, own.requests_per_second, own.burst);
  }
  if (core.options.cluster_wide_cap > 0) add("all", "", core.options.cluster_wide_cap, 0, 0);
  for (auto const& change : store::Limits(connection).declare(limits, name_of(core))) {
    base::Log::Fields const fields{
        {"scope", change.scope}, {"name", change.name}, {"before", change.before}, {"now", change.after}};
    if (change.hidden) {
      core.log.warning("declared limit changed, but an operator has set another one, which counts", fields);
    } else {
      core.log.info("limit changed", fields);
    }
  }
}

void declare_kinds(WorkerCore const& core, pg::Connection& connection) {
  std::vector<store::KindSettings> kinds;
  for (auto const& [kind, registered] : core.handlers) {
    kinds.push_back({.kind = kind, .weight = registered.options.weight, .fair_by = registered.options.fair_by});
  }
  for (auto const& change : store::Fair(connection).declare(kinds, name_of(core))) {
    base::Log::Fields const fields{
        {"kind", change.kind}, {"setting", change.name}, {"before", change.before}, {"now", change.after}};
    if (change.hidden) {
      core.log.warning("declared setting of a kind changed, but an operator has set another one, which counts", fields);
    } else {
      core.log.info("setting of a kind changed", fields);
    }
  }
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
