// SPDX-License-Identifier: Apache-2.0
// Effects exactly once: the handler's writes and the job's completion commit in one transaction of the handler's.
//
//   build/release/bin/example_06_transactional_completion postgresql://user@host/database
//
// Needs the schema (`posthouse install`). Ends with status 0 when a handler that rolled back once and then committed
// has left exactly one row.
#include <libpq-fe.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <posthouse/adapter/libpq.hpp>
#include <posthouse/posthouse.hpp>
#include <stdexcept>
#include <string>
#include <thread>

using namespace std::chrono_literals;

class Session {
 public:
  explicit Session(std::string const& url) : connection_(PQconnectdb(url.c_str()), PQfinish) {
    if (PQstatus(get()) != CONNECTION_OK) throw std::runtime_error(PQerrorMessage(get()));
  }
  [[nodiscard]] PGconn* get() const { return connection_.get(); }
  /// The first value of the first row, if there is one.
  std::string run(std::string const& sql) const {
    std::unique_ptr<PGresult, decltype(&PQclear)> const result(PQexec(get(), sql.c_str()), PQclear);
    auto const status = PQresultStatus(result.get());
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) throw std::runtime_error(PQerrorMessage(get()));
    return PQntuples(result.get()) > 0 ? PQgetvalue(result.get(), 0, 0) : "";
  }

 private:
  std::unique_ptr<PGconn, decltype(&PQfinish)> connection_;
};

int main(int argc, char** argv) try {
  char const* const variable = std::getenv("DATABASE_URL");
  std::string const url = argc > 1 ? argv[1] : variable != nullptr ? variable : "";
  Session const main_session(url);
  main_session.run("create table if not exists example_payment (job bigint, cents bigint)");

  posthouse::Client client({.database_url = url});
  auto const job_id = client.enqueue("example.pay", posthouse::json{"1250"}).id;

  posthouse::Worker worker({.database_url = url});
  posthouse::HandlerOptions const policy{.backoff = posthouse::Backoff::fixed({100ms})};
  worker.on("example.pay", policy, [&](posthouse::Job const& job) {
    Session const session(url);  // a real program takes one from its pool
    session.run("begin");
    session.run("insert into example_payment values (" + std::to_string(job.id()) + ", " +
                std::string(job.payload().data()) + ")");
    job.complete(session.get());  // throws LeaseLost when another worker has the job by now: then nothing is committed
    if (job.attempt() == 1) {
      std::cout << "attempt 1: something goes wrong after complete(); the connection's end rolls both back\n";
      throw std::runtime_error("broken after complete()");
    }
    session.run("commit");
    std::cout << "attempt " << job.attempt() << ": committed\n";
  });
  worker.start();

  auto const state = [&] { return client.find(job_id).value_or(posthouse::JobInfo{}).state; };
  auto const until = std::chrono::steady_clock::now() + 30s;
  while (state() != "succeeded" && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(50ms);
  worker.stop();

  auto const rows = main_session.run("select count(*) from example_payment where job = " + std::to_string(job_id));
  std::cout << "job " << job_id << ": " << state() << ", payments booked: " << rows << '\n';
  return state() == "succeeded" && rows == "1" ? 0 : 1;
} catch (std::exception const& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
