// SPDX-License-Identifier: Apache-2.0
// Configuration of the broker: the list of databases, what stands outside of it, variables, secrets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "node/config.hpp"

namespace posthouse::node {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;

class ConfigBroker : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("posthouse-broker-" + std::to_string(::getpid()) + "-" +
                                                        testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directory(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string file(std::string const& name, std::string const& text) const {
    std::ofstream(folder_ / name) << text;
    return (folder_ / name).string();
  }
  Config load(std::string const& text) {
    sources_.file = file("broker.yaml", text);
    return node::load(sources_);
  }
  std::string problems(std::string const& text) {
    try {
      load(text);
    } catch (ConfigError const& error) {
      std::string what = error.what();
      for (auto at = what.find(sources_.file); at != std::string::npos; at = what.find(sources_.file)) {
        what.replace(at, sources_.file.size(), "file");
      }
      return what;
    }
    return "no problem";
  }

  std::filesystem::path folder_;
  Sources sources_;
};

TEST_F(ConfigBroker, ReadsTheConfigurationOfPgsqlBroker) {
  auto const config = load(R"(
databases:
  - name: db1
    host: db.example
    port: 5433
    database: app
    user: broker
    password: s3cret
    sslmode: disable
    max_open_conns: 25
    max_idle_conns: 5
    conn_max_lifetime: 5m
    conn_max_idle_time: 10m
    queue_count: 4
  - name: db2
    database: other
    user: broker
broker:
  name: pgsql-broker
  fetch_query_que_size: 100
  queue_timer_sec: 10
  queue_buffer_size: 50
  worker_idle_timeout_sec: 10
  notify_retry_seconds: 30s
  enable_debug: false
logging:
  level: info
  format: json
)");
  ASSERT_THAT(config.databases, SizeIs(2));
  auto const& one = config.databases[0];
  EXPECT_EQ(one.name, "db1");
  EXPECT_EQ(one.database.database_url,
            "host='db.example' port=5433 dbname='app' user='broker' sslmode=disable password='s3cret'");
  EXPECT_EQ(one.pool.open(), 25);
  EXPECT_EQ(one.pool.idle(), 5);
  EXPECT_EQ(one.pool.lifetime(), 5min);
  EXPECT_EQ(one.pool.idle_time(), 10min);
  EXPECT_EQ(one.broker.queue_count, 4);
  EXPECT_EQ(one.broker.queue_concurrency, 1);
  EXPECT_EQ(one.broker.max_attempts, 1);
  EXPECT_EQ(one.broker.notify_retry, 30s);
  EXPECT_EQ(one.broker.queue_timer, 10s);
  auto const& two = config.databases[1];
  EXPECT_EQ(two.database.database_url, "host='localhost' port=5432 dbname='other' user='broker' sslmode=prefer");
  EXPECT_EQ(two.pool.open(), 25);
  EXPECT_TRUE(config.log_format_given);
}

TEST_F(ConfigBroker, ReadsJson) {
  auto const config = load(R"({"databases": [{"name": "a", "database_url": "postgres://u@h/d", "queue_count": 2}],
 "broker": {"queue_concurrency": 3}})");
  ASSERT_THAT(config.databases, SizeIs(1));
  EXPECT_EQ(config.databases[0].broker.queue_count, 2);
  EXPECT_EQ(config.databases[0].broker.queue_concurrency, 3);
  EXPECT_EQ(config.databases[0].database.database_url, "postgresql://u@h/d");
}

TEST_F(ConfigBroker, AnEntryWinsOverWhatStandsOutside) {
  auto const config = load(R"(
user: common
queue_count: 8
broker: {queue_concurrency: 2, max_attempts: 3}
queues:
  3: {concurrency: 5}
kinds:
  mail: {exec: [/bin/mail], timeout: 10s}
databases:
  - {name: a, database: a}
  - name: b
    database: b
    user: own
    queue_count: 3
    broker: {max_attempts: 1}
    queues: {1: {concurrency: 7}}
    kinds:
      mail: {timeout: 20s}
      count: {sql: select 1}
  - {name: c, database_url: "postgresql://x@y/z"}
)");
  auto const& a = config.databases[0];
  auto const& b = config.databases[1];
  EXPECT_THAT(a.database.database_url, HasSubstr("user='common'"));
  EXPECT_THAT(b.database.database_url, HasSubstr("user='own'"));
  EXPECT_EQ(config.databases[2].database.database_url, "postgresql://x@y/z");
  EXPECT_EQ(a.broker.queue_count, 8);
  EXPECT_EQ(b.broker.queue_count, 3);
  EXPECT_EQ(a.broker.max_attempts, 3);
  EXPECT_EQ(b.broker.max_attempts, 1);
  EXPECT_EQ(b.broker.queue_concurrency, 2);
  EXPECT_EQ(a.broker.concurrency_of(1), 2);
  EXPECT_EQ(a.broker.concurrency_of(3), 5);
  EXPECT_EQ(b.broker.concurrency_of(1), 7);
  EXPECT_THAT(a.kinds, SizeIs(1));
  EXPECT_EQ(a.kinds.at("mail").options.timeout, 10s);
  EXPECT_EQ(b.kinds.at("mail").options.timeout, 20s);
  EXPECT_THAT(b.kinds.at("mail").exec, ElementsAre("/bin/mail"));
  EXPECT_THAT(b.kinds, SizeIs(2));
  EXPECT_NE(a.fingerprint, b.fingerprint);
}

TEST_F(ConfigBroker, WithoutAListThereIsOneDatabase) {
  auto const config = load("database_url: postgresql://u@h/d\nqueue_count: 2\n");
  ASSERT_THAT(config.databases, SizeIs(1));
  EXPECT_EQ(config.databases[0].name, "default");
  EXPECT_EQ(config.databases[0].broker.queue_count, 2);
}

TEST_F(ConfigBroker, VariablesReachEntriesByNameAndByIndex) {
  sources_.environment = {{"POSTHOUSE_DATABASES__DB1__PASSWORD", "from-env"},
                          {"POSTHOUSE_DATABASES__1__QUEUE_COUNT", "7"},
                          {"POSTHOUSE_DATABASES__DB1__BROKER__MAX_ATTEMPTS", "4"},
                          {"POSTHOUSE_DATABASES__NOBODY__PORT", "1"},
                          {"POSTHOUSE_QUEUE_COUNT", "6"}};
  auto const config = load("databases:\n  - {name: db1, database: a, user: u}\n  - {name: x, database: b, user: u}\n");
  EXPECT_THAT(config.databases[0].database.database_url, HasSubstr("password='from-env'"));
  EXPECT_EQ(config.databases[0].broker.max_attempts, 4);
  EXPECT_EQ(config.databases[0].broker.queue_count, 6);
  EXPECT_EQ(config.databases[1].broker.queue_count, 7);
  EXPECT_THAT(config.warnings, ElementsAre(HasSubstr("POSTHOUSE_DATABASES__NOBODY__PORT")));
}

TEST_F(ConfigBroker, AUrlBesideTheListIsAnError) {
  sources_.environment = {{"POSTHOUSE_DATABASE_URL", "postgresql://u@h/d"}};
  EXPECT_EQ(problems("databases:\n  - {name: a, database: a, user: u}\n  - {name: b, database: b, user: u}\n"),
            "POSTHOUSE_DATABASE_URL: database_url stands beside databases (file:1); keep one of them");
}

TEST_F(ConfigBroker, TextsTakeVariables) {
  sources_.environment = {{"SECRET", "p'w\\"}, {"HOST", "h"}};
  auto const config = load(R"(
databases:
  - {name: a, host: "${HOST}.example", database: d, user: u, password: "${SECRET}"}
kinds:
  k: {exec: [/bin/sh, -c, "echo ${HOME}"]}
  s: {sql: "select '${x}'"}
schema: "$${x}"
)");
  EXPECT_EQ(config.databases[0].database.schema, "${x}");
  EXPECT_THAT(config.databases[0].database.database_url,
              AllOf(HasSubstr("host='h.example'"), HasSubstr(R"(password='p\'w\\')")));
  EXPECT_THAT(config.databases[0].kinds.at("k").exec, ElementsAre("/bin/sh", "-c", "echo ${HOME}"));
  EXPECT_THAT(config.databases[0].kinds.at("s").sql, ElementsAre("select '${x}'"));
  EXPECT_THAT(problems("schema: \"${NOT_THERE}\"\n"),
              HasSubstr("file:1: the environment variable NOT_THERE is not set"));
}

TEST_F(ConfigBroker, SecretsComeFromFiles) {
  auto const path = file("secret", "from file\nrest\n");
  auto const config = load("databases:\n  - {name: a, database: d, user: u, password_file: " + path +
                           "}\nrun_as:\n  reporting: {password_file: " + path + "}\n  Odd Role: {peer: true}\n");
  EXPECT_EQ(config.databases[0].database.password_file, path) << "read at each connect";
  EXPECT_THAT(config.databases[0].database.database_url, Not(HasSubstr("from file")));
  EXPECT_EQ(config.databases[0].run_as.at("reporting").password_file, path) << "read at each login";
  EXPECT_TRUE(config.databases[0].run_as.at("Odd Role").peer);
  auto const before = config.databases[0].fingerprint;
  file("secret", "another\n");
  EXPECT_EQ(node::load(sources_).databases[0].fingerprint, before);
  EXPECT_THAT(problems("database_url: postgresql://u@h/d\npassword_file: /nowhere/at/all\n"),
              HasSubstr("file:2: password_file cannot be read: /nowhere/at/all"));
}

TEST_F(ConfigBroker, ReportsAllProblemsAtOnce) {
  auto const text = problems(R"(host: h
database: outside
databases:
  - {name: a, database: d, user: u, port: 99999, colour: red}
  - {name: a, database: e, user: u}
  - {database: f, user: u}
  - {name: g, user: u}
  - {name: h, database: d2, user: u, logging: {level: debug}}
  - just a word
  - {name: i, database: e, user: u}
  - {name: k, database: k, user: u, max_open_conns: 5, pool_size: 5}
  - {name: l, database: l, user: u, queue_count: 2, queues: {3: {concurrency: 1}, mail: {concurrency: 1}, 1: {max_concurrency: 3}}}
  - {name: m, database: m, user: u, run_as: {r: {sslcert: x}, s: {peer: false}}}
  - {name: n, database: n, user: u, queue_count: 1000, broker: {queue_concurrency: 2}}
queue_count: 0
)");
  for (auto const* const part :
       {"file:2: database stands beside databases", "databases[a].port is \"99999\"; allowed: a whole number",
        "databases[a].colour is not a key", "databases[a].name stands twice", "databases[2].name is missing",
        "databases[h].logging is for the whole process", "databases[5] is 'just a word'; allowed: a mapping",
        "databases[i] is the same database as a", "max_open_conns stands beside pool_size",
        "queues.3 is beyond queue_count", "is for numbered queues", "queues.1 is a numbered queue",
        "run_as.r has one of sslcert and sslkey", "run_as.s says not how to log in", "run 2000 jobs at once",
        "file:15: queue_count is \"0\""}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
  EXPECT_THAT(problems("databases:\n  - {name: g, user: u}\n"), HasSubstr("file:2: databases[g].database is missing"));
  EXPECT_THAT(problems("databases: []\n"), HasSubstr("databases is an empty list"));
}

TEST_F(ConfigBroker, CommandsAboutOneDatabaseChooseIt) {
  auto const* const text = "databases:\n  - {name: a, database: d, user: u}\n  - {name: b, database: e, user: u}\n";
  EXPECT_EQ(load(text).url_source, "");
  sources_.database = "b";
  auto const config = load(text);
  EXPECT_THAT(config.database.database_url, HasSubstr("dbname='e'"));
  EXPECT_THAT(config.databases, SizeIs(2));
  sources_.database = "c";
  EXPECT_EQ(problems(text), "--database: there is no database 'c'; allowed: a, b");
}

TEST_F(ConfigBroker, ShowHidesSecrets) {
  sources_.environment = {{"POSTHOUSE_DATABASES__A__PASSWORD", "s3cret"}};
  sources_.file = file("broker.yaml", R"(
run_as: {r: {password: s3cret}}
databases:
  - {name: a, database: d, user: u}
  - {name: b, database_url: "postgresql://u:s3cret@h/d", run_as: {q: {password: s3cret}}}
)");
  auto const text = show(sources_);
  EXPECT_THAT(text, Not(HasSubstr("s3cret")));
  EXPECT_THAT(text, HasSubstr("name: a"));
  EXPECT_THAT(text, HasSubstr("queue_count: 4  # default"));
  EXPECT_THAT(text, HasSubstr("run_as:"));
}

TEST_F(ConfigBroker, ThePoolOfProducers) {
  auto const defaults = load("databases: [{name: a, database_url: 'postgresql://u@h/d'}]\n");
  auto const plain = producers_pool(defaults.databases[0]);
  EXPECT_EQ(plain.name, "a");
  EXPECT_EQ(plain.database.database_url, "postgresql://u@h/d");
  EXPECT_EQ(plain.pool_size, 5);
  EXPECT_EQ(plain.max_overflow, 10);
  EXPECT_EQ(plain.pool_timeout, 30s);
  EXPECT_TRUE(plain.pool_pre_ping);
  EXPECT_EQ(plain.pool_recycle, 30min);
  EXPECT_EQ(plain.pool_idle_timeout, 10min);
  EXPECT_FALSE(plain.echo);

  auto const config = load(R"(
pool_size: 7
databases:
  - {name: a, database_url: "postgresql://u@h/d", max_overflow: 3, pool_timeout: 1.5s, pool_pre_ping: false, echo: true,
     pool_recycle: 60, pool_idle_timeout: 2m}
)");
  auto const pool = producers_pool(config.databases[0]);
  EXPECT_EQ(pool.pool_size, 7);
  EXPECT_EQ(pool.max_overflow, 3);
  EXPECT_EQ(pool.pool_timeout, 1500ms);
  EXPECT_FALSE(pool.pool_pre_ping);
  EXPECT_EQ(pool.pool_recycle, 60s);
  EXPECT_EQ(pool.pool_idle_timeout, 2min);
  EXPECT_TRUE(pool.echo);

  auto const aliases = load(R"(
databases:
  - {name: a, database_url: "postgresql://u@h/d", max_open_conns: 12, max_idle_conns: 4, conn_max_lifetime: 90}
)");
  auto const same = producers_pool(aliases.databases[0]);
  EXPECT_EQ(same.pool_size, 4);
  EXPECT_EQ(same.max_overflow, 8);
  EXPECT_EQ(same.pool_recycle, 90s);
}

TEST_F(ConfigBroker, TheExampleIsTheFileAndHasEveryKey) {
  std::ifstream stream(std::string(POSTHOUSE_SOURCE_DIR) + "/examples/broker.example.yaml");
  std::string const committed{std::istreambuf_iterator<char>(stream), {}};
  EXPECT_EQ(committed, example()) << "posthouse config example > examples/broker.example.yaml";
  auto const config = load(example());
  EXPECT_EQ(config.databases[0].name, "db1");
}

}  // namespace
}  // namespace posthouse::node
