// SPDX-License-Identifier: Apache-2.0
// Scenario enqueue: our two ways in beside what plain COPY and INSERT do on the same table.
#include <fmt/format.h>

#include <algorithm>

#include "bench/scenarios.hpp"

namespace posthouse::bench {

namespace {

constexpr std::int64_t one_jobs = 2000;
constexpr std::int64_t most_chunk = 100'000;  // of one COPY
constexpr std::int64_t copy_step = 1000;      // rows sent at once

void put_int(std::string& out, std::int64_t value, int width) {
  for (int shift = (width - 1) * 8; shift >= 0; shift -= 8) out.push_back(static_cast<char>((value >> shift) & 0xff));
}

/// COPY of the payload columns into job in binary form, as lean as it can be. Returns seconds.
double raw_copy(Site& site, std::int64_t lane, std::int64_t jobs, std::int64_t chunk) {
  std::string_view const payload = R"({"n": 1})";
  std::string row;
  put_int(row, 2, 2);
  put_int(row, 8, 4);
  put_int(row, lane, 8);
  put_int(row, static_cast<std::int64_t>(payload.size()) + 1, 4);
  row.push_back('\1');
  row += payload;
  std::string rows;
  for (std::int64_t i = 0; i < copy_step; ++i) rows += row;
  std::string header("PGCOPY\n\377\r\n\0", 11);
  put_int(header, 0, 4);
  put_int(header, 0, 4);
  std::string trailer;
  put_int(trailer, -1, 2);
  auto const statement = "copy " + site.name("job") + " (lane, payload) from stdin (format binary)";
  pg::Bare bare(site.database());
  double const start = now_seconds();
  for (std::int64_t done = 0; done < jobs; done += chunk) {
    site.interrupt().check();
    bare.begin_copy(statement);
    bare.put_copy(header);
    for (std::int64_t sent = 0; sent < chunk; sent += copy_step) bare.put_copy(rows);
    bare.put_copy(trailer);
    bare.end_copy();
  }
  return now_seconds() - start;
}

/// One INSERT a transaction. Returns seconds.
double raw_insert(Site& site, std::int64_t lane, char const* payload) {
  pg::Bare bare(site.database());
  bare.prepare("insert", "insert into " + site.name("job") + " (lane, payload) values ($1, $2) returning id");
  auto const lane_text = std::to_string(lane);
  char const* const values[] = {lane_text.c_str(), payload};
  double const start = now_seconds();
  for (std::int64_t n = 0; n < one_jobs; ++n) {
    site.interrupt().check();
    bare.execute_prepared("insert", values);
  }
  return now_seconds() - start;
}

}  // namespace

void enqueue(Site& site, Options const& options, Figures& figures) {
  // Whole chunks, the same on both sides.
  auto const chunk = std::min(most_chunk, *options.jobs / copy_step * copy_step);
  auto const jobs = (*options.jobs + chunk - 1) / chunk * chunk;
  auto const lane =
      site.sql().query("select " + site.name("open_lane") + "($1)", pg::Params{}.text(bench_kind)).int8(0, 0);
  site.sql().query("select " + site.name("fold_lanes") + "()");  // as any worker does when it looks
  Payload const payload{json{R"({"n": 1})"}};
  Pairs many;
  Pairs one;
  auto const bulk = [&] {
    site.clear();
    double const start = now_seconds();
    site.fill(bench_kind, jobs);
    return static_cast<double>(jobs) / (now_seconds() - start);
  };
  auto const copy = [&] {
    site.clear();
    return static_cast<double>(jobs) / raw_copy(site, lane, jobs, chunk);
  };
  auto const call = [&] {
    site.clear();
    double const start = now_seconds();
    for (std::int64_t n = 0; n < one_jobs; ++n) {
      site.interrupt().check();
      site.client().enqueue(bench_kind, payload);
    }
    return static_cast<double>(one_jobs) / (now_seconds() - start);
  };
  auto const insert = [&] {
    site.clear();
    return static_cast<double>(one_jobs) / raw_insert(site, lane, R"({"n": 1})");
  };
  for (int i = 0; i < options.repetitions; ++i) {
    site.progress(
        fmt::format("enqueue {}/{}: {} jobs in bulk, {} one by one", i + 1, options.repetitions, jobs, one_jobs));
    many.measure(i, bulk, copy);
    one.measure(i, call, insert);
  }
  figures.compare("enqueue_many_per_s", "raw_copy_per_s", "enqueue_ratio", many);
  figures.compare("enqueue_one_per_s", "raw_insert_per_s", "enqueue_one_ratio", one);
}

}  // namespace posthouse::bench
