// SPDX-License-Identifier: Apache-2.0
// doctor: what is wrong, worst first, each with what mends it.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "base/terminal.hpp"
#include "cli/command.hpp"
#include "cli/print.hpp"
#include "store/doctor.hpp"
#include "store/migrate.hpp"

namespace posthouse::cli {
namespace {

using store::Finding;

constexpr std::chrono::milliseconds hear_within{2'000};
constexpr int listening = 1;

void look_at_connections(node::Config const& config, pg::Connection& connection, std::vector<Finding>& findings) {
  auto const transport = store::transport(connection);
  if (transport.remote && !transport.encrypted) {
    findings.push_back({"encryption", "warning", "jobs and passwords cross the network in the clear",
                        "Add sslmode=verify-full (and sslrootcert) to the URL, and let pg_hba.conf ask for hostssl."});
  } else if (transport.remote && config.database.database_url.find("sslmode=verify-full") == std::string::npos) {
    findings.push_back({"encryption", "notice", "the connection is encrypted, but nobody has checked who the server is",
                        "Add sslmode=verify-full and sslrootcert to the URL."});
  }
  auto const session = pg::Connection::open_session(config.database);
  if (!store::hears(*session, connection, hear_within)) {
    findings.push_back({"notifications", "warning",
                        "a NOTIFY did not arrive: there is a pooler in transaction mode in between, and workers look "
                        "every second instead of being woken",
                        "Set session_database_url to the server itself, and pgbouncer_transaction_mode: true."});
  }
}

/// The formulas of docs/reference/remote.md.
struct Budget {
  std::int64_t worker = 0;
  std::int64_t producer = 0;
  std::string sentence{};  ///< with the room that there is
  bool fits = true;
};

Budget budget_of(node::Config const& config, store::Room const& room) {
  int const processes = node::processes_of(config);
  auto const children = std::int64_t{processes} * config.worker_child_pool_max_size;
  // The keys that say the connections of sql jobs outright may ask for more than worker_max_overflow.
  int const sql = processes == 0 ? node::sql_connections_of(config) : 0;
  int const more = std::max(config.worker_max_overflow, node::own_connections + sql - config.worker_pool_size);
  auto const pool = node::producers_pool(config);
  Budget budget{.worker = config.worker_pool_size + more + listening + children,
                .producer = pool.pool_size + pool.max_overflow};
  budget.fits = budget.worker <= room.free;
  budget.sentence = fmt::format(
      "a worker of this configuration takes up to {} (worker_pool_size {} + {} {} + 1 to LISTEN{}), and {} of {} are "
      "free "
      "({}); a producer's pool takes up to {} (pool_size {} + max_overflow {})",
      with_commas(budget.worker), config.worker_pool_size,
      more > config.worker_max_overflow ? "for sql jobs" : "worker_max_overflow", more,
      processes == 0 ? ""
                     : fmt::format(" + {} processes * worker_child_pool_max_size {}", processes,
                                   config.worker_child_pool_max_size),
      with_commas(room.free), with_commas(room.most), room.limit, budget.producer, pool.pool_size, pool.max_overflow);
  return budget;
}

void look_at_schema(pg::Connection& connection, std::vector<Finding>& findings) {
  auto const differences = store::verify(connection);
  if (differences.empty()) return;
  bool const by_upgrade = std::all_of(differences.begin(), differences.end(),
                                      [](auto const& one) { return one.mend == store::Mend::upgrade; });
  findings.push_back(
      {"schema", "error",
       fmt::format("differs from what this version expects in {}: {}",
                   count_of(static_cast<std::int64_t>(differences.size()), "place"), differences.front().sentence),
       by_upgrade ? "posthouse upgrade mends it."
                  : "posthouse verify names all of them and says what posthouse upgrade mends and what only a hand."});
}

int severity(Finding const& finding) { return finding.level == "error" ? 0 : finding.level == "warning" ? 1 : 2; }

void print_people(std::vector<Finding> const& findings) {
  bool const colour = ::isatty(STDOUT_FILENO) == 1;
  for (auto const& finding : findings) {
    auto const level = base::printable(finding.level);
    char const* const paint = severity(finding) == 0 ? "\x1b[31m" : severity(finding) == 1 ? "\x1b[33m" : "\x1b[36m";
    print(fmt::format("{}{:<8}{} {}: {}\n         mend: {}\n", colour ? paint : "", level, colour ? "\x1b[0m" : "",
                      base::printable(finding.subject), base::printable(finding.finding),
                      base::printable(finding.mend)));
  }
  if (findings.empty()) print("nothing is wrong\n");
}

}  // namespace

void add_doctor_command(CLI::App& app, Context& context) {
  auto const json = std::make_shared<bool>(false);
  auto& command =
      add_command(app, "doctor", "Look for what is wrong, and say what mends it; exit status 1 for an error",
                  {"posthouse doctor", "posthouse doctor --json | jq -r '.[] | .level + \": \" + .finding'"});
  command.add_flag("--json", *json, "print an array of objects: subject, level, finding, mend");
  on_run(command, context, [&context, json] {
    auto const config = context.config();
    auto const connection = context.connect();
    std::vector<Finding> findings;
    look_at_schema(*connection, findings);
    // A schema of another version may not have the function, or have another one.
    if (findings.empty()) findings = store::doctor(*connection);
    look_at_connections(config, *connection, findings);
    auto const budget = budget_of(config, store::room(*connection));
    if (!budget.fits) {
      findings.push_back(
          {"connections", "warning", budget.sentence,
           "Raise max_connections, lower processes or worker_child_pool_max_size, or run fewer workers."});
    }
    std::stable_sort(findings.begin(), findings.end(),
                     [](Finding const& a, Finding const& b) { return severity(a) < severity(b); });
    if (*json) {
      std::vector<std::string> objects;
      for (auto const& finding : findings) {
        objects.push_back(JsonObject()
                              .text("subject", finding.subject)
                              .text("level", finding.level)
                              .text("finding", finding.finding)
                              .text("mend", finding.mend)
                              .str());
      }
      print(json_array(objects));
    } else {
      print_people(findings);
      if (budget.fits) print("connections: " + base::printable(budget.sentence) + "\n");
    }
    bool const bad = !findings.empty() && severity(findings.front()) == 0;
    return bad ? node::ExitStatus::failed : node::ExitStatus::done;
  });
}

}  // namespace posthouse::cli
