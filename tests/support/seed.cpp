// SPDX-License-Identifier: Apache-2.0
#include "support/seed.hpp"

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace posthouse::test {

Seed::Seed(std::uint64_t value)
    : value_(value),
      generator_(value),
      trace_(__FILE__, __LINE__, "run again with POSTHOUSE_TEST_SEED=" + std::to_string(value)) {
  std::printf("[     SEED ] POSTHOUSE_TEST_SEED=%llu\n", static_cast<unsigned long long>(value));
  std::fflush(stdout);
}

std::uint64_t Seed::choose() {
  char const* const given = std::getenv("POSTHOUSE_TEST_SEED");
  if (given == nullptr || *given == '\0') return std::random_device{}();
  char* end = nullptr;
  auto const value = std::strtoull(given, &end, 10);
  if (*end != '\0') throw std::runtime_error(std::string("POSTHOUSE_TEST_SEED is '") + given + "', not a number");
  return value;
}

}  // namespace posthouse::test
