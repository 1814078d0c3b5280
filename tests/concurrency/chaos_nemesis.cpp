// SPDX-License-Identifier: Apache-2.0
#include "concurrency/chaos_nemesis.hpp"

#include <algorithm>
#include <thread>

#include "concurrency/chaos_features.hpp"

namespace posthouse::test::chaos {
namespace {

constexpr milliseconds tick{20};
constexpr milliseconds leaving_may_take{20'000};
char const* const kinds[] = {"kill",      "kill",        "stop",   "stop",      "term", "term_twice",
                             "terminate", "terminate",   "cancel", "cut",       "hang", "hang_one_way",
                             "delay",     "kill_client", "fast",   "immediate", "crash"};

}  // namespace

Nemesis::Nemesis(World& world, TestServer& server, Seed& seed, Options options)
    : world_(world), server_(server), seed_(seed), options_(std::move(options)) {
  for (int i = 0; i < options_.workers + options_.clients; ++i) {
    auto slot = std::make_unique<Slot>();
    slot->worker = i < options_.workers;
    slot->name = (slot->worker ? "w" : "c") + std::to_string(i);
    // Every other worker reaches the server through a gate of its own.
    if (slot->worker && i % 2 == 0) slot->gate = std::make_unique<TcpGate>(world_.url());
    slots_.push_back(std::move(slot));
  }
}

void Nemesis::start(Slot& slot) {
  slot.doomed = slot.leaving = slot.stopped = false;
  if (!slot.worker) {
    slot.process = world_.client(static_cast<std::uint64_t>(seed_.between(1, 1'000'000'000)),
                                 std::exchange(next_first_, next_first_ + 1'000'000), options_.threads_a_client,
                                 options_.pause_ms);
    return;
  }
  WorkerSpec spec;
  spec.name = slot.name;
  spec.kinds = feature_kinds;
  spec.lease = options_.lease;
  spec.concurrency = static_cast<int>(seed_.between(1, 5));
  spec.prefetch = seed_.chance(0.5) ? static_cast<int>(seed_.between(1, 40)) : 0;
  if (slot.gate) spec.url = slot.gate->url();
  // One works for a queue alone, so that there are two profiles.
  if (slot.name == "w1") spec.queues = "side";
  slot.process = world_.worker(spec);
}

void Nemesis::look_after(Slot& slot) {
  if (!slot.process) return;
  if (slot.process->running()) {
    if (slot.leaving && !slot.stopped && Clock::now() > slot.leaves_by) {
      ADD_FAILURE() << slot.name << " (process " << slot.process->pid()
                    << ") was asked to leave and does not: " << slot.process->errors();
      slot.process->kill();
      slot.doomed = true;
    }
    return;
  }
  int const status = slot.process->wait().value_or(-1);
  bool const expected = (slot.doomed && status == 128 + SIGKILL) ||
                        // It may not have come to its signal's handler.
                        (slot.leaving && (status == 0 || status == 128 + SIGTERM || status == 128 + SIGKILL));
  EXPECT_TRUE(expected) << slot.name << " (process " << slot.process->pid() << ") ended by itself with status "
                        << status << ": " << slot.process->errors();
  slot.process.reset();
  if (over_ && !slot.worker) return;
  later(milliseconds(over_ ? 0 : seed_.between(0, 700)), [this, &slot] {
    if (!(over_ && !slot.worker)) start(slot);
  });
}

void Nemesis::note(std::string const& kind, Slot const* slot, milliseconds time) {
  world_.history().note("fault", {{"kind", kind},
                                  {"pid", slot != nullptr ? std::to_string(slot->process->pid()) : "0"},
                                  {"who", slot != nullptr ? slot->name : ""},
                                  {"ms", std::to_string(time.count())}});
}

Nemesis::Slot* Nemesis::some_worker(bool with_gate) {
  std::vector<Slot*> there;
  for (auto const& slot : slots_) {
    if (slot->worker && slot->process && !slot->stopped && !slot->doomed && (!with_gate || slot->gate))
      there.push_back(slot.get());
  }
  if (there.empty()) return nullptr;
  return there[static_cast<std::size_t>(seed_.between(0, static_cast<std::int64_t>(there.size()) - 1))];
}

milliseconds Nemesis::part_of_lease() { return milliseconds(options_.lease.count() * seed_.between(1, 30) / 10); }

void Nemesis::restart(bool immediate) {
  auto const from = std::to_string(History::now());
  if (immediate) {
    server_.restart_immediate();
  } else {
    server_.stop();
    server_.start();
  }
  world_.history().note("fault", {{"kind", immediate ? "immediate" : "fast"}, {"from", from}});
  world_.reconnect();
}

void Nemesis::disturb_backends(std::string const& function) {
  auto const how_many = seed_.between(1, 3);
  world_.sql().rows(
      "select " + function +
          "(pid) from (select pid from pg_stat_activity where datname = current_database()"
          " and backend_type = 'client backend' and pid <> pg_backend_pid() order by random() limit $1) p",
      how_many);
}

void Nemesis::strike() {
  if (deck_.empty()) {
    for (std::string const kind : kinds) {
      if (options_.only.empty() || options_.only.contains(kind)) deck_.push_back(kind);
    }
    std::shuffle(deck_.begin(), deck_.end(), seed_.generator());
  }
  auto const kind = deck_.back();
  deck_.pop_back();
  if (kind == "fast" || kind == "immediate") return restart(kind == "immediate");
  if (kind == "crash") {
    auto const from = std::to_string(History::now());
    server_.crash();
    server_.start();
    world_.history().note("fault", {{"kind", kind}, {"from", from}});
    return world_.reconnect();
  }
  if (kind == "terminate" || kind == "cancel") {
    note(kind);
    return disturb_backends(kind == "cancel" ? "pg_cancel_backend" : "pg_terminate_backend");
  }
  if (kind == "kill_client") {
    auto& slot =
        *slots_[static_cast<std::size_t>(seed_.between(options_.workers, options_.workers + options_.clients - 1))];
    if (!slot.process) return;
    note(kind, &slot);
    slot.doomed = true;
    return slot.process->kill();
  }
  bool const at_gate = kind == "cut" || kind == "hang" || kind == "hang_one_way" || kind == "delay";
  auto* const slot = some_worker(at_gate);
  if (slot == nullptr) return;
  auto const time = part_of_lease();
  note(kind, slot, time);
  if (kind == "kill") {
    slot->doomed = true;
    slot->process->kill();
  } else if (kind == "stop") {
    slot->stopped = true;
    slot->process->pause();
    later(time, [slot] {
      slot->stopped = false;
      if (slot->process) slot->process->resume();
      slot->leaves_by = std::max(slot->leaves_by, Clock::now() + leaving_may_take);
    });
  } else if (kind == "term" || kind == "term_twice") {
    slot->leaving = true;
    slot->leaves_by = Clock::now() + leaving_may_take;
    slot->process->terminate();
    if (kind == "term_twice") {
      later(milliseconds(seed_.between(0, 300)), [slot] {
        if (slot->process && slot->leaving) slot->process->terminate();
      });
    }
  } else if (kind == "cut") {
    slot->gate->cut();
    if (seed_.chance(0.5)) {
      slot->gate->refuse();
      later(time, [slot] { slot->gate->accept(); });
    }
  } else if (kind == "delay") {
    slot->gate->delay(milliseconds(seed_.between(5, 80)));
    later(time, [slot] { slot->gate->pass(); });
  } else {
    slot->gate->hang(kind == "hang"      ? TcpGate::Way::both
                     : seed_.chance(0.5) ? TcpGate::Way::to_client
                                         : TcpGate::Way::to_server);
    later(time, [slot] { slot->gate->pass(); });
  }
}

void Nemesis::run_due(bool all) {
  std::vector<std::function<void()>> now;
  std::erase_if(due_, [&](auto& entry) {
    if (!all && entry.first > Clock::now()) return false;
    now.push_back(std::move(entry.second));
    return true;
  });
  for (auto const& action : now) action();
}

void Nemesis::run() {
  for (auto const& slot : slots_) start(*slot);
  auto const end = Clock::now() + options_.time;
  auto next = Clock::now() + 700ms;
  while (Clock::now() < end) {
    run_due(false);
    for (auto const& slot : slots_) look_after(*slot);
    if (Clock::now() >= next) {
      if (seed_.chance(0.25)) {
        note("calm");
      } else {
        for (auto count = seed_.chance(0.3) ? 2 : 1; count > 0; --count) strike();
      }
      next = Clock::now() + milliseconds(seed_.between(150, 900));
    }
    std::this_thread::sleep_for(tick);
  }
}

::testing::AssertionResult Nemesis::drain(milliseconds deadline) {
  over_ = true;
  run_due(true);
  world_.history().note("drain", {});
  for (auto const& slot : slots_) {
    if (slot->worker || !slot->process) continue;
    slot->leaving = true;
    slot->leaves_by = Clock::now() + leaving_may_take;
    slot->process->terminate();
  }
  std::string missing;
  auto const done = eventually(
      [&] {
        run_due(true);
        int working = 0, enqueuing = 0;
        for (auto const& slot : slots_) {
          look_after(*slot);
          if (slot->process) ++(slot->worker ? working : enqueuing);
        }
        bool const ticked = world_.ticked_enough();
        auto const unfinished = world_.unfinished();
        auto const alive = world_.sql().number("select count(*) from posthouse.worker where reaped_at is null");
        missing = std::to_string(unfinished) + " jobs have not ended, " + std::to_string(alive) +
                  " incarnations are alive for " + std::to_string(working) + " workers, " + std::to_string(enqueuing) +
                  " clients are left";
        return ticked && unfinished == 0 && enqueuing == 0 && working == options_.workers && alive <= working;
      },
      deadline);
  if (done) return done;
  auto const jobs = world_.sql().rows(
      "select id, payload ->> 'u', kind, queue, state, attempt, run_at from posthouse.jobs where state not in "
      "('succeeded', 'failed') limit 10");
  auto failure = ::testing::AssertionFailure() << done.message() << ": " << missing;
  for (auto const& row : jobs) {
    failure << "\n   ";
    for (auto const& field : row) failure << " " << field.value_or("-");
  }
  return failure;
}

void Nemesis::dismiss() {
  for (auto const& slot : slots_) {
    if (slot->process) slot->process->terminate();
  }
  for (auto const& slot : slots_) {
    if (!slot->process) continue;
    EXPECT_EQ(slot->process->wait(leaving_may_take).value_or(-1), 0) << slot->name << ": " << slot->process->errors();
    slot->process.reset();
  }
}

}  // namespace posthouse::test::chaos
