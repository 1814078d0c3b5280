// SPDX-License-Identifier: Apache-2.0
// Configuration: values, layers, URL order, and errors that come all at once.
#include "node/config.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "node/config_keys.hpp"

namespace posthouse::node {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

class ConfigTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = std::filesystem::temp_directory_path() /
            ("posthouse-config-" + std::to_string(::getpid()) + "-" +
             testing::UnitTest::GetInstance()->current_test_info()->name() + ".yaml");
    write("{}");
  }
  void TearDown() override { std::filesystem::remove(path_); }

  void write(std::string const& text) {
    std::ofstream(path_) << text;
    sources_.file = path_.string();
  }
  Config load(std::string const& text) {
    write(text);
    return node::load(sources_);
  }
  /// All problems, one a line, without the file's folder.
  std::string problems(std::string const& text) {
    try {
      load(text);
    } catch (ConfigError const& error) {
      std::string what = error.what();
      for (auto at = what.find(path_.string()); at != std::string::npos; at = what.find(path_.string())) {
        what.replace(at, path_.string().size(), "file");
      }
      return what;
    }
    return "no problem";
  }

  std::filesystem::path path_;
  Sources sources_;
};

TEST_F(ConfigTest, ReadsEveryKind) {
  auto const config = load(R"(
database_url: postgres://app:s3cret@db.example:6432/app
session_database_url: postgresql+asyncpg://app@db.example/app
pgbouncer_transaction_mode: yes
schema: 'Weird ""name""'
logging: {level: debug, format: json}
concurrency: 8
prefetch_buffer: 100
claim_lease_ms: 20s
heartbeat_interval_ms: 2500
tcp_keepalives: false
tcp_keepalives_idle: 1m
retention: {succeeded: 2, dead: 12h}
kinds:
  mail:
    exec: [/bin/mail, -s, "a b"]
    env: [HOME, LANG=C]
    timeout: 90
    retry_timer: 30
    max_attempts: 3
    backoff: {type: linear, step: 2s, longest: 10s, jitter: 0}
  count:
    sql: update t set n = n + 1
    backoff: [1s, 500ms]
  once: {sql: [select 1, select 2], backoff: 5}
)");
  EXPECT_EQ(config.database.database_url, "postgresql://app:s3cret@db.example:6432/app");
  EXPECT_EQ(config.database.session_database_url, "postgresql://app@db.example/app");
  EXPECT_TRUE(config.database.pgbouncer_transaction_mode);
  EXPECT_EQ(config.database.schema, "Weird \"\"name\"\"");
  EXPECT_EQ(config.log_level, LogLevel::debug);
  EXPECT_EQ(config.log_format, base::LogFormat::json);
  EXPECT_EQ(config.concurrency, 8);
  EXPECT_EQ(config.prefetch_buffer, 100);
  EXPECT_EQ(config.claim_lease, 20s);
  EXPECT_TRUE(config.claim_lease_given);
  EXPECT_EQ(config.heartbeat_interval, 2500ms);
  EXPECT_FALSE(config.database.tcp_keepalives);
  EXPECT_EQ(config.database.tcp_keepalives_idle, 60);
  EXPECT_EQ(config.retain_succeeded, 48h);
  EXPECT_EQ(config.retain_dead, 12h);
  auto const& mail = config.kinds.at("mail");
  EXPECT_THAT(mail.exec, ElementsAre("/bin/mail", "-s", "a b"));
  EXPECT_THAT(mail.env, ElementsAre("HOME", "LANG=C"));
  EXPECT_EQ(mail.options.timeout, 90s);
  EXPECT_EQ(mail.options.retry_timer, 30s);
  EXPECT_EQ(mail.options.max_attempts, 3);
  EXPECT_EQ(mail.options.backoff.kind, Backoff::Kind::linear);
  EXPECT_EQ(mail.options.backoff.base, 2s);
  EXPECT_EQ(mail.options.backoff.cap, 10s);
  EXPECT_EQ(mail.options.backoff.jitter, 0);
  EXPECT_THAT(config.kinds.at("count").sql, ElementsAre("update t set n = n + 1"));
  EXPECT_THAT(config.kinds.at("count").options.backoff.list, ElementsAre(1s, 500ms));
  EXPECT_THAT(config.kinds.at("once").sql, ElementsAre("select 1", "select 2"));
  EXPECT_THAT(config.kinds.at("once").options.backoff.list, ElementsAre(5s));
}

TEST_F(ConfigTest, ReadsJson) {
  auto const config = load(
      "{\n\t\"schema\": \"jobs\",\n\t\"logging\": {\"level\": \"warning\"},\n"
      "\t\"kinds\": {\"a/b\": {\"exec\": [\"\\/bin\\/true\", \"\\u00e9\"]}}\n}\n");
  EXPECT_EQ(config.database.schema, "jobs");
  EXPECT_EQ(config.log_level, LogLevel::warning);
  EXPECT_THAT(config.kinds.at("a/b").exec, ElementsAre("/bin/true", "é"));
}

TEST_F(ConfigTest, ReportsAllProblemsWithLines) {
  auto const text = problems(R"(concurrency: many
shema: x
logging:
  level: loud
  colour: red
claim_lease_ms: 10
prefetch_buffer: 5
worker_child_pool_check: true
kinds:
  bad name: {sql: select 1}
  both: {sql: select 1, exec: [a]}
  none: {timeout: 1s}
  shell: {exec: rm -rf /}
  http: {http: "http://x"}
  odd: {sql: select 1, backoff: {type: linear, first: 1s}}
  empty: {sql: [" ; "]}
  env: {sql: select 1, env: [A]}
)");
  EXPECT_THAT(text, HasSubstr("file:1: concurrency is \"many\"; allowed: a whole number from 1 to 1000"));
  EXPECT_THAT(text, HasSubstr("file:2: shema is not a key of posthouse; did you mean schema?"));
  EXPECT_THAT(text, HasSubstr("file:4: logging.level is \"loud\"; allowed: debug, info, warning or error"));
  EXPECT_THAT(text, HasSubstr("file:5: logging.colour is not a key"));
  EXPECT_THAT(text, HasSubstr("file:6: claim_lease_ms is \"10\"; allowed: 1s to 10m"));
  EXPECT_THAT(text, HasSubstr("file:7: prefetch_buffer is 5 but claim_lease_ms is not written out"));
  EXPECT_THAT(text, HasSubstr("file:8: worker_child_pool_check is not supported by this version"));
  EXPECT_THAT(text, HasSubstr("file:10: kind is \"bad name\""));
  EXPECT_THAT(text, HasSubstr("file:11: kinds.both has both exec and sql"));
  EXPECT_THAT(text, HasSubstr("file:12: kinds.none has no handler"));
  EXPECT_THAT(text, HasSubstr("file:13: kinds.shell.exec is \"rm -rf /\"; allowed: a list such as"));
  EXPECT_THAT(text, HasSubstr("file:14: kinds.http.http is 'http://x'; allowed: a mapping of keys"));
  EXPECT_THAT(text, HasSubstr("file:15: kinds.odd.backoff.first is no key of a linear backoff"));
  EXPECT_THAT(text, HasSubstr("file:16: kinds.empty.sql has an empty statement"));
  EXPECT_THAT(text, HasSubstr("file:17: kinds.env.env is for exec alone"));
}

TEST_F(ConfigTest, RefusesDuplicatesAndTextThatIsNoConfiguration) {
  EXPECT_THAT(problems("schema: a\nconcurrency: 1\nschema: b\n"),
              HasSubstr("file:3: schema stands twice, first at file:1; keep one of them"));
  EXPECT_THAT(problems("{\"logging\": {\"level\": \"info\",\n \"level\": \"debug\"}}"),
              HasSubstr("file:2: logging.level stands twice"));
  EXPECT_THAT(problems("schema: [\n"), HasSubstr("cannot be read as YAML or JSON"));
  EXPECT_THAT(problems("a: 1\n---\nb: 2\n"), HasSubstr("several documents"));
  EXPECT_THAT(problems("- a\n"), HasSubstr("is a list; a configuration is a mapping"));
  EXPECT_THAT(problems("schema:\n"), HasSubstr("schema has no value"));
  EXPECT_THAT(problems("schema: [a]\n"), HasSubstr("schema is a list"));
  EXPECT_THAT(problems("logging: 3\n"), HasSubstr("logging is '3'; allowed: a mapping"));
  EXPECT_THAT(problems("heartbeat_interval_ms: 20000\n"), HasSubstr("at least three heartbeats"));
  EXPECT_EQ(problems(""), "no problem");
  EXPECT_EQ(problems("kinds:\n"), "no problem");
  EXPECT_THAT(problems("<<: {schema: a}\n"), HasSubstr("<< is not a key"));
}

TEST_F(ConfigTest, BoundsWhatAliasesMayBlowUp) {
  std::string text = "a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n";
  for (int i = 1; i < 9; ++i) {
    auto const before = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before;
    for (int j = 1; j < 10; ++j) text += ", " + before;
    text += "]\n";
  }
  EXPECT_THAT(problems(text), HasSubstr("more than 100,000 values"));
}

TEST_F(ConfigTest, NeverShowsSecretsInProblems) {
  EXPECT_THAT(problems("database_url: mysql://app:s3cret@host/db\n"), Not(HasSubstr("s3cret")));
  EXPECT_THAT(problems("password: [s3cret]\n"), Not(HasSubstr("s3cret")));
}

TEST_F(ConfigTest, MissingFileIsNamed) {
  sources_.file = "/nonexistent/posthouse.yaml";
  try {
    node::load(sources_);
    FAIL();
  } catch (ConfigError const& error) {
    EXPECT_THAT(error.what(), HasSubstr("/nonexistent/posthouse.yaml: cannot be read: No such file"));
  }
  sources_.file = "/tmp";
  EXPECT_THROW(node::load(sources_), ConfigError);
}

TEST_F(ConfigTest, FlagThenEnvironmentThenFile) {
  sources_.environment = {
      {"POSTHOUSE_LOGGING__LEVEL", "error"}, {"POSTHOUSE_CONCURRENCY", "7"}, {"POSTHOUSE_SCHEMA", ""}};
  sources_.flags = {{"logging.level", "debug", "--log-level"}};
  auto const config = load("schema: from_file\nconcurrency: 3\nlogging: {level: info}\n");
  EXPECT_EQ(config.log_level, LogLevel::debug);
  EXPECT_EQ(config.concurrency, 7);
  EXPECT_EQ(config.database.schema, "from_file") << "an empty variable says nothing";
}

TEST_F(ConfigTest, EnvironmentReachesListsAndKinds) {
  sources_.environment = {{"POSTHOUSE_KINDS__SEND_MAIL__EXEC__1", "--loud"},
                          {"POSTHOUSE_KINDS__SEND_MAIL__TIMEOUT", "1m"},
                          {"POSTHOUSE_KINDS__NEW_ONE__EXEC", R"(["/bin/true", "x"])"},
                          {"POSTHOUSE_KINDS__NEW_ONE__BACKOFF", "[1s, 2s]"},
                          {"POSTHOUSE_KINDS__OTHER__EXEC__0", "/bin/echo"},
                          {"POSTHOUSE_KINDS__OTHER__EXEC__1", "hi"}};
  auto const config = load("kinds: {send-mail: {exec: [/bin/mail, --quiet]}}\n");
  EXPECT_THAT(config.kinds.at("send-mail").exec, ElementsAre("/bin/mail", "--loud"));
  EXPECT_EQ(config.kinds.at("send-mail").options.timeout, 1min);
  EXPECT_THAT(config.kinds.at("new_one").exec, ElementsAre("/bin/true", "x"));
  EXPECT_THAT(config.kinds.at("new_one").options.backoff.list, ElementsAre(1s, 2s));
  EXPECT_THAT(config.kinds.at("other").exec, ElementsAre("/bin/echo", "hi"));
}

TEST_F(ConfigTest, UnknownVariablesAreWarnings) {
  sources_.environment = {{"POSTHOUSE_SHEMA", "x"},
                          {"POSTHOUSE_JOB_ID", "1"},
                          {"POSTHOUSE_TEST_X", "1"},
                          {"POSTHOUSE_LOGGING__LEVEL__DEEP", "x"},
                          {"PATH", "/bin"}};
  auto const config = load("{}");
  EXPECT_THAT(config.warnings, SizeIs(2));
  EXPECT_THAT(config.warnings[0], HasSubstr("POSTHOUSE_SHEMA is not one of posthouse; did you mean POSTHOUSE_SCHEMA?"));
}

TEST_F(ConfigTest, VariableProblemsNameTheVariable) {
  sources_.environment = {{"POSTHOUSE_CONCURRENCY", "lots"}, {"POSTHOUSE_WORKER_CHILD_POOL_CHECK", "true"}};
  auto const text = problems("{}");
  EXPECT_THAT(text, HasSubstr("POSTHOUSE_CONCURRENCY: concurrency is \"lots\""));
  EXPECT_THAT(text, HasSubstr("POSTHOUSE_WORKER_CHILD_POOL_CHECK: worker_child_pool_check is not supported"));
}

TEST_F(ConfigTest, UrlOrder) {
  sources_.running_dev_url = [] { return std::optional<std::string>("postgresql:///dev?host=/x"); };
  EXPECT_EQ(load("{}").url_source, "the running dev server");
  sources_.environment = {{"PGHOST", "/run/pg"}};
  EXPECT_EQ(load("{}").url_source, "PGHOST");
  EXPECT_EQ(load("{}").database.database_url, "");
  sources_.environment.emplace_back("DATABASE_URL", "postgres://a/b");
  EXPECT_EQ(load("{}").url_source, "DATABASE_URL");
  EXPECT_EQ(load("{}").database.database_url, "postgresql://a/b");
  EXPECT_THAT(load("database_url: postgres://file/b\n").url_source, HasSubstr(":1"));
  sources_.environment.emplace_back("POSTHOUSE_DATABASE_URL", "postgres://env/b");
  EXPECT_EQ(load("database_url: postgres://file/b\n").database.database_url, "postgresql://env/b");
  EXPECT_EQ(load("host: h\ndatabase: d\nuser: u\n").database.database_url, "postgresql://env/b");
  sources_.flags = {{"database_url", "postgres://flag/b", "--database-url"}};
  EXPECT_EQ(load("database_url: postgres://file/b\n").url_source, "--database-url");
}

TEST_F(ConfigTest, NoUrlIsNoError) {
  auto const config = load("{}");
  EXPECT_EQ(config.url_source, "");
  EXPECT_EQ(config.database.database_url, "");
}

TEST_F(ConfigTest, UrlFromParts) {
  auto const config =
      load("host: /run/pg\nport: 5433\ndatabase: my app\nuser: o'neil\npassword: 'a\\b'\nsslmode: require\n");
  EXPECT_EQ(config.database.database_url,
            R"(host='/run/pg' port=5433 dbname='my app' user='o\'neil' sslmode=require password='a\\b')");
  EXPECT_THAT(problems("host: h\n"), HasSubstr("database is missing"));
  EXPECT_THAT(problems("host: h\n"), HasSubstr("user is missing"));
  EXPECT_THAT(problems("host: h\ndatabase_url: postgres://a/b\n"), HasSubstr("host stands beside database_url"));
}

TEST_F(ConfigTest, PasswordFromTheEnvironmentJoinsTheUrlOfTheFile) {
  sources_.environment = {{"POSTHOUSE_PASSWORD", "a b"}};
  EXPECT_EQ(load("database_url: postgres://u@h/d?sslmode=require\n").database.database_url,
            "postgresql://u@h/d?sslmode=require&password=%61%20%62");
  sources_.environment = {{"POSTHOUSE_DATABASE_URL", "postgres://u@elsewhere/d"}};
  EXPECT_EQ(load("host: h\ndatabase: d\nuser: u\npassword: p\n").database.database_url, "postgresql://u@elsewhere/d")
      << "the password of one server must not be sent to another";
}

TEST_F(ConfigTest, ShowHidesSecretsAndNamesSources) {
  write(
      "database_url: postgres://u:s3cret@h/d\npassword: hidden1\nkinds: {a: {exec: [/bin/true], env: [TOKEN=hidden2, "
      "HOME]}}\n");
  sources_.environment = {{"POSTHOUSE_LOGGING__LEVEL", "debug"}};
  auto const text = show(sources_);
  EXPECT_THAT(text, Not(HasSubstr("s3cret")));
  EXPECT_THAT(text, Not(HasSubstr("hidden")));
  EXPECT_THAT(text, HasSubstr("level: debug  # POSTHOUSE_LOGGING__LEVEL"));
  EXPECT_THAT(text, HasSubstr("concurrency: 4  # default"));
  EXPECT_THAT(text, HasSubstr("TOKEN=***"));
}

TEST_F(ConfigTest, ShownConfigurationIsReadAgain) {
  write("schema: 'a \"b\" \\ é'\nkinds: {a: {sql: \"select 'x: y' -- \\n, 1\", backoff: [1s]}}\n");
  auto const text = show(sources_);
  auto const config = load(text);
  EXPECT_EQ(config.database.schema, "a \"b\" \\ é");
  EXPECT_THAT(config.kinds.at("a").sql, ElementsAre("select 'x: y' -- \n, 1"));
}

TEST_F(ConfigTest, ExampleIsAccepted) {
  auto const text = example();
  auto const config = load(text);
  EXPECT_THAT(config.kinds, SizeIs(3));
  EXPECT_THAT(config.kinds.at("count_visit").sql, SizeIs(2));
  EXPECT_EQ(config.kinds.at("tell_crm").http->method, "PUT");
}

TEST_F(ConfigTest, EveryDefaultInTheListIsAccepted) {
  for (auto const& key : keys()) {
    auto const value = std::string(key.fallback.empty() ? key.sample : key.fallback);
    // Files of secrets are read at once.
    if (value.empty() || key.structured || key.path.ends_with("password_file")) continue;
    Config config;
    auto const* const name = key.path.starts_with("queues.") ? "1" : "a";
    EXPECT_NO_THROW(key.apply(config, name, std::string(key.path), Tree::scalar(value, "", Layer::file))) << key.path;
  }
}

TEST(NearestTest, FindsWhatWasMeant) {
  EXPECT_EQ(nearest("timout", {"timeout", "backoff"}), "timeout");
  EXPECT_EQ(nearest("xyz", {"timeout", "backoff"}), "");
  EXPECT_EQ(nearest("", {"timeout"}), "");
}

}  // namespace
}  // namespace posthouse::node
