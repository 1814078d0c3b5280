// SPDX-License-Identifier: Apache-2.0
#include "support/pooler.hpp"

#include <cstdlib>
#include <stdexcept>

#include "support/server.hpp"
#include "support/sql.hpp"

namespace posthouse::test {

std::unique_ptr<dev::Pooler> make_pooler(int pool_size) {
  auto const program = dev::find_pgbouncer();
  if (!program) return nullptr;
  Sql sql(TestServer::shared().url());
  auto const facts = sql.rows(
                            "select current_user, split_part(current_setting('unix_socket_directories'), ',', 1), "
                            "current_setting('port')")
                         .at(0);
  return std::make_unique<dev::Pooler>(dev::PoolerOptions{
      .program = *program, .host = *facts[1], .port = *facts[2], .user = *facts[0], .pool_size = pool_size});
}

std::string url_through(dev::Pooler const& pooler, std::string const& database) {
  return "host=" + pooler.socket_folder().string() + " port=" + std::to_string(dev::Pooler::port()) +
         " user=anyone dbname=" + database;
}

std::string pooled_url(std::string const& database) {
  static auto const shared = []() -> std::unique_ptr<dev::Pooler> {
    char const* const size = std::getenv("POSTHOUSE_TEST_POOLER");
    if (size == nullptr || *size == '\0') return nullptr;
    auto pooler = make_pooler(std::atoi(size));
    if (!pooler) throw std::runtime_error("POSTHOUSE_TEST_POOLER is set, but pgbouncer is not installed");
    return pooler;
  }();
  return shared ? url_through(*shared, database) : std::string();
}

}  // namespace posthouse::test
