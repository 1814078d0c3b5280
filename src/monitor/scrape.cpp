// SPDX-License-Identifier: Apache-2.0
#include "monitor/scrape.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "core/json_path.hpp"
#include "core/text.hpp"
#include "monitor/exposition.hpp"
#include "monitor/process.hpp"

namespace posthouse::monitor {
namespace {

using End = JobMetrics::End;

/// What is known of one database at this moment.
struct Seen {
  std::string name{};
  Health health{};
  std::map<JobMetrics::Pair, JobMetrics::Numbers> jobs{};
  std::optional<WorkerStats> worker{};
  std::optional<std::int64_t> connections{};
  std::optional<Measurement> measured{};
};

std::vector<Seen> look(Sources const& sources, Measurer const& measurer) {
  std::vector<Seen> all;
  for (auto const& entry : sources.all()) {
    std::lock_guard const lock(entry->gate);
    if (entry->removed) continue;
    auto const& source = entry->source;
    Seen seen{.name = source.name, .health = source.health(), .measured = measurer.of(source.name)};
    if (source.jobs) seen.jobs = source.jobs->read();
    if (source.worker) seen.worker = source.worker();
    if (source.connections) seen.connections = source.connections();
    all.push_back(std::move(seen));
  }
  return all;
}

double number(std::int64_t value) { return static_cast<double>(value); }

void ended_jobs(Exposition& out, std::vector<Seen> const& all) {
  out.family("posthouse_jobs_finished_total", "counter", "Jobs that this process has brought to an end.");
  for (auto const& seen : all) {
    for (auto const& [pair, numbers] : seen.jobs) {
      for (auto const end : {End::succeeded, End::failed, End::cancelled, End::expired}) {
        auto const n = numbers.by_end[static_cast<std::size_t>(end)];
        // Success and failure from the start, so that rates are right from the first job on.
        if (n == 0 && end != End::succeeded && end != End::failed) continue;
        out.sample({{"database", seen.name},
                    {"queue", pair.first},
                    {"kind", pair.second},
                    {"outcome", JobMetrics::name_of(end)}},
                   number(n));
      }
    }
  }
  out.family("posthouse_attempts_total", "counter", "Attempts of jobs that this process has made, by how they ended.");
  for (auto const& seen : all) {
    for (auto const& [pair, numbers] : seen.jobs) {
      for (std::size_t i = 0; i < JobMetrics::ends; ++i) {
        auto const end = static_cast<End>(i);
        if (numbers.by_end[i] == 0 || end == End::expired) continue;
        out.sample({{"database", seen.name},
                    {"queue", pair.first},
                    {"kind", pair.second},
                    {"outcome", JobMetrics::name_of(end)}},
                   number(numbers.by_end[i]));
      }
    }
  }
  out.family("posthouse_attempt_duration_seconds", "histogram", "How long attempts ran in this process.");
  for (auto const& seen : all) {
    for (auto const& [pair, numbers] : seen.jobs) {
      std::int64_t count = 0;
      for (std::size_t i = 0; i < numbers.buckets.size(); ++i) {
        count += numbers.buckets[i];
        auto const bound = i < JobMetrics::bounds.size() ? plain_number(JobMetrics::bounds[i]) : std::string("+Inf");
        out.sample({{"database", seen.name}, {"queue", pair.first}, {"kind", pair.second}, {"le", bound}},
                   number(count), "_bucket");
      }
      Exposition::Labels const labels{{"database", seen.name}, {"queue", pair.first}, {"kind", pair.second}};
      out.sample(labels, numbers.seconds, "_sum");
      out.sample(labels, number(count), "_count");
    }
  }
}

void workers(Exposition& out, std::vector<Seen> const& all) {
  auto const family = [&](char const* name, char const* help, std::int64_t WorkerStats::*field) {
    out.family(name, "counter", help);
    for (auto const& seen : all) {
      if (seen.worker) out.sample({{"database", seen.name}}, number((*seen.worker).*field));
    }
  };
  family("posthouse_jobs_claimed_total", "Jobs that this process has claimed.", &WorkerStats::claimed);
  family("posthouse_claims_total", "Claims that this process has made.", &WorkerStats::claims);
  family("posthouse_empty_claims_total", "Claims that brought no job.", &WorkerStats::empty_claims);
  family("posthouse_statements_total", "Statements that this process has sent for claims, ends, looks and heartbeats.",
         &WorkerStats::statements);
  family("posthouse_lease_lost_total", "Jobs whose end came too late: they were somebody else's by then.",
         &WorkerStats::lease_lost);
  out.family("posthouse_connections", "gauge", "Connections that this process has open to the database.");
  for (auto const& seen : all) {
    if (seen.connections) out.sample({{"database", seen.name}}, number(*seen.connections));
  }
}

/// A family made of the rows of measure() with one name.
struct Measured {
  char const* row;
  char const* metric;
  char const* help;
  char const* state_label = nullptr;  ///< null: there is none
  bool by_pair = false;
  bool sum = true;  ///< of those beyond max_series; else the largest
};

constexpr Measured kMeasured[] = {
    {"jobs", "posthouse_jobs",
     "Jobs that wait or run, by state; counted up to 10000 a lane, see posthouse_jobs_capped.", "state", true},
    {"capped", "posthouse_jobs_capped", "1 where posthouse_jobs has reached what is counted, and there may be more.",
     "state", true, false},
    {"oldest_seconds", "posthouse_oldest_seconds", "Age of the oldest job of the state: waiting, or running.", "state",
     true, false},
    {"wait_seconds", "posthouse_wait_seconds", "How long the first job of the newest claim had waited.", nullptr, true,
     false},
    {"dead_last_hour", "posthouse_dead_last_hour", "Jobs that came to the dead letters within the last hour.", "state",
     true},
    {"table_capped", "posthouse_measure_capped", "1 where a table has more rows than are counted.", "table"},
    {"due_late_seconds", "posthouse_promotion_lateness_seconds", "How long the most overdue delayed job is due."},
    {"workers", "posthouse_workers", "Live workers of the database, in all processes."},
    {"worker_slots", "posthouse_worker_slots", "Jobs that the live workers may run at once."},
    {"leader", "posthouse_leader_alive", "1 while a worker does the elected duties: delays, schedules, rescue."},
    {"leader_seen_seconds", "posthouse_leader_seen_seconds", "Since the leader's last round of duties."},
    {"leader_term_seconds", "posthouse_leader_term_seconds", "How long the leader has been leader."},
    {"schedules", "posthouse_schedules", "Schedules, active and paused.", "state"},
    {"schedule_late_seconds", "posthouse_schedule_lateness_seconds", "How long the most overdue schedule is due."},
    {"schedule_fire_late_seconds", "posthouse_schedule_fire_lateness_seconds",
     "Largest time from tick to job among those fired within five minutes, the last hundred at most."},
    {"schedule_ticks_last_hour", "posthouse_schedule_ticks_last_hour", "Ticks of schedules within the last hour.",
     "outcome"},
    {"paused", "posthouse_paused", "1 for each queue and each kind that is paused.", nullptr, true},
    {"server_connections", "posthouse_server_connections", "Connections to the database, of whomever, by their state.",
     "state"},
};

void measured_family(Exposition& out, Measured const& what, Seen const& seen) {
  std::vector<store::Gauge const*> rows;
  for (auto const& gauge : seen.measured->gauges) {
    if (gauge.name == what.row) rows.push_back(&gauge);
  }
  std::stable_sort(rows.begin(), rows.end(), [](auto const* a, auto const* b) { return a->value > b->value; });
  std::map<std::string, double> others;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    auto const& gauge = *rows[i];
    if (i >= max_series) {
      auto& other = others[gauge.state.value_or("")];
      other = what.sum ? other + gauge.value : std::max(other, gauge.value);
      continue;
    }
    Exposition::Labels labels{{"database", seen.name}};
    if (what.by_pair) {
      labels.emplace_back("queue", gauge.queue ? std::string_view(*gauge.queue) : std::string_view());
      labels.emplace_back("kind", gauge.kind ? std::string_view(*gauge.kind) : std::string_view());
    }
    if (what.state_label != nullptr) labels.emplace_back(what.state_label, *gauge.state);
    out.sample(labels, gauge.value);
  }
  for (auto const& [state, value] : others) {
    Exposition::Labels labels{{"database", seen.name}, {"queue", other_name}, {"kind", other_name}};
    if (what.state_label != nullptr) labels.emplace_back(what.state_label, state);
    out.sample(labels, value);
  }
}

void measurements(Exposition& out, std::vector<Seen> const& all) {
  for (auto const& what : kMeasured) {
    out.family(what.metric, "gauge", what.help);
    for (auto const& seen : all) {
      // What was true of a database that is away by now is not shown as if it were.
      if (seen.measured && seen.measured->measured && seen.health.state == State::serving) {
        measured_family(out, what, seen);
      }
    }
  }
  auto const now = Measurer::Clock::now();
  out.family("posthouse_measured_age_seconds", "gauge", "Age of what was asked of the database for this page.");
  for (auto const& seen : all) {
    if (seen.measured && seen.measured->measured) {
      out.sample({{"database", seen.name}}, std::chrono::duration<double>(now - seen.measured->at).count());
    }
  }
  out.family("posthouse_measure_duration_seconds", "gauge", "How long the database took to answer that.");
  for (auto const& seen : all) {
    if (seen.measured) out.sample({{"database", seen.name}}, seen.measured->seconds);
  }
  out.family("posthouse_measure_failures_total", "counter", "Times that it did not answer, or not within two seconds.");
  for (auto const& seen : all) {
    if (seen.measured) out.sample({{"database", seen.name}}, number(seen.measured->failures));
  }
}

}  // namespace

std::string metrics_text(Sources const& sources, Measurer const& measurer) {
  auto const all = look(sources, measurer);
  Exposition out;
  out.family("posthouse_build_info", "gauge", "1; the version is its label.");
  out.sample({{"version", POSTHOUSE_VERSION}}, 1);
  out.family("posthouse_database_up", "gauge", "1 while this process serves the database.");
  for (auto const& seen : all) {
    out.sample({{"database", seen.name}}, seen.health.state == State::serving ? 1 : 0);
  }
  out.family("posthouse_database_state", "gauge", "1 for the state that the database is in.");
  for (auto const& seen : all) {
    out.sample({{"database", seen.name}, {"state", name_of(seen.health.state)}}, 1);
  }
  ended_jobs(out, all);
  workers(out, all);
  measurements(out, all);
  process_metrics(out);
  return out.text();
}

Readiness readiness(Sources const& sources) {
  Readiness result;
  auto const text = [](std::string_view value) {
    return "\"" + core::json_escaped(core::sanitise(value, 1000)) + "\"";
  };
  for (auto const& entry : sources.all()) {
    auto const health = health_of(*entry);
    result.ready = result.ready || health.state == State::serving;
    result.json += result.json.empty() ? "" : ", ";
    result.json += R"({"name": )" + text(entry->source.name) + R"(, "state": )" + text(name_of(health.state)) +
                   R"(, "problem": )" + (health.problem.empty() ? "null" : text(health.problem)) + "}";
  }
  result.json =
      std::string(R"({"ready": )") + (result.ready ? "true" : "false") + R"(, "databases": [)" + result.json + "]}\n";
  return result;
}

}  // namespace posthouse::monitor
