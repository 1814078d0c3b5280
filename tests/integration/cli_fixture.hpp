// SPDX-License-Identifier: Apache-2.0
// Runs the program `posthouse` against a database of its own.
//
// Thread safety: one thread at a time.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "support/child_process.hpp"
#include "support/database.hpp"
#include "support/eventually.hpp"

namespace posthouse::test {

struct Ran {
  int status = -1;
  std::string out{};
  std::string err{};
};

/// A folder that goes with the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string path = (std::filesystem::temp_directory_path() / "posthouse-cli-XXXXXX").string();
    if (::mkdtemp(path.data()) == nullptr) throw std::runtime_error("mkdtemp");
    path_ = path;
  }
  TemporaryFolder(TemporaryFolder const&) = delete;
  TemporaryFolder& operator=(TemporaryFolder const&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] std::filesystem::path const& path() const noexcept { return path_; }

  [[nodiscard]] std::string write(std::string const& name, std::string const& text) const {
    std::ofstream(path_ / name) << text;
    return (path_ / name).string();
  }
  [[nodiscard]] std::string read(std::string const& name) const {
    std::ifstream file(path_ / name);
    return {std::istreambuf_iterator<char>(file), {}};
  }

 private:
  std::filesystem::path path_;
};

/// Nothing of the machine's own configuration reaches the program.
inline std::map<std::string, std::string> clean_environment(TemporaryFolder const& folder) {
  std::map<std::string, std::string> environment{{"POSTHOUSE_DEV_HOME", (folder.path() / "dev").string()},
                                                 {"POSTHOUSE_CONFIG", folder.write("empty.yaml", "{}\n")}};
  for (auto const* name : {"POSTHOUSE_DATABASE_URL", "POSTHOUSE_SCHEMA", "DATABASE_URL", "PGHOST", "PGHOSTADDR",
                           "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"}) {
    environment[name] = "";
  }
  return environment;
}

class CliTest : public ::testing::Test {
 protected:
  ChildProcess start(std::vector<std::string> arguments, std::string input = {}) {
    arguments.insert(arguments.begin(), posthouse_program());
    return ChildProcess({.argv = std::move(arguments), .environment = environment, .input = std::move(input)});
  }
  Ran run(std::vector<std::string> arguments, std::string input = {}) {
    auto child = start(std::move(arguments), std::move(input));
    auto const status = child.wait(std::chrono::seconds(60));
    return {status.value_or(-1), child.output(), child.errors()};
  }

  TemporaryFolder folder{};
  std::map<std::string, std::string> environment = clean_environment(folder);
};

/// With a database that has the schema.
class CliDatabaseTest : public CliTest {
 protected:
  CliDatabaseTest() {
    auto const options = database.options();
    environment["POSTHOUSE_DATABASE_URL"] = options.database_url;
    if (!options.pgbouncer_transaction_mode) return;
    environment["POSTHOUSE_SESSION_DATABASE_URL"] = options.session_database_url;
    environment["POSTHOUSE_PGBOUNCER_TRANSACTION_MODE"] = "true";
  }
  std::string state(std::string const& id) { return sql.one("select state from posthouse.jobs where id = $1", id); }

  TestDatabase database{};
  Sql sql{database.url()};
};

/// A line without its end.
inline std::string chomp(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace posthouse::test
