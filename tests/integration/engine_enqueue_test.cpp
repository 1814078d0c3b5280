// SPDX-License-Identifier: Apache-2.0
// Producers' functions: what they refuse, with which words, and that a refused call leaves nothing behind.
#include <gmock/gmock.h>

#include "support/engine.hpp"

namespace posthouse::test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class EngineEnqueue : public EngineTest {
 protected:
  /// SQLSTATE, message and hint.
  std::int64_t everything() {
    return sql.number(
        "select (select count(*) from job) + (select count(*) from deferred) + (select count(*) from lane_seen)");
  }
};

TEST_F(EngineEnqueue, ManyComeBackInOrderOfMixedKinds) {
  auto const ids_of =
      numbers(sql.column(R"(select unnest(enqueue_many('[{"kind":"a"},{"kind":"b","priority":3,"queue":"q"},
    {"kind":"a","delay":"1 hour"},{"kind":"c","payload":{"x":[1,2]},"headers":{"h":"1"},"max_attempts":4},
    {"kind":"d","payload_bytes":"AAECf/8="},{"kind":"a","delay_ms":0},{"kind":"a","run_at":"2001-01-01T00:00:00Z"}]')))"));
  ASSERT_EQ(ids_of.size(), 7U);
  for (std::size_t i = 1; i < ids_of.size(); ++i) EXPECT_GT(ids_of[i], ids_of[i - 1]);
  EXPECT_THAT(
      sql.column(
          "select concat_ws(' ', kind, queue, priority, state, payload, headers, max_attempts, encode(payload_bytes, "
          "'hex')) from jobs order by id"),
      ElementsAre("a default 0 available 25", "b q 3 available 25", "a default 0 scheduled 25",
                  R"(c default 0 available {"x": [1, 2]} {"h": "1"} 4)", "d default 0 available 25 0001027fff",
                  "a default 0 available 25", "a default 0 available 25"));
  EXPECT_THAT(sql.rows("select unnest(enqueue_many('[]'))"), IsEmpty());
}

TEST_F(EngineEnqueue, ManyAreAllOrNoneAndTheBadOneIsNamed) {
  struct Bad {
    char const* element;
    char const* words;
  };
  for (Bad const& bad : {
           Bad{R"(7)", "element 2 is a JSON number"},
           Bad{R"({})", "element 2: kind is missing"},
           Bad{R"({"kind": null})", "element 2: kind null is not a name"},
           Bad{R"({"kind": "bad name"})", "element 2: kind 'bad name' is not a name"},
           Bad{R"({"kind": "k", "queue": ""})", "element 2: queue '' is not a name"},
           Bad{R"({"kind": "k", "colour": 1})", "element 2 has the unknown key 'colour'"},
           Bad{R"({"kind": "k", "priority": "high"})", "element 2: priority is \"high\""},
           Bad{R"({"kind": "k", "priority": 1.5})", "element 2: priority is 1.5"},
           Bad{R"({"kind": "k", "priority": 2147483648})", "element 2: priority is 2147483648"},
           Bad{R"({"kind": "k", "max_attempts": 0})", "element 2: max_attempts is 0"},
           Bad{R"({"kind": "k", "max_attempts": 32768})", "element 2: max_attempts is 32768"},
           Bad{R"({"kind": "k", "delay": "-1 s"})", "element 2: delay is -00:00:01"},
           Bad{R"({"kind": "k", "delay": "soon"})", "element 2: invalid input syntax for type interval"},
           Bad{R"({"kind": "k", "delay": "11 years"})", "element 2: delay is 11 years"},
           Bad{R"({"kind": "k", "delay_ms": "x"})", "element 2: invalid input syntax for type bigint"},
           Bad{R"({"kind": "k", "run_at": "infinity"})", "element 2: run_at is infinity"},
           Bad{R"({"kind": "k", "run_at": "2400-01-01Z"})", "element 2: run_at is 2400"},
           Bad{R"({"kind": "k", "run_at": "2030-01-01Z", "delay": "1 s"})",
               "element 2: both run_at and delay are given"},
           Bad{R"({"kind": "k", "headers": [1]})", "element 2: headers is a JSON array"},
           Bad{R"({"kind": "k", "payload_bytes": "&"})", "element 2: invalid symbol"},
           Bad{R"({"kind": "k", "payload": 1, "payload_bytes": "AA=="})", "element 2: both payload and payload_bytes"},
       }) {
    EXPECT_THAT(refusal_of(std::string(R"(select enqueue_many('[{"kind":"a"},{"kind":"b"},)") + bad.element +
                           R"(,{"kind":"c"}]'))"),
                HasSubstr(bad.words));
  }
  EXPECT_THAT(refusal_of(R"(select enqueue_many('{"kind":"a"}'))"), HasSubstr("jobs is a JSON object"));
  EXPECT_THAT(refusal_of("select enqueue_many(null)"), HasSubstr("jobs is a JSON null"));
  EXPECT_THAT(refusal_of("select enqueue_many(jsonb_agg('{\"kind\":\"a\"}'::jsonb)) from generate_series(1, 100001)"),
              AllOf(HasSubstr("54000"), HasSubstr("100001 jobs in one call")));
  EXPECT_EQ(everything(), 0);
}

TEST_F(EngineEnqueue, ArgumentsOutOfRange) {
  for (std::string const call :
       {"max_attempts => 0", "max_attempts => 32768", "delay => interval '-1 ms'", "delay => interval '10 years 1 day'",
        "run_at => 'infinity'", "run_at => '-infinity'", "run_at => now() + interval '101 years'",
        "run_at => now(), delay => interval '0'", "headers => '[]'", "headers => '1'",
        "headers => jsonb_build_object('x', repeat('y', 16384))"}) {
    EXPECT_THAT(refusal_of("select enqueue('k', " + call + ")"), AllOf(HasSubstr("22023"), HasSubstr("HINT"))) << call;
    EXPECT_THAT(refusal_of("select enqueue_bytes('k', 'x', " + call + ")"), HasSubstr("22023")) << call;
  }
  EXPECT_EQ(everything(), 0);
  for (std::string const call :
       {"max_attempts => 1", "max_attempts => 32767", "delay => interval '0'", "delay => interval '10 years'",
        "run_at => '1900-01-01'", "headers => '{}'", "headers => jsonb_build_object('x', repeat('y', 16000))"}) {
    EXPECT_EQ(refusal_of("select enqueue('k', " + call + ")"), "accepted") << call;
  }
  EXPECT_EQ(sql.number("select count(*) from deferred"), 1);
}

TEST_F(EngineEnqueue, PayloadLimit) {
  // An array of 4-byte entries over an exact number of bytes; a jsonb text of n bytes is stored in n + 12.
  auto const json_of = [](int bytes) { return "to_jsonb(repeat('x', " + std::to_string(bytes - 2) + "))"; };
  auto const limit = 1048576;
  EXPECT_EQ(refusal_of("select enqueue('k', " + json_of(limit) + ")"), "accepted");
  EXPECT_THAT(refusal_of("select enqueue('k', " + json_of(limit + 1) + ")"),
              AllOf(HasSubstr("54000"), HasSubstr("payload has 1048577 bytes, more than 1048576"),
                    HasSubstr("max_payload_bytes")));
  // Stored it is 1.8 MB, but what a client sends, and measures, is 300 kB.
  EXPECT_EQ(refusal_of("select enqueue('k', ('[' || repeat('1,', 150000) || '1]')::jsonb)"), "accepted");
  EXPECT_EQ(refusal_of("select enqueue_bytes('k', convert_to(repeat('x', 1048576), 'UTF8'))"), "accepted");
  EXPECT_THAT(refusal_of("select enqueue_bytes('k', convert_to(repeat('x', 1048577), 'UTF8'))"),
              HasSubstr("payload has 1048577 bytes"));
  EXPECT_THAT(refusal_of("select enqueue_many(jsonb_build_array(jsonb_build_object('kind', 'k', 'payload', " +
                         json_of(limit + 1) + ")))"),
              AllOf(HasSubstr("54000"), HasSubstr("element 0: payload has 1048577")));
  EXPECT_EQ(sql.number("select count(*) from job"), 3);
  sql.exec("insert into meta values ('max_payload_bytes', '2000000')");
  EXPECT_EQ(refusal_of("select enqueue('k', " + json_of(limit + 1) + ")"), "accepted");
  EXPECT_THAT(refusal_of("select enqueue('k', " + json_of(2000001) + ")"), HasSubstr("more than 2000000"));
}

// A refusal is an ordinary error: behind a savepoint the caller's transaction goes on.
TEST_F(EngineEnqueue, ARefusalLeavesTheTransactionUsable) {
  sql.exec("begin");
  auto const kept = enqueue();
  sql.exec("savepoint s");
  EXPECT_NE(refusal_of("select enqueue('bad name')"), "accepted");
  sql.exec("rollback to s; commit");
  EXPECT_EQ(state(kept), "available");
}

TEST_F(EngineEnqueue, JsonComesBackEqualAndBytesExact) {
  sql.rows("select enqueue('k', $1::jsonb)",
           R"({"big": 123456789012345678901234567890.123456789, "u": "\u00e9\ud83d\ude00", "n": null})");
  sql.exec("select enqueue_bytes('k', '\\x0001ff00')");
  sql.exec("select enqueue('k'); select enqueue('k', 'null'); select enqueue_bytes('k', '')");
  Hand worker(sql);
  auto const rows = sql.rows(
      "select payload, encode(payload_bytes, 'hex') from claim($1, 16, null, 10, 10) order by pos", worker.id());
  EXPECT_EQ(*rows[0][0], R"({"n": null, "u": "é😀", "big": 123456789012345678901234567890.123456789})");
  EXPECT_EQ(*rows[1][1], "0001ff00");
  EXPECT_FALSE(rows[2][0].has_value());
  EXPECT_EQ(*rows[3][0], "null");
  EXPECT_EQ(*rows[4][1], "");
  for (std::string const bad : {R"('"\u0000"')", R"('"\ud800"')", "'{'"}) {
    EXPECT_EQ(refusal_of("select enqueue('k', " + bad + ")").substr(0, 2), "22") << bad;
  }
}

TEST_F(EngineEnqueue, ReservedIdsAndCopy) {
  auto const reserved = numbers(sql.column("select unnest(reserve_ids(3))"));
  auto const lane_id = sql.number("select open_lane('copied', 'q', 4)");
  EXPECT_EQ(lane_id, lane("copied", 4, false, "q"));
  for (std::string const n : {"0", "-1", "1000001", "null"})
    EXPECT_THAT(refusal_of("select reserve_ids(" + n + ")"), HasSubstr("22023"));
  auto* const connection = sql.connection();
  PQclear(PQexec(connection, "copy job (id, lane, payload, payload_bytes, headers, options) from stdin"));
  for (auto const id : reserved) {
    std::string const row = std::to_string(id) + "\t" + std::to_string(lane_id) + "\t{\"n\": 1}\t\\N\t\\N\t\\N\n";
    PQputCopyData(connection, row.data(), static_cast<int>(row.size()));
  }
  PQputCopyEnd(connection, nullptr);
  while (PGresult* result = PQgetResult(connection)) PQclear(result);
  sql.rows("select ring($1)", lane_id);
  Hand worker(sql, {.kinds = "{copied}"});
  EXPECT_EQ(ids(worker.claim(10)), reserved);
}

}  // namespace
}  // namespace posthouse::test
