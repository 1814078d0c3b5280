// SPDX-License-Identifier: Apache-2.0
#include "support/twin.hpp"

#include <libpq-fe.h>

#include <filesystem>
#include <map>
#include <stdexcept>

#include "dev/folder.hpp"
#include "support/sql.hpp"

namespace posthouse::test {
namespace {

std::map<std::string, std::string> keywords(std::string const& url) {
  std::map<std::string, std::string> found;
  PQconninfoOption* const options = PQconninfoParse(url.c_str(), nullptr);
  for (auto const* option = options; option != nullptr && option->keyword != nullptr; ++option) {
    if (option->val != nullptr) found[option->keyword] = option->val;
  }
  PQconninfoFree(options);
  return found;
}

void run(std::vector<std::string> argv, std::optional<dev::Identity> const& as) {
  dev::SpawnOptions options;
  options.argv = std::move(argv);
  options.environment = dev::plain_environment();
  options.as = as;
  auto const result = dev::run(options, std::chrono::minutes(2));
  if (result.status != 0) throw std::runtime_error(options.argv.front() + ": " + dev::last_lines(result.output, 4));
}

}  // namespace

Twin::Twin(TestServer& of, bool streams) {
  auto& original = *of.databases().control();
  auto const as = dev::owner_identity(original.data());
  dev::ServerOptions options;
  options.folder = dev::make_short_folder(as);
  options.ephemeral = true;
  auto const data = (options.folder / "data").string();
  if (streams) {
    auto const from = keywords(of.url());
    run({dev::find_programs().program("pg_basebackup").string(), "-D", data, "-R", "-X", "stream", "-c", "fast",
         "--no-sync", "-d",
         "host=" + from.at("host") + " port=" + from.at("port") + " user=" + from.at("user") +
             " application_name=twin"},
        as);
  } else {
    run({"/bin/cp", "-a", original.data().string(), data}, as);
    dev::write_file(options.folder / "data" / "standby.signal", "", as);
  }
  server_ = std::make_unique<dev::PrivateServer>(std::move(options));
  server_->start();
}

void Twin::promote() const {
  Sql sql(url(), std::chrono::seconds(20));
  if (!sql.truth("select pg_promote(true, 60)")) throw std::runtime_error("the twin was not promoted");
}

std::string either(std::string const& first, std::string const& second) {
  auto const one = keywords(first);
  auto const two = keywords(second);
  return "host=" + one.at("host") + "," + two.at("host") + " port=" + one.at("port") + "," + two.at("port") +
         " user=" + one.at("user") + " dbname=" + one.at("dbname") + " target_session_attrs=read-write";
}

}  // namespace posthouse::test
