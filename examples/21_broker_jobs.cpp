// SPDX-License-Identifier: Apache-2.0
// SQL jobs by hand, as the broker runs them: add one, claim it, run it in a transaction of one's own; a schedule of such
// jobs as a row. Everything here is SQL and works in psql as well.
//
//   build/release/bin/example_21_broker_jobs postgresql://user@host/database
//
// Needs the schema (`posthouse install`). Ends with status 0 when the first job and its end rolled back together, then
// succeeded, the second failed and left nothing, and the schedule was there.
#include <libpq-fe.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>

namespace {

class Session {
 public:
  explicit Session(std::string const& url) : connection_(PQconnectdb(url.c_str()), PQfinish) {
    if (PQstatus(connection_.get()) != CONNECTION_OK) throw std::runtime_error(PQerrorMessage(connection_.get()));
  }
  /// The first field of the first row; empty when there is none.
  std::string one(char const* sql) {
    std::unique_ptr<PGresult, void (*)(PGresult*)> const result(PQexec(connection_.get(), sql), PQclear);
    auto const status = PQresultStatus(result.get());
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
      throw std::runtime_error(PQresultErrorMessage(result.get()));
    }
    return PQntuples(result.get()) > 0 ? PQgetvalue(result.get(), 0, 0) : "";
  }

 private:
  std::unique_ptr<PGconn, void (*)(PGconn*)> connection_;
};

}  // namespace

int main(int argc, char** argv) try {
  char const* const variable = std::getenv("DATABASE_URL");
  Session session(argc > 1 ? argv[1] : variable != nullptr ? variable : "");
  bool right = true;
  auto const expect = [&](bool condition, char const* what) {
    std::cout << what << ": " << (condition ? "yes" : "NO") << '\n';
    right = right && condition;
  };
  session.one("set search_path = posthouse, public");
  session.one(
      "create table if not exists public.example_old (day int); truncate public.example_old; "
      "insert into public.example_old select generate_series(1, 10)");

  // Who adds the job is who it runs as, unless run_as names a role that he is a member of.
  auto const id = session.one(
      "select broker_add_job('clean up', 'delete from public.example_old where day <= 7', user_login => 'alice')");
  expect(session.one("select status from broker_jobs order by id desc limit 1") == "available", "the job waits");

  // broker_get claims one job of queue 1 for this session; broker_run is a part of the caller's transaction.
  expect(session.one("select id from broker_get()") == id, "this session has it");
  session.one("begin");
  session.one(("select broker_run(" + id + ")").c_str());
  session.one("rollback");
  expect(session.one("select count(*) from public.example_old") == "10", "what it did was rolled back");
  expect(session.one(("select status from broker_jobs where id = " + id).c_str()) == "running", "and so was its end");
  expect(session.one(("select broker_run(" + id + ") ->> 'row_count'").c_str()) == "7", "it deleted seven rows");
  expect(session.one(("select status from broker_jobs where id = " + id).c_str()) == "succeeded", "it succeeded");

  auto const broken = session.one("select broker_add_job('broken', 'delete from public.example_old; select 1/0')");
  session.one("select id from broker_get()");
  expect(session.one(("select broker_run(" + broken + ") ->> 'sqlstate'").c_str()) == "22012", "the second failed");
  expect(session.one("select count(*) from public.example_old") == "3", "and left nothing");

  // A schedule of SQL jobs is a row.
  session.one(
      "insert into broker_schedule (name, cron, timezone, execute_str) values ('example nightly', '0 3 * * *', "
      "'Europe/Berlin', 'delete from public.example_old')");
  expect(session.one("select next_run_at > now() from broker_schedule where name = 'example nightly'") == "t",
         "the schedule knows its next run");
  session.one("delete from broker_schedule where name = 'example nightly'");
  session.one("drop table public.example_old");
  return right ? 0 : 1;
} catch (std::exception const& error) {
  std::cerr << error.what() << '\n';
  return 1;
}
