// SPDX-License-Identifier: Apache-2.0
// Jobs by the clock: schedules that a program declares when it starts, and what became of their ticks.
//
//   build/release/bin/example_12_schedules postgresql://user@host/database
//
// Needs the schema (`posthouse install`). Ends with status 0 when the heartbeat has been fired twice, each tick once.
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <posthouse/posthouse.hpp>
#include <set>
#include <string>
#include <vector>

using namespace std::chrono_literals;

int main(int argc, char** argv) try {
  char const* const variable = std::getenv("DATABASE_URL");
  std::string const url = argc > 1 ? argv[1] : variable != nullptr ? variable : "";
  posthouse::Schedules schedules({.database_url = url});

  // Every start of every copy of the program may do this. What is no longer in the list goes; what others have made
  // stays.
  std::vector<posthouse::Schedule> const declared{
      {.name = "example.report",
       .kind = "example.report",
       .payload = posthouse::json{R"({"for": "yesterday"})"},
       .cron = "30 2 * * mon-fri",  // 2:30 on working days; right after the change on days that have no 2:30
       .time_zone = "Europe/Berlin",
       .options = {.queue = "reports", .max_attempts = 5, .expires_in = 6h, .timeout = 10min},
       .jitter = 5min},
      {.name = "example.heartbeat",
       .kind = "example.heartbeat",
       .every = 1s,
       .overlap = posthouse::Overlap::skip},  // not while the one before is still unfinished
  };
  auto const made = schedules.declare("example", declared);
  std::cout << made.added << " added, " << made.changed << " changed, " << made.unchanged << " unchanged, "
            << made.removed << " removed\n";

  for (auto const& tick : schedules.next("example.report", 3)) std::cout << "report: " << tick.local << " in Berlin\n";

  // Whichever worker leads fires what is due; any worker with a handler runs it. The headers say which tick it is.
  std::mutex mutex;
  std::condition_variable changed;
  std::multiset<std::string> ticks;
  posthouse::Worker worker({.database_url = url, .concurrency = 1});
  worker.on("example.heartbeat", [&](posthouse::Job const& job) {
    std::lock_guard const lock(mutex);
    ticks.insert(job.headers().at("posthouse.tick"));
    changed.notify_all();
  });
  worker.start();
  {
    std::unique_lock lock(mutex);
    changed.wait_for(lock, 30s, [&] { return ticks.size() >= 2; });
  }
  worker.stop();

  auto const now = schedules.run("example.report");  // once more, by hand
  std::cout << "report: job " << now << '\n';
  for (auto const& fire : schedules.history("example.heartbeat")) {
    std::cout << "heartbeat: " << fire.tick << ' ' << fire.outcome << '\n';
  }
  auto const removed = schedules.declare("example", {}).removed;  // the program has no schedules any more

  bool once = true;
  for (auto const& tick : ticks) once = once && ticks.count(tick) == 1;
  return ticks.size() >= 2 && once && removed == 2 ? 0 : 1;
} catch (posthouse::Error const& error) {
  std::cerr << error.what() << '\n' << error.hint() << '\n';
  return 1;
}
