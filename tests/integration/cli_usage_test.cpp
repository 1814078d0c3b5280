// SPDX-License-Identifier: Apache-2.0
// The program without a database: help, wrong usage, configuration, and where a URL comes from.
#include "integration/cli_fixture.hpp"

namespace posthouse::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class CliUsage : public CliTest {};

TEST_F(CliUsage, EveryCommandHasHelpWithExamples) {
  for (auto const& command : std::vector<std::vector<std::string>>{{},
                                                                   {"install"},
                                                                   {"upgrade"},
                                                                   {"verify"},
                                                                   {"uninstall"},
                                                                   {"adopt"},
                                                                   {"enqueue"},
                                                                   {"work"},
                                                                   {"jobs", "list"},
                                                                   {"jobs", "show"},
                                                                   {"jobs", "cancel"},
                                                                   {"jobs", "retry"},
                                                                   {"jobs", "delete"},
                                                                   {"schedules", "list"},
                                                                   {"schedules", "add"},
                                                                   {"schedules", "set"},
                                                                   {"schedules", "remove"},
                                                                   {"schedules", "pause"},
                                                                   {"schedules", "resume"},
                                                                   {"schedules", "run"},
                                                                   {"schedules", "next"},
                                                                   {"schedules", "history"},
                                                                   {"dead", "list"},
                                                                   {"dead", "retry"},
                                                                   {"dead", "purge"},
                                                                   {"queues", "list"},
                                                                   {"queues", "pause"},
                                                                   {"queues", "resume"},
                                                                   {"queues", "set"},
                                                                   {"kinds", "list"},
                                                                   {"kinds", "pause"},
                                                                   {"kinds", "resume"},
                                                                   {"workers", "list"},
                                                                   {"workers", "ping"},
                                                                   {"status"},
                                                                   {"stats"},
                                                                   {"config", "check"},
                                                                   {"config", "show"},
                                                                   {"config", "example"},
                                                                   {"dev", "start"},
                                                                   {"dev", "stop"},
                                                                   {"dev", "url"},
                                                                   {"dev", "psql"},
                                                                   {"bench"},
                                                                   {"demo"}}) {
    auto arguments = command;
    arguments.emplace_back("--help");
    auto const ran = run(arguments);
    SCOPED_TRACE(::testing::PrintToString(command));
    EXPECT_EQ(ran.status, 0);
    EXPECT_THAT(ran.out, HasSubstr("Usage: posthouse"));
    EXPECT_THAT(ran.out, HasSubstr("Examples:\n  "));
    EXPECT_EQ(ran.err, "");
  }
}

TEST_F(CliUsage, WrongUsageIsStatusTwoAndSaysWhat) {
  EXPECT_EQ(run({}).status, 2);
  auto const unknown = run({"enqeue", "kind"});
  EXPECT_EQ(unknown.status, 2);
  EXPECT_THAT(unknown.err, HasSubstr("there is no command \"enqeue\"; did you mean enqueue?"));
  EXPECT_THAT(run({"jobs", "lst"}).err, HasSubstr("did you mean list?"));
  EXPECT_EQ(run({"stats", "--nonsense"}).status, 2);
  EXPECT_THAT(run({"stats", "--nonsense"}).err, HasSubstr("posthouse stats --help"));
  EXPECT_EQ(run({"enqueue"}).status, 2);
  EXPECT_EQ(run({"enqueue", "k", "--priority", "high"}).status, 2);
  EXPECT_EQ(run({"stats", "--config", ""}).status, 2);
  EXPECT_THAT(run({"--version"}).out, StartsWith("posthouse "));
}

TEST_F(CliUsage, WithoutUrlItSaysHowToStart) {
  for (auto const& arguments : std::vector<std::vector<std::string>>{
           {"stats"}, {"install"}, {"enqueue", "k"}, {"work"}, {"jobs", "list"}, {"bench", "latency"}}) {
    auto const ran = run(arguments);
    SCOPED_TRACE(arguments[0]);
    EXPECT_EQ(ran.status, 2);
    EXPECT_THAT(ran.err, HasSubstr("there is no database URL"));
    EXPECT_THAT(ran.err, HasSubstr("posthouse dev start"));
  }
}

TEST_F(CliUsage, WorkWithoutHandlersSaysWhichFileAndHowToGiveOne) {
  std::vector<std::string> const work{"work", "--once", "--database-url", "postgres://nobody@127.0.0.1:1/none"};
  auto const empty = run(work);
  EXPECT_EQ(empty.status, 2);
  EXPECT_THAT(empty.err, HasSubstr("`kinds` is empty in \"" + (folder.path() / "empty.yaml").string() + "\""));
  EXPECT_THAT(empty.err, HasSubstr("kinds: {hello: {exec: [/usr/bin/wc, -c]}}"));
  auto with = work;
  with.insert(with.end(), {"--config", folder.write("work.yaml", "kinds: {a: {exec: [/bin/true]}}\n"), "--kind", "b"});
  auto const other = run(with);
  EXPECT_EQ(other.status, 2);
  EXPECT_THAT(other.err, HasSubstr("--kind is \"b\"; allowed: a"));
  for (auto const& ran : {empty, other}) EXPECT_THAT(ran.err, Not(HasSubstr("on(")));
  // No file at all; the folder has none, and whoever has one in /etc is not of this machine.
  environment["POSTHOUSE_CONFIG"] = "";
  ChildProcess bare({.argv = {"/bin/sh", "-c",
                              "cd '" + folder.path().string() + "' && exec '" + posthouse_program() +
                                  "' work --once --database-url postgres://nobody@127.0.0.1:1/none"},
                     .environment = environment});
  EXPECT_EQ(bare.wait(), 2);
  EXPECT_THAT(bare.errors(), HasSubstr("no configuration file was found"));
}

TEST_F(CliUsage, OutOfReachIsStatusFour) {
  auto const ran = run({"stats", "--database-url", "postgres://nobody:s3cret@127.0.0.1:1/none"});
  EXPECT_EQ(ran.status, 4);
  EXPECT_THAT(ran.err, HasSubstr("127.0.0.1"));
  EXPECT_THAT(ran.err, Not(HasSubstr("s3cret")));
  auto const config = folder.write("work.yaml", "kinds: {a: {exec: [/bin/true]}}\n");
  EXPECT_EQ(run({"work", "--config", config, "--database-url", "postgres://nobody@127.0.0.1:1/none"}).status, 4);
}

TEST_F(CliUsage, PrintSqlNeedsNoDatabase) {
  auto const ran = run({"install", "--print-sql", "--schema", "my \"jobs\""});
  EXPECT_EQ(ran.status, 0);
  EXPECT_THAT(ran.out, HasSubstr("\"my \"\"jobs\"\"\""));
  EXPECT_THAT(run({"uninstall", "--print-sql"}).out, HasSubstr("drop schema"));
  EXPECT_THAT(run({"verify", "--print-sql"}).out, HasSubstr("rollback;"));
}

TEST_F(CliUsage, ConfigCheckReportsEverything) {
  auto const bad = folder.write("bad.yaml", "concurrency: none\nshema: x\nkinds: {a: {sql: select 1, exec: [b]}}\n");
  auto const ran = run({"config", "check", "--config", bad});
  EXPECT_EQ(ran.status, 2);
  EXPECT_THAT(ran.err, HasSubstr("bad.yaml:1: concurrency is \"none\""));
  EXPECT_THAT(ran.err, HasSubstr("bad.yaml:2: shema is not a key of posthouse; did you mean schema?"));
  EXPECT_THAT(ran.err, HasSubstr("bad.yaml:3: kinds.a has both exec and sql"));
  auto const good = folder.write("good.yaml", "kinds: {a: {sql: select 1}}\n");
  EXPECT_THAT(run({"config", "check", "--config", good}).out, HasSubstr("no error, 1 kind"));
  EXPECT_EQ(run({"config", "check", "--connect"}).status, 2) << "there is no URL";
}

TEST_F(CliUsage, ConfigShowHidesSecrets) {
  environment["POSTHOUSE_DATABASE_URL"] = "postgres://app:s3cret@localhost/app";
  environment["POSTHOUSE_LOGING__LEVEL"] = "debug";
  auto const ran = run({"config", "show", "--log-level", "warning"});
  EXPECT_EQ(ran.status, 0);
  EXPECT_THAT(ran.out, HasSubstr("level: warning  # --log-level"));
  EXPECT_THAT(ran.out, HasSubstr("POSTHOUSE_DATABASE_URL"));
  EXPECT_THAT(ran.out + ran.err, Not(HasSubstr("s3cret")));
  auto const check = run({"config", "check"});
  EXPECT_THAT(check.err,
              HasSubstr("POSTHOUSE_LOGING__LEVEL is not one of posthouse; did you mean POSTHOUSE_LOGGING__LEVEL?"));
}

TEST_F(CliUsage, ConfigExampleIsAccepted) {
  auto const file = folder.write("example.yaml", run({"config", "example"}).out);
  EXPECT_EQ(run({"config", "check", "--config", file}).status, 0);
}

TEST_F(CliUsage, FilesMadeByTheProgramAreUpToDate) {
  auto const file = [](char const* name) {
    std::ifstream in(std::filesystem::path(POSTHOUSE_SOURCE_DIR) / name);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  EXPECT_EQ(run({"demo", "--print-config"}).out, file("examples/demo.yaml"));
  EXPECT_EQ(run({"manual"}).out, file("docs/man/posthouse.1")) << "posthouse manual > docs/man/posthouse.1";
  EXPECT_EQ(run({"completion"}).out, file("completion/posthouse.bash"))
      << "posthouse completion > completion/posthouse.bash";
}

TEST_F(CliUsage, CompletionKnowsCommandsAndOptions) {
  auto const complete = [&](std::string const& line, int word) {
    ChildProcess bash({.argv = {"/bin/bash", "-c",
                                "source '" POSTHOUSE_SOURCE_DIR "/completion/posthouse.bash'; COMP_WORDS=(" + line +
                                    "); COMP_CWORD=" + std::to_string(word) + "; _posthouse; echo \"${COMPREPLY[*]}\""},
                       .environment = environment});
    EXPECT_EQ(bash.wait(), 0) << bash.errors();
    return chomp(bash.output());
  };
  EXPECT_EQ(complete("posthouse ver", 1), "verify");
  EXPECT_EQ(complete("posthouse jobs c", 2), "cancel");
  EXPECT_EQ(complete("posthouse --schema x jobs list --st", 5), "--state");
  EXPECT_EQ(complete("posthouse jobs list --state ret", 4), "retryable");
  EXPECT_EQ(complete("posthouse work --database-", 2), "--database-url");
}

TEST_F(CliUsage, DevServerIsFoundByEveryCommand) {
  EXPECT_EQ(run({"dev", "url"}).status, 4);
  EXPECT_THAT(run({"dev", "stop"}).out, HasSubstr("not running"));
  auto const started = run({"dev", "start", "--fast"});
  ASSERT_EQ(started.status, 0) << started.err;
  EXPECT_THAT(run({"dev", "url"}).out, StartsWith("postgresql://"));
  auto const install = run({"install"});
  EXPECT_EQ(install.status, 0) << install.err;
  EXPECT_THAT(install.err, HasSubstr("using the dev server"));
  EXPECT_EQ(chomp(run({"enqueue", "hello", "{}"}).out), "1");
  auto const psql = run({"dev", "psql", "--", "-Atc", "select kind from posthouse.jobs"});
  EXPECT_EQ(chomp(psql.out), "hello") << psql.err;
  for (auto const& arguments : std::vector<std::vector<std::string>>{{"stats"},
                                                                     {"status"},
                                                                     {"verify"},
                                                                     {"upgrade"},
                                                                     {"jobs", "list"},
                                                                     {"jobs", "show", "1"},
                                                                     {"dead", "list"},
                                                                     {"queues", "list"},
                                                                     {"kinds", "list"},
                                                                     {"keys", "list"},
                                                                     {"limits", "list"},
                                                                     {"schedules", "list"},
                                                                     {"workers", "list"},
                                                                     {"doctor"}}) {
    auto const ran = run(arguments);
    SCOPED_TRACE(::testing::PrintToString(arguments));
    // The doctor finds that a --fast server has no fsync.
    EXPECT_EQ(ran.status, arguments[0] == "doctor" ? 1 : 0) << ran.err;
    EXPECT_THAT(ran.err, HasSubstr("using the dev server"));
  }
  auto const config = folder.write("work.yaml", "kinds: {hello: {exec: [/bin/cat]}}\n");
  auto const work = run({"work", "--once", "--config", config});
  EXPECT_EQ(work.status, 0) << work.err;
  EXPECT_THAT(run({"jobs", "show", "1"}).out, HasSubstr("succeeded"));
  EXPECT_EQ(run({"dev", "stop", "--remove"}).status, 0);
  EXPECT_EQ(run({"stats"}).status, 2);
}

}  // namespace
}  // namespace posthouse::test
