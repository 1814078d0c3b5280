// SPDX-License-Identifier: Apache-2.0
// The processes of the chaos tests: a worker whose handlers leave an independent record, and a client that enqueues.
//
// Arguments are key=value. Thread safety: plain values and free functions, one call a process.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

namespace posthouse::test::chaos {

class Arguments {
 public:
  Arguments(int count, char** values);
  [[nodiscard]] std::string text(std::string const& key) const;  ///< throws when it is missing
  [[nodiscard]] int number(std::string const& key) const { return std::stoi(text(key)); }
  [[nodiscard]] std::chrono::milliseconds time(std::string const& key) const {
    return std::chrono::milliseconds(number(key));
  }

 private:
  std::map<std::string, std::string> values_{};
};

/// Until SIGTERM. Needs: url history name kinds queues concurrency prefetch lease heartbeat grace timeout duties.
int run_worker(Arguments const& arguments);
/// Until SIGTERM. Needs: url history seed first threads pause.
int run_client(Arguments const& arguments);

}  // namespace posthouse::test::chaos
