// SPDX-License-Identifier: Apache-2.0
#include "bench/bench.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <exception>

#include <posthouse/error.hpp>

#include "bench/scenarios.hpp"

namespace posthouse::bench {

namespace {

constexpr std::int64_t default_jobs = 300'000;
constexpr std::int64_t default_many_jobs = 1'000'000;

struct Entry {
  Scenario scenario;
  void (*run)(Site&, Options const&, Figures&);
  std::int64_t jobs = default_jobs;
  bool in_all = true;
};

std::vector<Entry> const& entries() {
  static std::vector<Entry> const all = {
      {{"throughput", "one worker drains a backlog of jobs that do nothing"}, throughput},
      {{"single", "claims of one job at a time, beside FOR UPDATE SKIP LOCKED"}, single},
      {{"enqueue", "many jobs by COPY, one job a transaction, beside raw COPY and INSERT"}, enqueue},
      {{"latency", "from the commit of an enqueue to the handler's start on an idle system"}, latency},
      {{"held-snapshot", "drain while another session holds a snapshot and has read the jobs view"},
       held_snapshot,
       default_many_jobs},
      {{"features", "what each feature of a job costs beside plain jobs, and under a held snapshot"}, features},
      {{"lanes", "a thousand lanes of which ten are busy, and a job in a cold one"}, lanes},
      {{"workers", "1, 4 and 16 worker processes on one lane"}, workers},
      {{"idle", "what ten idle workers ask of the server"}, idle},
      {{"fleet", "processor time that 200 idle workers cost the server, or as many as it has connections for"}, fleet},
      {{"databases", "what a broker costs that serves a hundred idle databases"}, databases},
      {{"backlog", "in front of a long backlog and after as many finished jobs; long, and not part of all"},
       backlog,
       default_many_jobs,
       false},
      {{"rtt", "a database 5 to 150 ms away, with and without prefetch, direct and pooled; long, and not part of all"},
       rtt,
       default_many_jobs,
       false},
  };
  return all;
}

}  // namespace

std::vector<Scenario> const& scenarios() {
  static std::vector<Scenario> const all = [] {
    std::vector<Scenario> list;
    for (auto const& entry : entries()) list.push_back(entry.scenario);
    list.push_back({"all", "every one of these but backlog and rtt"});
    return list;
  }();
  return all;
}

namespace {

void check_range(char const* name, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value >= least && value <= most) return;
  throw InvalidArgument(fmt::format("{} is {}; allowed is {} to {}", name, value, least, most));
}

void check(Options const& options) {
  if (options.jobs) check_range("jobs", *options.jobs, 1000, 100'000'000);
  check_range("repetitions", options.repetitions, 1, 100);
  check_range("seconds", options.seconds, 1, 3600);
  auto const& known = scenarios();
  if (std::any_of(known.begin(), known.end(), [&](auto const& one) { return one.name == options.scenario; })) return;
  std::string names;
  for (auto const& scenario : known) names += " " + scenario.name;
  throw InvalidArgument("unknown benchmark '" + options.scenario + "'; there are:" + names);
}

/// One scenario; its figures come when all of them are there.
void run_one(Entry const& entry, Site& site, Options options, Figures& figures) {
  options.jobs = options.jobs.value_or(entry.jobs);
  Figures own;
  site.progress(entry.scenario.name + ": " + entry.scenario.description);
  entry.run(site, options, own);
  site.clear();
  figures.append(own);
}

void run_all(Site& site, Options const& options, Figures& figures) {
  bool in_order = true;
  for (auto const& entry : entries()) {
    if (!entry.in_all) continue;
    try {
      if (!in_order) site.renew();
      in_order = true;
      run_one(entry, site, options, figures);
    } catch (Interrupted const&) {
      throw;
    } catch (std::exception const& error) {
      site.interrupt().check();  // else the signal is what failed it
      site.progress(entry.scenario.name + " failed: " + error.what());
      figures.fail(entry.scenario.name, error.what());
      in_order = false;
    }
  }
}

}  // namespace

int run(Options const& options) {
  check(options);
  Interrupt interrupt;
  Figures figures;
  try {
    Site site(options.database, options.quiet, interrupt);
    if (options.scenario == "all") {
      run_all(site, options, figures);
    } else {
      auto const named = std::find_if(entries().begin(), entries().end(),
                                      [&](Entry const& entry) { return entry.scenario.name == options.scenario; });
      run_one(*named, site, options, figures);
    }
  } catch (std::exception const&) {
    // Whatever it was, a signal came first: a statement that was cancelled, a worker that was asked to stop.
    if (interrupt.signal() == 0) throw;
  }
  if (interrupt.signal() != 0) return 128 + interrupt.signal();
  auto const text = options.json ? figures.json() : figures.table();
  std::fwrite(text.data(), 1, text.size(), stdout);
  return figures.any_failed() ? 1 : 0;
}

}  // namespace posthouse::bench
