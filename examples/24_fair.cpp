// SPDX-License-Identifier: Apache-2.0
// Tenants that share the turns of a kind: a large one's thousand jobs delay a small one's by one job; and a kind with weight 3
// that has three turns where the other has one.
//
//   build/release/bin/example_24_fair postgresql://user@host/database
//
// Needs the schema (`posthouse install`). Ends with status 0 when the small tenant's jobs came soon.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <posthouse/posthouse.hpp>
#include <string>
#include <thread>
#include <vector>

int main(int argc, char** argv) try {
  using namespace std::chrono_literals;
  char const* const variable = std::getenv("DATABASE_URL");
  std::string const url = argc > 1 ? argv[1] : variable != nullptr ? variable : "";
  std::mutex mutex;
  std::string order;
  auto const note = [&](char what) {
    std::scoped_lock const lock(mutex);
    order += what;
  };

  auto const serve = [&](posthouse::Worker& worker) {
    worker.on("example.import", {.fair_by = "header:tenant"},
              [&](posthouse::Job const& job) { note(job.headers().at("tenant") == "small" ? 's' : 'l'); });
    worker.on("example.mail", {.weight = 3}, [&](posthouse::Job const&) { note('m'); });
    worker.start();
  };

  // A worker that starts declares what its kinds are shared out by; jobs that are enqueued from then on go by it.
  posthouse::Worker first({.database_url = url, .concurrency = 1});
  serve(first);
  first.stop();

  posthouse::Client client({.database_url = url});
  std::vector<posthouse::Payload> const thousand(1000, posthouse::json{"1"});
  client.enqueue_many("example.import", thousand, {.headers = {{"tenant", "large"}}});
  client.enqueue_many("example.mail", thousand);
  for (int i = 0; i < 3; ++i)
    client.enqueue("example.import", posthouse::json{"1"}, {.headers = {{"tenant", "small"}}});

  posthouse::Worker worker({.database_url = url, .concurrency = 1});
  serve(worker);
  for (;;) {
    {
      std::scoped_lock const lock(mutex);
      if (std::count(order.begin(), order.end(), 's') == 3) break;
    }
    std::this_thread::sleep_for(5ms);
  }
  worker.stop();
  auto const started = order.substr(0, order.rfind('s') + 1);
  std::cout << started << '\n';
  // Six turns of imports, eighteen of mail, and what was held already.
  return started.size() <= 30 ? 0 : 1;
} catch (posthouse::Error const& error) {
  std::cerr << error.what() << '\n' << error.hint() << '\n';
  return 1;
}
