// SPDX-License-Identifier: Apache-2.0
// Schedules of the library: checks, then one call into the store.
#include <posthouse/schedules.hpp>

#include <atomic>
#include <chrono>

#include "core/payload_check.hpp"
#include "core/refuse.hpp"
#include "pg/shared_pool.hpp"
#include "produce/check.hpp"
#include "store/migrate.hpp"
#include "store/schedules.hpp"

namespace posthouse {
namespace {

/// The rest is the server's to check; this alone would change its meaning on the way there.
void check(Schedule const& schedule, std::size_t max_payload_bytes) {
  core::check_payload(schedule.payload, max_payload_bytes);
  auto const& options = schedule.options;
  if (options.delay || options.run_at) {
    core::refuse_because("options", "have delay or run_at", "any other option of a job",
                         "A schedule's times are cron, every, at and jitter.");
  }
  if (options.expires_at) {
    core::refuse_because("options", "have expires_at", "expires_in", "It counts from each firing on.");
  }
  if (options.on_duplicate == OnDuplicate::reschedule) {
    core::refuse_because("options", "have on_duplicate reschedule", "skip, error or replace",
                         "A tick is enqueued for now and has no other time to push a job to.");
  }
  if (!options.depends_on.empty() || !options.depends_on_elements.empty()) {
    core::refuse_because("options", "have depends_on", "no depends_on",
                         "Let the job that a tick enqueues enqueue what depends.");
  }
  if (!options.token.empty()) {
    core::refuse_because("options", "have a token", "no token", "A tick fires once without one.");
  }
}

}  // namespace

struct Schedules::Impl {
  explicit Impl(ClientOptions given) : options(std::move(given)), pool(PoolDoor::of(options, 1)) {}

  template <class Call>
  auto run(Call call) {
    return PoolDoor::run(*pool, "Schedules", [&](pg::Connection& connection) {
      if (!checked.load(std::memory_order_relaxed)) {
        store::check_version(connection);
        checked.store(true, std::memory_order_relaxed);
      }
      store::ScheduleBook book(connection);
      return call(book);
    });
  }

  ClientOptions options;
  std::shared_ptr<Pool> pool;
  std::atomic<bool> checked{false};
};

Schedules::Schedules(ClientOptions options) {
  if (!options.database_url.empty()) options.database.database_url = options.database_url;
  produce::check(options);
  impl_ = std::make_unique<Impl>(std::move(options));
}
Schedules::~Schedules() = default;
Schedules::Schedules(Schedules&&) noexcept = default;
Schedules& Schedules::operator=(Schedules&&) noexcept = default;

DeclaredSchedules Schedules::declare(std::string_view application, std::span<Schedule const> schedules) {
  for (std::size_t i = 0; i < schedules.size(); ++i) {
    produce::for_element(i, [&] { check(schedules[i], impl_->options.max_payload_bytes); });
  }
  return impl_->run([&](store::ScheduleBook& book) { return book.declare(application, schedules); });
}

void Schedules::add(Schedule const& schedule) {
  check(schedule, impl_->options.max_payload_bytes);
  impl_->run([&](store::ScheduleBook& book) { book.add(schedule.name, store::definition(schedule)); });
}

bool Schedules::set(std::string_view name, json const& changes) {
  core::check_json("changes", changes.text);
  return impl_->run([&](store::ScheduleBook& book) { return book.set(name, changes.text); });
}

bool Schedules::remove(std::string_view name) {
  return impl_->run([&](store::ScheduleBook& book) { return book.remove(name); });
}

void Schedules::pause(std::string_view name) {
  impl_->run([&](store::ScheduleBook& book) { book.pause(name); });
}

void Schedules::resume(std::string_view name) {
  impl_->run([&](store::ScheduleBook& book) { book.resume(name); });
}

std::int64_t Schedules::run(std::string_view name) {
  return impl_->run([&](store::ScheduleBook& book) { return book.run(name); });
}

std::vector<ScheduleInfo> Schedules::list() {
  return impl_->run([](store::ScheduleBook& book) { return book.list(); });
}

std::optional<ScheduleInfo> Schedules::find(std::string_view name) {
  return impl_->run([&](store::ScheduleBook& book) { return book.find(name); });
}

std::vector<ScheduleTick> Schedules::next(std::string_view name, int n) {
  return impl_->run([&](store::ScheduleBook& book) { return book.next(name, n); });
}

std::vector<ScheduleTick> Schedules::preview(std::string_view cron, std::string_view time_zone, int n) {
  return impl_->run([&](store::ScheduleBook& book) { return book.preview(cron, time_zone, n); });
}

std::vector<ScheduleFire> Schedules::history(std::string_view name, int n) {
  return impl_->run([&](store::ScheduleBook& book) { return book.history(name, n); });
}

}  // namespace posthouse
