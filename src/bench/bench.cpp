// SPDX-License-Identifier: Apache-2.0
#include "bench/bench.hpp"

#include <cstdio>
#include <functional>

#include <posthouse/error.hpp>

#include "bench/scenarios.hpp"

namespace posthouse::bench {

namespace {

struct Entry {
  Scenario scenario;
  void (*run)(Site&, Options const&, Figures&);
};

std::vector<Entry> const& entries() {
  static std::vector<Entry> const all = {
      {{"throughput", "one worker drains a backlog of jobs that do nothing"}, throughput},
      {{"single", "claims of one job at a time, beside FOR UPDATE SKIP LOCKED"}, single},
      {{"enqueue", "many jobs by COPY, one job a transaction, beside raw COPY and INSERT"}, enqueue},
      {{"latency", "from the commit of an enqueue to the handler's start on an idle system"}, latency},
      {{"held-snapshot", "drain while another session holds a snapshot and has read the jobs view"}, held_snapshot},
      {{"features", "what each feature of a job costs beside plain jobs, and under a held snapshot"}, features},
      {{"lanes", "a thousand lanes of which ten are busy, and a job in a cold one"}, lanes},
      {{"workers", "1, 4 and 16 worker processes on one lane"}, workers},
      {{"idle", "what ten idle workers ask of the server"}, idle},
      {{"fleet", "processor time that 200 idle workers cost the server, or as many as it has connections for"}, fleet},
      {{"databases", "what a broker costs that serves a hundred idle databases"}, databases},
  };
  return all;
}

}  // namespace

std::vector<Scenario> const& scenarios() {
  static std::vector<Scenario> const all = [] {
    std::vector<Scenario> list;
    for (auto const& entry : entries()) list.push_back(entry.scenario);
    list.push_back({"all", "every one of these"});
    return list;
  }();
  return all;
}

int run(Options const& options) {
  if (options.jobs < 1000 || options.jobs > 100'000'000) {
    throw InvalidArgument("jobs is " + std::to_string(options.jobs) + "; allowed is 1000 to 100000000");
  }
  if (options.repetitions < 1 || options.repetitions > 100) {
    throw InvalidArgument("repetitions is " + std::to_string(options.repetitions) + "; allowed is 1 to 100");
  }
  bool known = options.scenario == "all";
  for (auto const& entry : entries()) known = known || options.scenario == entry.scenario.name;
  if (!known) {
    std::string names;
    for (auto const& scenario : scenarios()) names += " " + scenario.name;
    throw InvalidArgument("unknown benchmark '" + options.scenario + "'; there are:" + names);
  }
  Figures figures;
  {
    Site site(options.database, options.quiet);
    for (auto const& entry : entries()) {
      if (options.scenario != "all" && options.scenario != entry.scenario.name) continue;
      site.progress(entry.scenario.name + ": " + entry.scenario.description);
      entry.run(site, options, figures);
      site.clear();
    }
  }
  auto const text = options.json ? figures.json() : figures.table();
  std::fwrite(text.data(), 1, text.size(), stdout);
  return 0;
}

}  // namespace posthouse::bench
