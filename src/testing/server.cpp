// SPDX-License-Identifier: Apache-2.0
#include "testing/server.hpp"

#include <unistd.h>

#include <cstdlib>
#include <random>

#include <posthouse/error.hpp>
#include <posthouse/options.hpp>
#include <posthouse/schema.hpp>

#include "core/database_url.hpp"
#include "dev/folder.hpp"
#include "pg/connection.hpp"

namespace posthouse::testing {

std::string with_database(std::string const& url, std::string_view database) {
  std::string const clean = core::normalise_database_url(url);
  auto const scheme = clean.find("://");
  if (scheme == std::string::npos) return clean + " dbname=" + std::string(database);  // the last one counts
  auto const query = clean.find('?', scheme + 3);
  auto const slash = clean.find('/', scheme + 3);
  auto const end_of_host = std::min(slash, query);
  return clean.substr(0, end_of_host) + "/" + std::string(database) +
         (query == std::string::npos ? "" : clean.substr(query));
}

Server::Server(bool durable, std::string const& settings) : owner_(::getpid()) {
  dev::ServerOptions options;
  options.folder = dev::make_short_folder(std::nullopt);
  options.fast = !durable;
  options.ephemeral = true;
  options.settings = settings;
  own_ = std::make_unique<dev::PrivateServer>(std::move(options));
  own_->start();
}

Server::~Server() {
  if (own_ || external_url_.empty() || owner_ != ::getpid()) return;
  for (auto const& entry : templates_) drop(entry.second);
}

Server& Server::shared() {
  static std::unique_ptr<Server> const server = [] {
    char const* const url = std::getenv("POSTHOUSE_TEST_SERVER_URL");
    return url != nullptr && *url != '\0' ? std::make_unique<Server>(std::string(url))
                                          : std::make_unique<Server>(false);
  }();
  return *server;
}

std::string Server::url(std::string_view database) const {
  return own_ ? own_->url(database) : with_database(external_url_, database);
}

void Server::run(std::string const& sql) const {
  DatabaseOptions options;
  options.database_url = own_ ? own_->url() : external_url_;
  options.application_name = "posthouse-testing";
  pg::Connection::open(options)->script(sql);
}

std::string Server::new_name() {
  // Several processes may share a server.
  std::random_device random;
  return "posthouse_test_" + std::to_string(::getpid()) + "_" + std::to_string(random()) + "_" +
         std::to_string(++made_);
}

std::string const& Server::template_of(std::string const& schema) {
  auto const found = templates_.find(schema);
  if (found != templates_.end()) return found->second;
  std::string const name = new_name();
  run("create database " + name);
  try {
    DatabaseOptions options;
    options.database_url = url(name);
    options.schema = schema;
    install(options);
  } catch (...) {
    drop(name);
    throw;
  }
  owner_ = ::getpid();
  return templates_.emplace(schema, name).first->second;
}

std::string Server::create(std::string const& schema) {
  std::lock_guard const lock(mutex_);
  auto const& from = template_of(schema);
  std::string name = new_name();
  run("create database " + name + " template " + from);
  return name;
}

std::string Server::create_empty() {
  std::lock_guard const lock(mutex_);
  std::string name = new_name();
  run("create database " + name);
  return name;
}

void Server::drop(std::string const& database) noexcept {
  try {
    run("drop database if exists " + database + " with (force)");
  } catch (std::exception const&) {
    // A server that a test has stopped, for one.
  }
}

}  // namespace posthouse::testing
