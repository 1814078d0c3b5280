// SPDX-License-Identifier: Apache-2.0
// A test of a handler with the installed testing library.
#include <posthouse/testing.hpp>

#include <iostream>
#include <variant>

int main() {
  auto const handler = [](posthouse::Job const& job) -> posthouse::Outcome {
    if (job.attempt() < 3) return posthouse::Failure{"Busy", "try again", ""};
    return posthouse::Success{};
  };
  auto const early = posthouse::testing::run(handler, posthouse::testing::job({.attempt = 2}));
  auto const late = posthouse::testing::run(handler, posthouse::testing::job({.attempt = 3}));
  bool const good =
      std::holds_alternative<posthouse::Failure>(early) && std::holds_alternative<posthouse::Success>(late);
  std::cout << (good ? "the handler was tested\n" : "the handler behaves otherwise than expected\n");

  // A server and a database of its own, as the tests of users have them.
  posthouse::testing::Database const database;
  std::cout << "a private database answered\n";
  return good ? 0 : 1;
}
