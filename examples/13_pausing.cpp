// SPDX-License-Identifier: Apache-2.0
// Pausing: a queue, a kind or a key of which nothing more is started, by any worker, until it is resumed.
//
//   build/release/bin/example_13_pausing postgresql://user@host/database
//
// Needs the schema (`posthouse install`). Ends with status 0 when what was paused waited, and ran when it was resumed.
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <posthouse/posthouse.hpp>
#include <set>
#include <string>

int main(int argc, char** argv) try {
  char const* const variable = std::getenv("DATABASE_URL");
  std::string const url = argc > 1 ? argv[1] : variable != nullptr ? variable : "";
  posthouse::Client client({.database_url = url});

  std::mutex mutex;
  std::set<std::string> ran;
  // Works all that may be worked now, and leaves.
  auto const work = [&] {
    ran.clear();
    posthouse::Worker worker({.database_url = url, .concurrency = 2, .once = true});
    for (std::string const kind : {"example.export", "example.notify", "example.sync"}) {
      worker.on(kind, [&](posthouse::Job const& job) {
        std::lock_guard const lock(mutex);
        ran.insert(std::string(job.payload().data()));
      });
    }
    worker.start();
    worker.wait();
  };

  // A printer is broken, a mail server is down, one account is being moved. Jobs go on to be enqueued.
  client.pause_queue("example-printer");
  client.pause_kind("example.notify");
  client.pause_key("example.sync", "account:7");
  client.enqueue("example.export", posthouse::json{R"("printed")"}, {.queue = "example-printer"});
  client.enqueue("example.export", posthouse::json{R"("shown")"});
  client.enqueue("example.notify", posthouse::json{R"("mailed")"});
  client.enqueue("example.sync", posthouse::json{R"("account 7")"}, {.key = "account:7"});
  client.enqueue("example.sync", posthouse::json{R"("account 8")"}, {.key = "account:8"});

  work();
  bool const others_ran = ran == std::set<std::string>{R"("shown")", R"("account 8")"};
  std::cout << "what was not paused ran: " << (others_ran ? "yes" : "NO") << '\n';

  client.resume_queue("example-printer");
  client.resume_kind("example.notify");
  client.resume_key("example.sync", "account:7");
  work();
  bool const the_rest_ran = ran == std::set<std::string>{R"("printed")", R"("mailed")", R"("account 7")"};
  std::cout << "the rest ran when it was resumed: " << (the_rest_ran ? "yes" : "NO") << '\n';
  return others_ran && the_rest_ran ? EXIT_SUCCESS : EXIT_FAILURE;
} catch (posthouse::Error const& error) {
  std::cerr << error.what() << '\n' << error.hint() << '\n';
  return EXIT_FAILURE;
}
