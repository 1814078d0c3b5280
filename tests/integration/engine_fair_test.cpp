// SPDX-License-Identifier: Apache-2.0
// fair_by: lanes of tenants, which tenant has which, and that everything else treats them as one kind.
#include <gmock/gmock.h>

#include <posthouse/posthouse.hpp>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class EngineFair : public EngineTest {
 protected:
  EngineFair() { sql.exec(R"(select set_kind('k', '{"fair_by": "header:tenant"}'))"); }

  std::int64_t of(std::string const& tenant, Sql& session) {
    return session.number("select enqueue('k', headers => jsonb_build_object('tenant', $1::text))", tenant);
  }
  std::int64_t of(std::string const& tenant) { return of(tenant, sql); }
  std::string share(std::int64_t job) {
    return sql.one(
        "select coalesce(l.share, 'none') from (select id, lane from job union all select id, lane from deferred union "
        "all select id, lane from dead union all select id, lane from parked) j join (select lane, share from lane "
        "union select lane, share from lane_seen) l on l.lane = j.lane where j.id = $1",
        job);
  }
  std::int64_t lanes() {
    return sql.number(
        "select count(*) from (select lane from lane where share is not null union select lane from lane_seen where "
        "share is not null) l");
  }
};

// Counted in claims, whatever they take: the engine itself goes round over the tenants.
TEST_F(EngineFair, AHundredThousandJobsOfOneTenantDelayAnothersByOneClaim) {
  auto const first = of("large");
  sql.exec(
      "insert into job (lane, headers) select j.lane, j.headers from job j, generate_series(1, 100000) where j.id = " +
      std::to_string(first));
  Ids small;
  for (int i = 0; i < 5; ++i) small.push_back(of("small"));
  Hand worker(sql);
  Ids seen;
  for (int claim = 0; claim < 10; ++claim) {
    for (auto const& job : worker.claim(1)) seen.push_back(job.id);
  }
  ASSERT_EQ(seen.size(), 10U);
  Ids of_small;
  for (std::size_t i = 0; i < seen.size(); ++i) {
    if (std::find(small.begin(), small.end(), seen[i]) == small.end()) continue;
    of_small.push_back(seen[i]);
    EXPECT_LE(i, 2 * of_small.size() - 1) << "one claim of the other tenant between two";
  }
  EXPECT_THAT(of_small, ::testing::ElementsAreArray(small)) << "and its own order";
}

TEST_F(EngineFair, AValueHasALaneAndJobsWithoutOneThePlainLane) {
  auto const a = of("a");
  EXPECT_EQ(share(of("a")), share(a));
  EXPECT_NE(share(of("b")), share(a));
  EXPECT_THAT(share(a), ::testing::StartsWith("="));
  EXPECT_THAT(share(a), ::testing::Not(HasSubstr("tenant"))) << "a hash, since everybody who watches may read lanes";
  EXPECT_EQ(share(enqueue()), "none");
  EXPECT_EQ(share(sql.number(R"(select enqueue('k', headers => '{"other": "a"}'))")), "none");
  EXPECT_EQ(share(sql.number(R"(select enqueue('k', headers => '{"tenant": null}'))")), "none");
  EXPECT_EQ(share(sql.number(R"(select enqueue('k', headers => '{"tenant": 7}'))")), share(of("7")));
  EXPECT_NE(share(of("")), "none");
  EXPECT_EQ(share(sql.number(R"(select enqueue('other', headers => '{"tenant": "a"}'))")), "none");
  auto const other = sql.number(R"(select enqueue('k', queue => 'q', headers => '{"tenant": "a"}'))");
  EXPECT_EQ(share(other), share(a));
  EXPECT_EQ(sql.number("select count(distinct lane) from job where id = any($1)", array({other, a})), 2);
}

TEST_F(EngineFair, EveryWayInFindsTheLane) {
  auto const wanted = share(of("a"));
  Ids jobs{sql.number(R"(select enqueue('k', headers => '{"tenant": "a"}', dedupe_key => 'd'))"),
           sql.number(R"(select enqueue('k', headers => '{"tenant": "a"}', delay => '1 hour'))"),
           sql.number(R"(select enqueue('k', headers => '{"tenant": "a"}', key => 'x'))"),
           sql.number(R"(select enqueue('k', headers => '{"tenant": "a"}', expires_at => now() - interval '1 s'))"),
           sql.number(R"(select enqueue_bytes('k', 'x', headers => '{"tenant": "a"}'))"),
           sql.number(R"(select (enqueue_outcome('k', headers => '{"tenant": "a"}', token => gen_random_uuid())).id)"),
           sql.number(R"(select enqueue('k', headers => '{"tenant": "a"}', depends_on => array[enqueue('parent')]))")};
  for (
      auto const* many :
      {R"([{"kind": "k", "headers": {"tenant": "a"}}, {"kind": "k"}, {"kind": "k", "headers": {"tenant": "n1"}}])",
       R"([{"kind": "k", "headers": {"tenant": "a"}, "key": "x"}, {"kind": "k"}, {"kind": "k", "headers": {"tenant": "n2"}}])",
       R"([{"kind": "k", "headers": {"tenant": "a"}}, {"kind": "k", "dedupe_key": "e"}, {"kind": "k", "headers": {"tenant": "n3"}}])"}) {
    auto const ids = numbers(sql.column("select unnest(enqueue_many($1::jsonb))", many));
    ASSERT_EQ(ids.size(), 3U);
    jobs.push_back(ids[0]);
    EXPECT_EQ(share(ids[1]), "none");
    EXPECT_NE(share(ids[2]), wanted);
  }
  for (std::size_t i = 0; i < jobs.size(); ++i) EXPECT_EQ(share(jobs[i]), wanted) << i;
  sql.exec("delete from deferred where state = 'scheduled'; select cancel(id) from jobs where kind = 'parent'");
  Hand worker(sql);
  EXPECT_THAT(worker.claim(100), ::testing::SizeIs(13)) << "and all of them are claimed";
}

TEST_F(EngineFair, CopyFindsTheLane) {
  Client client{{.database_url = url()}};
  std::vector<Payload> const payloads(6000, json{"1"});
  client.enqueue_many("k", payloads, {.headers = {{"tenant", "a"}}});
  client.enqueue_many("k", payloads, {.headers = {{"x", "a"}}});
  EXPECT_EQ(
      sql.number("select count(*) from job where lane = $1", sql.number("select lane from job where id = $1", of("a"))),
      6001);
  // More tenants than are worth a question each, and kinds that have none.
  std::vector<Request> requests(6000);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i].kind = i % 3 == 0 ? "plain" : "k";
    requests[i].options.headers = {{"tenant", "t" + std::to_string(i % 400)}};
  }
  auto const made = client.enqueue_many(requests);
  ASSERT_EQ(made.size(), requests.size());
  EXPECT_EQ(sql.number("select count(*) from jobs where headers ->> 'tenant' like 't%'"), 6000);
  EXPECT_EQ(sql.number("select count(*) from (select j.headers ->> 'tenant' from job j join (select lane, kind, share "
                       "from lane union select lane, kind, share from lane_seen) l on l.lane = j.lane where l.kind = "
                       "'k' and l.share like '=%' group by 1 having count(distinct l.lane) > 1) t"),
            0)
      << "a tenant's jobs are in one lane";
  EXPECT_EQ(sql.number("select count(*) from (select l.lane from job j join (select lane, share from lane union select "
                       "lane, share from lane_seen) l on l.lane = j.lane where l.share like '=%' group by 1 having "
                       "count(distinct j.headers ->> 'tenant') > 1) t"),
            0)
      << "and a lane of its own has one tenant's jobs";
  EXPECT_EQ(sql.number("select count(*) from jobs where kind = 'plain' and headers ->> 'tenant' like 't%'"), 2000);
}

TEST_F(EngineFair, TheFirst128HaveALaneEachTheOthersShare128) {
  sql.exec("select enqueue('k', headers => jsonb_build_object('tenant', i)) from generate_series(1, 128) i");
  EXPECT_EQ(lanes(), 128);
  std::string const kept = sql.one(
      "select string_agg(lane::text, ',' order by id) from job where headers is not null and id in (select id from job "
      "order by id limit 128)");
  sql.exec("select enqueue('k', headers => jsonb_build_object('tenant', i)) from generate_series(1, 1500) i");
  EXPECT_EQ(lanes(), 256);
  EXPECT_EQ(sql.one("select string_agg(lane::text, ',' order by (headers ->> 'tenant')::int) from (select distinct on "
                    "(headers ->> 'tenant') * from job where (headers ->> 'tenant')::int <= 128 order by headers ->> "
                    "'tenant', id desc) j"),
            kept)
      << "whoever has one keeps it";
  EXPECT_EQ(
      sql.number("select count(*) from (select from job group by headers ->> 'tenant' having count(distinct lane) "
                 "> 1) t"),
      0);
  // Another priority or queue counts for itself.
  EXPECT_THAT(share(sql.number(R"(select enqueue('k', priority => 1, headers => '{"tenant": 1500}'))")),
              ::testing::StartsWith("="));
  Hand worker(sql);
  std::int64_t claimed = 0;
  for (auto n = worker.claim(2000).size(); n > 0; n = worker.claim(2000).size()) claimed += static_cast<int>(n);
  EXPECT_EQ(claimed, 1629);
}

TEST_F(EngineFair, RetriesPromotedAndGivenBackJobsStayInTheirShare) {
  auto const job = of("a");
  auto const wanted = share(job);
  auto const later = sql.number(R"(select enqueue('k', headers => '{"tenant": "a"}', delay => '1 hour'))");
  Hand worker(sql);
  auto const claimed = worker.claim(1);
  ASSERT_EQ(ids(claimed), Ids{job});
  worker.finish(claimed[0].token, "1", 1, "[" + move_of(claimed[0], "retry") + "]");
  EXPECT_EQ(share(job), wanted);
  sql.exec("update deferred set due_at = now() - interval '1 s'; select promote()");
  EXPECT_EQ(share(later), wanted);
  EXPECT_EQ(sql.number("select count(distinct lane) from job where id = any($1)", array({job, later})), 1)
      << "the express twin of the tenant's lane";
  EXPECT_EQ(sql.number("select count(*) from lane_seen s where s.express and s.share = $1", wanted) +
                sql.number("select count(*) from lane l where l.express and l.share = $1", wanted),
            1);
  EXPECT_THAT(ids(worker.claim(5)), ::testing::UnorderedElementsAre(job, later));
}

TEST_F(EngineFair, ByKeyKeepsTheOrderOfEachKey) {
  sql.exec(R"(select set_kind('k', '{"fair_by": "key"}'))");
  Ids a;
  Ids b;
  for (int i = 0; i < 6; ++i) a.push_back(sql.number("select enqueue('k', key => 'a')"));
  for (int i = 0; i < 3; ++i) b.push_back(sql.number("select enqueue('k', key => 'b')"));
  EXPECT_NE(share(a[0]), share(b[0]));
  EXPECT_EQ(share(enqueue()), "none");
  Hand worker(sql);
  Ids seen_a;
  Ids seen_b;
  for (int i = 0; i < 60 && seen_a.size() + seen_b.size() < 9; ++i) {
    for (auto const& job : worker.claim(1)) {
      if (std::find(a.begin(), a.end(), job.id) != a.end()) seen_a.push_back(job.id);
      if (std::find(b.begin(), b.end(), job.id) != b.end()) seen_b.push_back(job.id);
      worker.finish(job.token);
    }
  }
  EXPECT_EQ(seen_a, a);
  EXPECT_EQ(seen_b, b);
}

TEST_F(EngineFair, AChangeConcernsLaterJobsAndNoneIsLost) {
  auto const before = of("a");
  sql.exec(R"(select set_kind('k', '{"fair_by": null}'))");
  auto const without = of("a");
  EXPECT_EQ(share(without), "none");
  EXPECT_NE(share(before), "none");
  sql.exec(R"(select set_kind('k', '{"fair_by": "header:other"}'))");
  auto const other = sql.number(R"(select enqueue('k', headers => '{"tenant": "a", "other": "b"}'))");
  EXPECT_NE(share(other), share(before));
  Hand worker(sql);
  EXPECT_THAT(ids(worker.claim(10)), ::testing::UnorderedElementsAre(before, without, other));
}

TEST_F(EngineFair, WhoCountsAddsTheLanesUp) {
  for (int i = 0; i < 40; ++i) of("t" + std::to_string(i));
  EXPECT_THAT(sql.column("select concat_ws(' ', queue, kind, state, jobs) from stats()"),
              ElementsAre("default k available 40"));
  Hand worker(sql);
  auto const claimed = worker.claim(10);
  ASSERT_EQ(claimed.size(), 10U);
  EXPECT_THAT(sql.column("select concat_ws(' ', queue, kind, state, jobs) from stats()"),
              ElementsAre("default k available 30", "default k running 10"));
  EXPECT_EQ(sql.number("select value from measure() where name = 'jobs' and state = 'available'"), 30);
  EXPECT_EQ(sql.number("select count(*) from jobs where kind = 'k' and queue = 'default' and priority = 0"), 40);
}

// A limit counts the kind, whichever tenant's lane a job is in.
TEST_F(EngineFair, ALimitCountsAllTenants) {
  for (int i = 0; i < 6; ++i) of("t" + std::to_string(i % 3));
  sql.exec("select set_limit('kind', 'k', 2)");
  Hand worker(sql);
  EXPECT_EQ(worker.claim(10).size(), 2U);
  EXPECT_THAT(worker.claim(10), IsEmpty());
}

TEST_F(EngineFair, WhatIsDeclaredCountsUntilSomethingIsSet) {
  auto const declare = [&](std::string const& kinds) {
    return sql.column(
        "select concat_ws(' ', kind, name, old_value, new_value, hidden) from declare_kinds($1::jsonb, 'w')", kinds);
  };
  auto const in_force = [&] {
    return sql.column(
        "select concat_ws(' ', name, origin, coalesce(value, 'null'), declared, said_by) from "
        "kind_settings where kind = 'd' order by 1");
  };
  EXPECT_THAT(declare(R"([{"kind": "d", "weight": 1}])"), IsEmpty());
  EXPECT_THAT(declare(R"([{"kind": "d", "weight": 3, "fair_by": "key"}])"),
              ElementsAre("d fair_by none key f", "d weight none 3 f"));
  EXPECT_THAT(declare(R"([{"kind": "d", "weight": 3, "fair_by": "key"}])"), IsEmpty()) << "nothing new";
  sql.exec(R"(select set_kind('d', '{"weight": 7, "fair_by": null}'))");
  auto const me = sql.one("select session_user");
  EXPECT_THAT(in_force(), ElementsAre("fair_by set null key " + me, "weight set 7 3 " + me));
  EXPECT_EQ(sql.one("select fair_by_of('d') is null"), "t");
  EXPECT_THAT(declare(R"([{"kind": "d", "weight": 5}])"), ElementsAre("d fair_by key none t", "d weight 3 5 t"));
  EXPECT_TRUE(sql.truth("select reset_kind('d')"));
  EXPECT_THAT(in_force(), ElementsAre("weight declared 5 5 w"));
  EXPECT_TRUE(sql.truth("select reset_kind('d')")) << "what is declared goes";
  EXPECT_FALSE(sql.truth("select reset_kind('d')"));
}

TEST_F(EngineFair, BadInput) {
  for (auto const& [changes, said] :
       std::vector<std::pair<std::string, std::string>>{{R"({"weight": 0})", "weight is 0"},
                                                        {R"({"weight": 101})", "weight is 101"},
                                                        {R"({"weight": 1.5})", "weight is 1.5"},
                                                        {R"({"weight": "3"})", "weight is \"3\""},
                                                        {R"({"fair_by": "tenant"})", "fair_by is \"tenant\""},
                                                        {R"({"fair_by": "header:"})", "fair_by is \"header:\""},
                                                        {R"({"fair_by": 3})", "fair_by is 3"},
                                                        {R"({"fair_by": ")"
                                                         "header:" +
                                                             std::string(201, 'x') + R"("})",
                                                         "fair_by is"}}) {
    EXPECT_THAT(refusal_of("select set_kind('x', '" + changes + "')"), HasSubstr(said));
  }
  EXPECT_EQ(refusal_of(R"(select set_kind('x', '{"fair_by": "header:)" + std::string(200, 'x') + "\"}')"), "accepted");
  EXPECT_THAT(refusal_of(R"(select declare_kinds('[{"kind": "x", "weight": 0}]'))"), HasSubstr("weight is 0"));
  EXPECT_THAT(refusal_of("select set_kind_setting('x', 'speed', '1')"), HasSubstr("'speed'"));
  EXPECT_EQ(sql.number("select count(*) from kind_setting where kind = 'x'"), 1);
}

// Nobody waits for a transaction that meets the same tenant first, or that changes fair_by, and every job is claimed.
TEST_F(EngineFair, OpenTransactionsHoldNobodyUp) {
  Sql first = open();
  Sql second = open();
  first.exec("set lock_timeout = '5s'; begin");
  second.exec("set lock_timeout = '5s'; begin");
  Sql operator_session = open();
  operator_session.exec(R"(begin; select set_kind('k', '{"fair_by": null}'))");
  Ids jobs{of("new", first), of("new", second), of("new", first)};
  second.exec("commit");
  jobs.push_back(of("new"));
  Hand worker(sql);
  EXPECT_THAT(ids(worker.claim(10)), ElementsAre(jobs[1], jobs[3]));
  operator_session.exec("commit");
  jobs.push_back(of("new", first));  // by its own statement's snapshot: without
  first.exec("commit");
  EXPECT_THAT(ids(worker.claim(10)), ::testing::UnorderedElementsAre(jobs[0], jobs[2], jobs[4]));
  EXPECT_EQ(share(jobs[0]), share(jobs[1]));
  EXPECT_EQ(share(jobs[4]), "none");
}

// Many sessions, new tenants and an operator who changes his mind: every job is claimed once.
TEST_F(EngineFair, RacesOfNewTenantsAndAChangingSetting) {
  constexpr int sessions = 4;
  constexpr int each = 120;
  std::vector<std::future<void>> producers;
  for (int n = 0; n < sessions; ++n) {
    producers.push_back(std::async(std::launch::async, [this, n] {
      Sql session = open();
      for (int i = 0; i < each; ++i) {
        auto const tenant = "t" + std::to_string((i + n) % 150);
        if (n == 0) {
          session.rows(
              "select enqueue_many(jsonb_build_array(jsonb_build_object('kind', 'k', 'headers', "
              "jsonb_build_object('tenant', $1::text))))",
              tenant);
        } else {
          of(tenant, session);
        }
      }
    }));
  }
  auto changes = std::async(std::launch::async, [this] {
    Sql session = open();
    for (auto const* by : {"null", "\"key\"", "\"header:tenant\"", "\"header:x\"", "\"header:tenant\""}) {
      session.exec(std::string(R"(select set_kind('k', '{"fair_by": )") + by + "}')");
    }
  });
  Hand worker(sql);
  Ids seen;
  auto const claim = [&] {
    auto const some = ids(worker.claim(50));
    seen.insert(seen.end(), some.begin(), some.end());
    return some.size();
  };
  for (auto& producer : producers) {
    while (producer.wait_for(std::chrono::milliseconds{1}) != std::future_status::ready) claim();
    producer.get();
  }
  changes.get();
  EXPECT_TRUE(eventually([&] { return claim() == 0 && seen.size() >= sessions * each; }));
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(std::unique(seen.begin(), seen.end()), seen.end());
  EXPECT_EQ(seen.size(), static_cast<std::size_t>(sessions * each));
}

}  // namespace
}  // namespace posthouse::test
