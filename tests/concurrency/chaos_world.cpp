// SPDX-License-Identifier: Apache-2.0
#include "concurrency/chaos_world.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>
#include <thread>

namespace posthouse::test::chaos {
namespace {

std::filesystem::path new_folder() {
  auto const folder = std::filesystem::temp_directory_path() /
                      ("posthouse_chaos_" + std::to_string(::getpid()) + "_" + std::to_string(std::random_device{}()));
  std::filesystem::create_directory(folder);
  return folder;
}

std::string ms(milliseconds time) { return std::to_string(time.count()); }

}  // namespace

TestServer& durable_server() {
  static TestServer server(TestServer::durable);
  return server;
}

double patience() {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  constexpr double build = 4;
#else
  constexpr double build = 1;
#endif
  double load = 0;
  if (::getloadavg(&load, 1) != 1) load = 0;
  auto const processors = std::max(1U, std::thread::hardware_concurrency());
  return build * std::clamp(load / processors, 1.0, 10.0);
}

milliseconds patient(milliseconds time) {
  return milliseconds(static_cast<std::int64_t>(static_cast<double>(time.count()) * patience()));
}

int knob(char const* name, int normal, int extended) {
  auto const set = [](char const* variable) {
    char const* const value = std::getenv(variable);
    return value != nullptr && *value != '\0' ? value : nullptr;
  };
  if (auto const* value = set(name)) return std::stoi(value);
  return set("POSTHOUSE_TEST_LONG") != nullptr ? extended : normal;
}

World::World(TestServer& server)
    : database_("posthouse", server), folder_(new_folder()), history_(folder_ / "history") {
  sql().exec(R"(
    create schema chaos;
    create table chaos.effect (u bigint, job bigint, attempt int, token text, how text, at timestamptz default clock_timestamp());
    create index on chaos.effect (u);
    create table chaos.orders (u bigint))");
  // A planted fault must turn the tests red: see docs/internals/chaos.md.
  char const* const fault = std::getenv("POSTHOUSE_TEST_PLANT");
  if (fault == nullptr || *fault == '\0') return;
  std::ifstream file(fault);
  std::stringstream text;
  text << file.rdbuf();
  sql().exec("set search_path = posthouse, pg_temp; " + text.str() + "; reset search_path");
}

World::~World() {
  if (::testing::Test::HasFailure() || std::getenv("POSTHOUSE_TEST_KEEP") != nullptr) {
    std::printf("the history is kept: %s\n", history_.path().c_str());
    return;
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

std::unique_ptr<ChildProcess> World::worker(WorkerSpec const& spec) {
  return std::make_unique<ChildProcess>(ChildProcess::Options{
      .argv = {POSTHOUSE_CHAOS_PROGRAM, "worker", "url=" + (spec.url.empty() ? url() : spec.url),
               "history=" + history_.path(), "name=" + spec.name, "kinds=" + spec.kinds, "queues=" + spec.queues,
               "concurrency=" + std::to_string(spec.concurrency), "prefetch=" + std::to_string(spec.prefetch),
               "lease=" + ms(spec.lease), "heartbeat=" + ms(spec.heartbeat), "grace=" + ms(spec.grace),
               "timeout=" + ms(spec.timeout), "duties=" + std::to_string(spec.duties ? 1 : 0)}});
}

std::unique_ptr<ChildProcess> World::client(std::uint64_t seed, std::int64_t first, int threads, int pause_ms) {
  return std::make_unique<ChildProcess>(
      ChildProcess::Options{.argv = {POSTHOUSE_CHAOS_PROGRAM, "client", "url=" + url(), "history=" + history_.path(),
                                     "seed=" + std::to_string(seed), "first=" + std::to_string(first),
                                     "threads=" + std::to_string(threads), "pause=" + std::to_string(pause_ms)}});
}

Sql& World::sql() {
  if (!sql_) sql_ = std::make_unique<Sql>(url(), 20s);
  return *sql_;
}

std::int64_t World::enqueue(std::string const& kind, std::string const& plan, std::string const& options) {
  auto const u = next_u_++;
  auto const text = std::to_string(u);
  history_.note("invoke", {{"op", text}, {"how", "single"}, {"u", text}});
  auto const id = sql().number("select posthouse.enqueue($1, $2::jsonb" + (options.empty() ? "" : ", " + options) + ")",
                               kind, "{\"u\": " + text + (plan.empty() ? "" : ", " + plan) + "}");
  history_.note("ok", {{"op", text}, {"ids", std::to_string(id)}});
  return u;
}

std::int64_t World::id(std::int64_t u) {
  return sql().number("select id from posthouse.jobs where (payload ->> 'u')::bigint = $1", u);
}

std::string World::state(std::int64_t u) {
  return sql().one("select state from posthouse.jobs where (payload ->> 'u')::bigint = $1", u);
}

std::vector<Event> World::events(std::string const& what, std::map<std::string, std::string> const& fields) {
  auto all = History::read(history_.path());
  std::erase_if(all, [&](Event const& event) {
    return event.what != what || !std::all_of(fields.begin(), fields.end(), [&](auto const& field) {
             return event.text(field.first) == field.second;
           });
  });
  return all;
}

::testing::AssertionResult World::happens(std::string const& what, std::map<std::string, std::string> const& fields,
                                          std::size_t times, milliseconds deadline) {
  return eventually([&] { return events(what, fields).size() >= times; }, patient(deadline));
}

bool World::logged(std::string const& text) {
  for (auto const& event : events("log")) {
    if (event.text("text").find(text) != std::string::npos) return true;
  }
  return false;
}

std::int64_t World::unfinished() {
  return sql().number("select count(*) from posthouse.jobs where state not in ('succeeded', 'failed')");
}

Evidence World::evidence() {
  Evidence evidence;
  evidence.history = History::read(history_.path());
  for (auto const& row : sql().rows("select u, job, attempt, token, how from chaos.effect")) {
    evidence.effects.push_back({.u = std::stoll(*row[0]),
                                .job = std::stoll(*row[1]),
                                .attempt = std::stoi(*row[2]),
                                .token = *row[3],
                                .how = *row[4]});
  }
  for (auto const& u : sql().column("select u from chaos.orders")) evidence.orders.insert(std::stoll(u));
  for (auto const& row : sql().rows("select id, payload ->> 'u', state, attempt from posthouse.jobs")) {
    evidence.jobs.push_back(
        {.id = std::stoll(*row[0]), .u = std::stoll(*row[1]), .state = *row[2], .attempt = std::stoi(*row[3])});
  }
  for (auto const& row : sql().rows("select job, attempt, type, worker from posthouse.attempt_error")) {
    evidence.errors.push_back({.job = std::stoll(*row[0]),
                               .attempt = std::stoi(*row[1]),
                               .type = row[2].value_or(""),
                               .worker = row[3] ? std::stoll(*row[3]) : 0});
  }
  for (auto const& row : sql().rows("select id, coalesce(end_reason, 'alive') from posthouse.worker")) {
    evidence.ends[std::stoll(*row[0])] = *row[1];
  }
  return evidence;
}

void World::expect_nothing_left() {
  EXPECT_EQ(sql().number("select count(*) from posthouse.jobs where state = 'running'"), 0);
  EXPECT_EQ(sql().number("select count(*) from posthouse.batch where closed_at is null"), 0);
  EXPECT_EQ(sql().number("select count(*) from posthouse.worker where reaped_at is null"), 0);
  EXPECT_TRUE(eventually([&] {
    return sql().number(
               "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
               " and backend_type = 'client backend'") == 0;
  })) << "connections are left open";
  EXPECT_EQ(sql().number("select count(*) from pg_locks l join pg_database d on d.oid = l.database"
                         " where l.locktype = 'advisory' and d.datname = current_database()"),
            0);
}

Verdict World::expect_consistent() {
  auto verdict = judge(evidence());
  for (std::size_t i = 0; i < verdict.violations.size() && i < 20; ++i) ADD_FAILURE() << verdict.violations[i];
  if (verdict.violations.size() > 20) ADD_FAILURE() << "and " << verdict.violations.size() - 20 << " more";
  return verdict;
}

int leave(ChildProcess& process, milliseconds deadline) {
  process.terminate();
  return process.wait(patient(deadline)).value_or(-1);
}

}  // namespace posthouse::test::chaos
