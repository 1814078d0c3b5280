// SPDX-License-Identifier: Apache-2.0
// The pace of keys: each tenant of a service may be called 50 times a second, two at once after a pause; a tenant that
// answers "too many requests" is left alone for as long as it says, and the others go on.
//
//   build/release/bin/example_19_key_pace postgresql://user@host/database
//
// Needs the schema (`posthouse install`). Ends with status 0 when all jobs ran and no tenant was called too often.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <map>
#include <mutex>
#include <posthouse/posthouse.hpp>
#include <string>
#include <thread>

int main(int argc, char** argv) try {
  using namespace std::chrono_literals;
  using Clock = std::chrono::steady_clock;
  constexpr int tenants = 3;
  constexpr int each = 12;
  constexpr double per_second = 50;
  constexpr int burst = 2;
  char const* const variable = std::getenv("DATABASE_URL");
  std::string const url = argc > 1 ? argv[1] : variable != nullptr ? variable : "";
  posthouse::Client client({.database_url = url});
  for (int call = 0; call < each; ++call) {
    for (int tenant = 0; tenant < tenants; ++tenant) {
      auto const key = "tenant:" + std::to_string(tenant);
      client.enqueue("example.call", posthouse::json{"\"" + key + "\""}, {.key = key});
    }
  }

  struct Seen {
    Clock::time_point first{};
    Clock::time_point last{};
    int calls = 0;
  };
  std::mutex mutex;
  std::map<std::string, Seen> seen;
  bool told = false;
  auto const handler = [&](posthouse::Job const& job) -> posthouse::Outcome {
    std::scoped_lock const lock(mutex);
    std::string const key(job.payload().data());
    auto& tenant = seen[key];
    tenant.last = Clock::now();
    if (tenant.calls++ == 0) tenant.first = tenant.last;
    // The third call of tenant 0 is refused: its key is held, and the job comes first when that is over.
    if (key == "\"tenant:0\"" && tenant.calls == 3 && !told) {
      told = true;
      return posthouse::RetryAfter{.delay = 200ms, .reason = "429"};
    }
    return posthouse::Success{};
  };
  posthouse::Worker worker({.database_url = url, .concurrency = 4});
  worker.on("example.call", {.key_requests_per_second = per_second, .key_burst = burst}, handler);
  worker.start();
  while (worker.stats().succeeded < tenants * each) std::this_thread::sleep_for(20ms);
  worker.stop();

  bool kept = true;
  for (auto const& [key, tenant] : seen) {
    // A call is noted a moment after its job has started, so the first and the last may be closer by that much.
    std::chrono::duration<double> const time = tenant.last - tenant.first + 100ms;
    kept = kept && tenant.calls <= burst + per_second * time.count();
    std::cout << key << ": " << tenant.calls << " calls\n";
  }
  std::cout << (kept ? "none was called too often" : "one was called too often") << '\n';
  return kept ? 0 : 1;
} catch (posthouse::Error const& error) {
  std::cerr << error.what() << '\n' << error.hint() << '\n';
  return 1;
}
