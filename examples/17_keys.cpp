// SPDX-License-Identifier: Apache-2.0
// Keys: jobs of one account run one after another, in the order in which they were enqueued, with two workers of four
// threads each; jobs of different accounts run beside each other.
//
//   build/release/bin/example_17_keys postgresql://user@host/database
//
// Needs the schema (`posthouse install`). Ends with status 0 when all jobs ran, in order.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <map>
#include <mutex>
#include <posthouse/posthouse.hpp>
#include <set>
#include <string>
#include <thread>

int main(int argc, char** argv) try {
  constexpr int accounts = 5;
  constexpr int each = 8;
  char const* const variable = std::getenv("DATABASE_URL");
  std::string const url = argc > 1 ? argv[1] : variable != nullptr ? variable : "";
  posthouse::Client client({.database_url = url});
  for (int step = 0; step < each; ++step) {
    for (int account = 0; account < accounts; ++account) {
      auto const key = "account:" + std::to_string(account);
      client.enqueue("example.sync", posthouse::json{"\"" + key + "\""}, {.key = key});
    }
  }

  std::mutex mutex;
  std::map<std::string, std::int64_t> last;  // the last job of each account
  std::set<std::string> running;
  bool in_order = true;
  auto const handler = [&](posthouse::Job const& job) {
    std::string const key(job.payload().data());
    {
      std::scoped_lock const lock(mutex);
      in_order = running.insert(key).second && last[key] < job.id() && in_order;
      last[key] = job.id();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::scoped_lock const lock(mutex);
    running.erase(key);
  };

  posthouse::WorkerOptions const options{.database_url = url, .concurrency = 4};
  posthouse::Worker first(options);
  posthouse::Worker second(options);
  // .key_limit = 2 would let two jobs of an account run at once, .serialized_dispatch = true those without a key in turn.
  first.on("example.sync", handler);
  second.on("example.sync", handler);
  first.start();
  second.start();
  for (bool waiting = true; waiting;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    waiting = first.stats().succeeded + second.stats().succeeded < accounts * each;
  }
  first.stop();
  second.stop();
  std::cout << first.stats().succeeded + second.stats().succeeded << " jobs of " << last.size() << " accounts, "
            << (in_order ? "each in order" : "out of order") << '\n';
  return in_order ? 0 : 1;
} catch (posthouse::Error const& error) {
  std::cerr << error.what() << '\n' << error.hint() << '\n';
  return 1;
}
