// SPDX-License-Identifier: Apache-2.0
// Scenario enqueue: our two ways in beside what plain COPY and INSERT do on the same table.
#include <fmt/format.h>

#include "bench/scenarios.hpp"

namespace posthouse::bench {

namespace {

constexpr std::int64_t one_jobs = 2000;
constexpr std::int64_t copy_chunk = 100'000;

void put_int(std::string& out, std::int64_t value, int width) {
  for (int shift = (width - 1) * 8; shift >= 0; shift -= 8) out.push_back(static_cast<char>((value >> shift) & 0xff));
}

/// COPY of the payload columns into job in binary form, as lean as it can be. Returns seconds.
double raw_copy(Site& site, std::int64_t lane, std::int64_t jobs) {
  std::string_view const payload = R"({"n": 1})";
  std::string row;
  put_int(row, 2, 2);
  put_int(row, 8, 4);
  put_int(row, lane, 8);
  put_int(row, static_cast<std::int64_t>(payload.size()) + 1, 4);
  row.push_back('\1');
  row += payload;
  std::string rows;
  for (int i = 0; i < 1000; ++i) rows += row;
  double const start = now_seconds();
  for (std::int64_t done = 0; done < jobs; done += copy_chunk) {
    std::int64_t sent = -1;
    std::string header("PGCOPY\n\377\r\n\0", 11);
    put_int(header, 0, 4);
    put_int(header, 0, 4);
    std::string trailer;
    put_int(trailer, -1, 2);
    site.sql().copy_in("copy " + site.name("job") + " (lane, payload) from stdin (format binary)",
                       [&]() -> std::string_view {
                         if (sent < 0) {
                           sent = 0;
                           return header;
                         }
                         if (sent < copy_chunk) {
                           sent += 1000;
                           return rows;
                         }
                         if (sent == copy_chunk) {
                           ++sent;
                           return trailer;
                         }
                         return {};
                       });
  }
  return now_seconds() - start;
}

}  // namespace

void enqueue(Site& site, Options const& options, Figures& figures) {
  std::vector<double> many;
  std::vector<double> copy;
  std::vector<double> one;
  std::vector<double> insert;
  auto const jobs = (options.jobs + copy_chunk - 1) / copy_chunk * copy_chunk;
  auto const lane =
      site.sql().query("select " + site.name("open_lane") + "($1)", pg::Params{}.text(bench_kind)).int8(0, 0);
  site.sql().query("select " + site.name("fold_lanes") + "()");  // as any worker does when it looks
  Payload const payload{json{R"({"n": 1})"}};
  for (int i = 0; i < options.repetitions; ++i) {
    site.progress(
        fmt::format("enqueue {}/{}: {} jobs in bulk, {} one by one", i + 1, options.repetitions, jobs, one_jobs));
    site.clear();
    double start = now_seconds();
    site.fill(bench_kind, jobs);
    many.push_back(static_cast<double>(jobs) / (now_seconds() - start));
    site.clear();
    copy.push_back(static_cast<double>(jobs) / raw_copy(site, lane, jobs));
    site.clear();
    start = now_seconds();
    for (std::int64_t n = 0; n < one_jobs; ++n) site.client().enqueue(bench_kind, payload);
    one.push_back(static_cast<double>(one_jobs) / (now_seconds() - start));
    auto const statement = "insert into " + site.name("job") + " (lane, payload) values ($1, $2) returning id";
    start = now_seconds();
    for (std::int64_t n = 0; n < one_jobs; ++n) {
      site.sql().prepared(statement, pg::Params{}.int8(lane).text(payload.data()));
    }
    insert.push_back(static_cast<double>(one_jobs) / (now_seconds() - start));
  }
  figures.compare("enqueue_many_per_s", median(many), "raw_copy_per_s", median(copy), "enqueue_ratio");
  figures.compare("enqueue_one_per_s", median(one), "raw_insert_per_s", median(insert), "enqueue_one_ratio");
}

}  // namespace posthouse::bench
