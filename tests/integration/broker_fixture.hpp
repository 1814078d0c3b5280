// SPDX-License-Identifier: Apache-2.0
// A database with roles of its own: a daemon that runs jobs, an application that adds them, and somebody else.
//
// Thread safety: one thread at a time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "integration/worker_fixture.hpp"
#include "node/sql_jobs.hpp"

namespace posthouse::test {

class BrokerTest : public WorkerTest {
 protected:
  BrokerTest() : daemon(database.name() + "_daemon"), app(database.name() + "_app"), other(database.name() + "_other") {
    for (auto const& role : {daemon, app, other}) sql.exec("create role " + role + " login");
    sql.exec("grant usage on schema posthouse to " + daemon + ", " + app + ", " + other);
    sql.exec("grant execute on all functions in schema posthouse to " + daemon);
    sql.exec("grant select on meta, lane, partition to " + daemon);
    sql.exec("grant execute on function broker_add_job, broker_enqueue, broker_set, enqueue to " + app + ", " + other);
    sql.exec("create table public.seen (what text); grant all on public.seen to " + daemon + ", " + app + ", " + other);
  }
  ~BrokerTest() override {
    try {
      for (auto const& role : made_) drop(role);
      for (auto const& role : {daemon, app, other}) drop(role);
    } catch (std::exception const& error) {
      ADD_FAILURE() << "roles are left behind: " << error.what();
    }
  }

  void make_role(std::string const& name, std::string const& how = "login") {
    sql.exec("create role " + name + " " + how);
    made_.push_back(name);
  }
  [[nodiscard]] std::string url_of(std::string const& role) const {
    return url() + (url().find('?') == std::string::npos ? "?user=" : "&user=") + role;
  }
  [[nodiscard]] Sql as(std::string const& role) const { return engine_session(url_of(role)); }

  /// As `role`, from a session of its own.
  std::int64_t add_as(std::string const& role, std::string const& statement, std::string const& more = {}) {
    auto session = as(role);
    return session.number("select broker_add_job('job of " + role + "', $1" + (more.empty() ? "" : ", " + more) + ")",
                          statement);
  }

  /// Works what is there as the daemon would. `logins`: of other roles.
  WorkerStats work(node::RunAsLogins logins = {}, HandlerOptions policy = node::SqlJobs::once()) {
    return work_as(daemon, std::move(logins), std::move(policy));
  }
  WorkerStats work_as(std::string const& login, node::RunAsLogins logins = {},
                      HandlerOptions policy = node::SqlJobs::once()) {
    auto worker_options = quick();
    worker_options.database_url = url_of(login);
    worker_options.concurrency = 1;
    worker_options.once = true;
    worker_options.duties = false;
    node::SqlJobs::Options job_options;
    job_options.database.database_url = worker_options.database_url;
    job_options.entry = "main";
    job_options.run_as = std::move(logins);
    job_options.kill_after = 300ms;
    node::SqlJobs jobs(job_options, base::Log(worker_options.logger));
    Worker worker(worker_options);
    jobs.add_to(worker, policy);
    return work_once(worker);
  }
  static node::RunAsLogins peer(std::string const& role) {
    node::RunAsLogin login;
    login.peer = true;
    return {{role, login}};
  }

  std::string error_of(std::int64_t id) {
    return sql.one(
        "select coalesce((select type || ': ' || message from attempt_error where job = $1 order by attempt "
        "desc limit 1), 'none')",
        id);
  }
  std::string context_of(std::int64_t id) {
    return sql.one(
        "select coalesce((select stack from attempt_error where job = $1 order by attempt desc limit 1), '')", id);
  }
  std::string result_of(std::int64_t id) {
    return sql.one("select coalesce((select value::text from result where job = $1), 'none')", id);
  }
  std::vector<std::string> seen() { return sql.column("select what from public.seen order by what"); }

  std::string const daemon;
  std::string const app;
  std::string const other;

 private:
  void drop(std::string const& role) {
    sql.exec("select pg_terminate_backend(pid) from pg_stat_activity where usename = '" + role + "'; drop owned by " +
             role + "; drop role " + role);
  }
  std::vector<std::string> made_{};
};

}  // namespace posthouse::test
