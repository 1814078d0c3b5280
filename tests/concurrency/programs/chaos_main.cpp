// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string_view>

#include "concurrency/programs/chaos.hpp"

namespace posthouse::test::chaos {

Arguments::Arguments(int count, char** values) {
  for (int i = 0; i < count; ++i) {
    std::string const word = values[i];
    auto const equals = word.find('=');
    if (equals == std::string::npos) throw std::runtime_error("argument '" + word + "' is not key=value");
    values_[word.substr(0, equals)] = word.substr(equals + 1);
  }
}

std::string Arguments::text(std::string const& key) const {
  auto const it = values_.find(key);
  if (it == values_.end()) throw std::runtime_error("argument " + key + "= is missing");
  return it->second;
}

}  // namespace posthouse::test::chaos

int main(int argc, char** argv) {
  using namespace posthouse::test::chaos;
  std::string_view const role = argc > 1 ? argv[1] : "";
  try {
    if (role == "worker") return run_worker(Arguments(argc - 2, argv + 2));
    if (role == "client") return run_client(Arguments(argc - 2, argv + 2));
    std::fprintf(stderr, "usage: %s worker|client key=value …\n", argv[0]);
    return 2;
  } catch (std::exception const& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
