// SPDX-License-Identifier: Apache-2.0
// Structs as payloads: described once with Boost.Describe, JSON in the database, checked when they are read.
//
//   build/release/bin/example_02_typed_payload postgresql://user@host/database
//
// Needs the schema (`posthouse install`). Ends with status 0 when one job was read as it was written, and one whose
// payload does not fit went to the dead letters with the path of what was wrong.
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <posthouse/describe.hpp>
#include <posthouse/posthouse.hpp>
#include <string>
#include <vector>

struct Address {
  std::string mail;
  std::optional<std::string> name;
};
BOOST_DESCRIBE_STRUCT(Address, (), (mail, name))

struct SendWelcome {
  std::int64_t user_id = 0;
  std::string locale = "en";  // a payload without "locale" keeps this
  std::vector<Address> to;
};
BOOST_DESCRIBE_STRUCT(SendWelcome, (), (user_id, locale, to))

// The name and the type of a kind stand in one place, so that producer and worker cannot drift apart.
inline constexpr posthouse::Kind<SendWelcome> send_welcome{"example.send_welcome"};

int main(int argc, char** argv) try {
  char const* const variable = std::getenv("DATABASE_URL");
  std::string const url = argc > 1 ? argv[1] : variable != nullptr ? variable : "";
  posthouse::Client client({.database_url = url});

  SendWelcome const welcome{.user_id = 42, .locale = "de", .to = {{"ada@example.org", "Ada"}, {"bob@example.org", {}}}};
  auto const good = client.enqueue(send_welcome, welcome, {.priority = 5, .headers = {{"trace", "4711"}}});

  // Other programs write JSON by hand, and get it wrong.
  auto const bad = client.enqueue(send_welcome.name, posthouse::json{R"({"user_id": 43, "to": [{"mail": 1}]})"});

  bool read = false;
  posthouse::Worker worker({.database_url = url, .concurrency = 1, .once = true});
  worker.on(send_welcome, [&](posthouse::Job const& job, SendWelcome const& args) {
    std::cout << "job " << job.id() << ": welcome user " << args.user_id << " in " << args.locale << ", "
              << args.to.size() << " addresses, trace " << job.headers().at("trace") << '\n';
    if (job.id() == good.id) read = args.user_id == 42 && args.to.size() == 2 && args.to[0].name == "Ada";
  });
  worker.start();
  worker.wait();

  auto const refused = client.find(bad.id);
  if (!refused) return 1;
  std::cout << "job " << bad.id << ": " << refused->state << ": " << refused->last_error.value_or("") << '\n';
  bool const named = refused->last_error.value_or("").find("$.to[0].mail") != std::string::npos;
  return read && refused->state == "failed" && named ? 0 : 1;
} catch (posthouse::Error const& error) {
  std::cerr << error.what() << '\n' << error.hint() << '\n';
  return 1;
}
