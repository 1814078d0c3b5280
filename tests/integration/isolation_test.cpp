// SPDX-License-Identifier: Apache-2.0
// Child processes: what they do is what threads do, and what kills one costs one attempt.
#include <sys/wait.h>

#include <csignal>
#include <filesystem>
#include <set>

#include "integration/cli_fixture.hpp"
#include "integration/worker_fixture.hpp"

namespace posthouse::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

/// Field of /proc/PID/stat behind the name, from 0: state, parent, group; empty when there is no such process.
std::string stat_of(pid_t pid, int field) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string const text{std::istreambuf_iterator<char>(file), {}};
  if (text.empty()) return {};
  std::istringstream rest(text.substr(text.rfind(')') + 1));
  std::string value;
  for (int i = 0; i <= field; ++i) rest >> value;
  return value;
}

bool lives(pid_t pid) {
  auto const state = stat_of(pid, 0);
  return !state.empty() && state != "Z" && state != "X";
}

std::set<pid_t> children_of(pid_t parent) {
  std::set<pid_t> result;
  for (auto const& entry : std::filesystem::directory_iterator("/proc")) {
    auto const name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    auto const pid = static_cast<pid_t>(std::stol(name));
    if (stat_of(pid, 1) == std::to_string(parent) && lives(pid)) result.insert(pid);
  }
  return result;
}

class Isolation : public CliDatabaseTest {
 protected:
  Isolation() {
    prepare_session(sql);
    environment["TEST_GO_FILE"] = go;
  }

  std::string enqueue(std::string const& kind) { return sql.one("select enqueue($1)", kind); }
  ChildProcess start_worker(std::vector<std::string> more = {}) {
    std::vector<std::string> arguments{POSTHOUSE_ISOLATION_PROGRAM, "--log-level", "info"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return ChildProcess({.argv = std::move(arguments), .environment = environment});
  }
  // Works what there is, and leaves.
  Ran work(std::vector<std::string> more = {"--processes", "2"}) {
    more.emplace_back("--once");
    auto worker = start_worker(std::move(more));
    auto const status = worker.wait();
    Ran ran{status.value_or(-1), worker.output(), worker.errors()};
    EXPECT_EQ(ran.status, 0) << ran.err;
    return ran;
  }
  std::string config(std::string const& text) { return folder.write("isolation.yaml", text); }
  std::string last_error(std::string const& id) { return sql.one("select last_error from jobs where id = $1", id); }
  std::string type_of(std::string const& id) {
    return sql.one("select type from attempt_error where job = $1 order by attempt desc limit 1", id);
  }
  std::string result(std::string const& id) { return sql.one("select value from result where job = $1", id); }
  std::int64_t attempts(std::string const& id) { return sql.number("select attempt from jobs where id = $1", id); }
  bool becomes(std::string const& id, std::string const& wanted) {
    return eventually([&] { return state(id) == wanted; });
  }
  // The process in which a job runs, which says so as its progress.
  pid_t running_in(std::string const& id) {
    std::string text;
    EXPECT_TRUE(eventually([&] {
      auto const rows = sql.rows("select text from progress where job = $1", id);
      if (!rows.empty()) text = rows[0][0].value_or("");
      return !text.empty();
    }));
    return text.empty() ? 0 : static_cast<pid_t>(std::stol(text));
  }
  // Every job that ran here left the same behind, whatever ran it.
  std::string book() {
    std::string text;
    for (auto const& row :
         sql.rows("select l.kind, coalesce(j.state, '?'), j.attempt::text, coalesce(j.last_error, ''), "
                  "coalesce(e.type, ''), coalesce(r.value::text, ''), coalesce(encode(r.value_bytes, 'hex'), ''), "
                  "coalesce(r.problem, '') from jobs j join (select id as job, kind from jobs) l on l.job = j.id "
                  "left join attempt_error e on e.job = j.id left join result r on r.job = j.id order by j.id")) {
      for (auto const& value : row) text += value.value_or("null") + "|";
      text += '\n';
    }
    return text;
  }

  std::string const go = (folder.path() / "go").string();
};

TEST_F(Isolation, HandlersRunInChildrenOfTheirOwn) {
  environment["TEST_LEFT_FILE"] = (folder.path() / "left").string();
  auto const one = enqueue("pid");
  auto const prepared = enqueue("prepared");
  auto worker = start_worker({"--processes", "2"});
  ASSERT_TRUE(becomes(one, "succeeded"));
  ASSERT_TRUE(becomes(prepared, "succeeded"));
  EXPECT_EQ(result(prepared), "true") << "on_child_start has run in the child";
  auto const children = children_of(worker.pid());
  EXPECT_THAT(children, SizeIs(2));
  EXPECT_TRUE(children.contains(static_cast<pid_t>(std::stol(result(one)))));
  for (auto const pid : children) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/oom_score_adj");
    std::string score;
    file >> score;
    EXPECT_EQ(score, "1000") << "the kernel takes the child and not the worker";
  }
  worker.terminate();
  EXPECT_EQ(worker.wait(), 0) << worker.errors();
  for (auto const pid : children) EXPECT_FALSE(lives(pid));
  EXPECT_EQ(folder.read("left"), "xx") << "they end as programs do, with their destructors";
}

TEST_F(Isolation, OutcomesPayloadsAndFactsAreThoseOfThreads) {
  auto const all = [&] {
    sql.exec("truncate job, deferred, dead, attempt_error, result; delete from limit_rule where origin = 'held'");
    sql.exec("select enqueue('echo', '{\"a\": [1, 2.50, \"\\u00fc\"]}')");
    sql.exec("select enqueue_bytes('echo', decode('00ff0a0d80', 'hex'))");
    sql.exec("select enqueue('echo')");
    sql.exec("select enqueue_bytes('echo', decode(repeat('00ff', 400000), 'hex'))");
    sql.exec(
        "select enqueue('facts', queue => 'q.1', priority => -3, headers => '{\"h\": \"v\"}', max_attempts => 7, "
        "timeout => interval '1 hour')");
    for (auto const* kind : {"huge", "nothing", "throw", "discard", "snooze", "later", "decode", "commits"}) {
      enqueue(kind);
    }
  };
  all();
  work({});
  auto const threads = book();
  EXPECT_EQ(sql.number("select count(*) from jobs where state = 'succeeded'"), 8);
  all();
  work();
  EXPECT_EQ(book(), threads);
  EXPECT_THAT(threads, HasSubstr("\"inside\""));
  EXPECT_THAT(threads, HasSubstr("std::invalid_argument"));
}

TEST_F(Isolation, WhatKillsAChildCostsThatAttemptAlone) {
  std::vector<std::string> fine;
  for (int i = 0; i < 3; ++i) fine.push_back(enqueue("pid"));
  auto const segv = enqueue("segv");
  auto const exits = enqueue("exit");
  auto const hog = enqueue("hog");
  auto const torn = enqueue("torn");
  auto const garbage = enqueue("garbage");
  auto const once = enqueue("crash_once");
  for (int i = 0; i < 3; ++i) fine.push_back(enqueue("pid"));
  auto worker = start_worker({"--processes", "2"});
  for (auto const& id : {segv, exits, hog, torn, garbage}) {
    EXPECT_TRUE(becomes(id, "failed")) << worker.errors();
    EXPECT_EQ(type_of(id), "Crashed");
    EXPECT_EQ(attempts(id), 1);
  }
  EXPECT_THAT(last_error(segv), AllOf(HasSubstr("signal 11 (SIGSEGV)"), HasSubstr("while it ran the handler")));
  EXPECT_THAT(last_error(exits), HasSubstr("exit status 0"));
  EXPECT_THAT(last_error(torn), AllOf(HasSubstr("exit status 3"), HasSubstr("and sent how that ended")));
  EXPECT_THAT(last_error(garbage), HasSubstr("cannot be read"));
  for (auto const& id : fine) EXPECT_TRUE(becomes(id, "succeeded"));
  EXPECT_TRUE(becomes(once, "succeeded"));
  EXPECT_EQ(sql.number("select count(*) from attempt_error where job = $1", once), 1);
  EXPECT_TRUE(eventually([&] { return children_of(worker.pid()).size() == 2; })) << "they are replaced";
  worker.terminate();
  EXPECT_EQ(worker.wait(), 0);
}

TEST_F(Isolation, ThreeCrashesQuarantineAJob) {
  auto const id = enqueue("crash");
  work();
  EXPECT_EQ(state(id), "failed");
  EXPECT_EQ(attempts(id), 3) << "of 25";
  EXPECT_THAT(last_error(id), AllOf(HasSubstr("quarantined: 3 child processes"), HasSubstr("SIGKILL")));
  EXPECT_THAT(sql.one("select reason from dead where id = $1", id), HasSubstr("quarantined"));
  EXPECT_TRUE(sql.truth("select retry($1)", id));
  EXPECT_TRUE(sql.truth("select options ? 'child_crashes' is false from job where id = $1", id));
  work();
  EXPECT_EQ(state(id), "failed");
  EXPECT_EQ(attempts(id), 6) << "whoever says retry gives it three more";
}

TEST_F(Isolation, WhatAChildHasCommittedItHasDone) {
  auto const id = sql.one("select enqueue('commits', headers => '{\"die\": \"1\"}')");
  work();
  EXPECT_EQ(state(id), "succeeded");
  EXPECT_EQ(result(id), "\"inside\"");
  EXPECT_EQ(sql.number("select count(*) from attempt_error"), 0);
}

TEST_F(Isolation, AHandlerThatIgnoresItsTimeoutIsKilled) {
  auto const loop = enqueue("limited_loop");
  auto const stubborn = enqueue("stubborn");
  work({"--config", config("isolation: process\nconcurrency: 2\nkill_grace_ms: 50\n")});
  EXPECT_EQ(state(loop), "failed");
  EXPECT_EQ(type_of(loop), "Timeout");
  EXPECT_THAT(last_error(loop), AllOf(HasSubstr("SIGKILL"), HasSubstr("50 ms after it was asked to stop")));
  EXPECT_EQ(type_of(stubborn), "Timeout");
  EXPECT_THAT(last_error(stubborn), AllOf(HasSubstr("stopped half way"), Not(HasSubstr("SIGKILL"))));
}

TEST_F(Isolation, CancelAsksAndThenKills) {
  auto const asked = enqueue("patient");
  auto const killed = enqueue("loop");
  auto worker = start_worker({"--config", config("processes: 2\nkill_grace_ms: 1500\n")});
  auto const first = running_in(asked);
  auto const second = running_in(killed);
  EXPECT_EQ(sql.one("select cancel($1)", asked), "requested");
  EXPECT_TRUE(becomes(asked, "cancelled"));
  EXPECT_TRUE(lives(first)) << "the child that stopped as asked goes on";
  EXPECT_EQ(sql.one("select cancel($1)", killed), "requested");
  EXPECT_TRUE(becomes(killed, "cancelled"));
  EXPECT_FALSE(lives(second));
  worker.terminate();
  EXPECT_EQ(worker.wait(), 0);
}

TEST_F(Isolation, ChildrenAreReplacedAfterTheirJobs) {
  std::vector<std::string> jobs;
  for (int i = 0; i < 6; ++i) jobs.push_back(enqueue("pid"));
  work({"--config", config("processes: 1\nmax_jobs_per_child: 2\n")});
  std::set<std::string> pids;
  for (auto const& id : jobs) pids.insert(result(id));
  EXPECT_THAT(pids, SizeIs(3));
}

TEST_F(Isolation, ChildrenAreReplacedForTheirMemory) {
  auto worker = start_worker({"--config", config("processes: 1\nmax_memory_per_child_mb: 300\n")});
  auto const ran_in = [&](std::string const& kind) {
    auto const id = enqueue(kind);
    EXPECT_TRUE(becomes(id, "succeeded")) << worker.errors();
    return result(id);
  };
  auto const first = ran_in("pid");
  EXPECT_EQ(ran_in("pid"), first);
  EXPECT_EQ(ran_in("grow"), first);
  auto const second = ran_in("pid");
  EXPECT_NE(second, first);
  EXPECT_EQ(ran_in("pid"), second);
  worker.terminate();
  EXPECT_EQ(worker.wait(), 0);
}

TEST_F(Isolation, AnIdleChildThatDiesIsReplacedAndCostsNothing) {
  auto worker = start_worker({"--processes", "1"});
  std::set<pid_t> children;
  ASSERT_TRUE(
      eventually([&] { return worker.said("worker started") && !(children = children_of(worker.pid())).empty(); }));
  ASSERT_EQ(::kill(*children.begin(), SIGKILL), 0);
  auto const id = enqueue("pid");
  ASSERT_TRUE(becomes(id, "succeeded"));
  EXPECT_NE(result(id), std::to_string(*children.begin()));
  EXPECT_EQ(sql.number("select count(*) from attempt_error"), 0);
  worker.terminate();
  EXPECT_EQ(worker.wait(), 0);
}

TEST_F(Isolation, AWorkerThatIsKilledLeavesNoProcess) {
  auto const id = enqueue("loop");
  enqueue("nap");
  auto worker = start_worker({"--config", config("processes: 3\nkinds:\n  nap: {exec: [/bin/sleep, '1000']}\n")});
  running_in(id);
  auto children = children_of(worker.pid());
  EXPECT_THAT(children, SizeIs(3));
  std::set<pid_t> programs;
  ASSERT_TRUE(eventually([&] {
    for (auto const pid : children) programs.merge(children_of(pid));
    return !programs.empty();
  }));
  children.merge(programs);
  worker.kill();
  ASSERT_EQ(worker.wait(), 128 + SIGKILL);
  for (auto const pid : children) EXPECT_TRUE(eventually([&] { return !lives(pid); })) << pid;
}

TEST_F(Isolation, TheFirstSignalFinishesTheSecondGivesBackAndKills) {
  auto const finishes = enqueue("until_term");
  auto const loops = enqueue("loop");
  auto worker = start_worker({"--processes", "2"});
  running_in(finishes);
  running_in(loops);
  auto const children = children_of(worker.pid());
  worker.terminate();
  (void)folder.write("go", "");
  EXPECT_TRUE(becomes(finishes, "succeeded"));
  EXPECT_EQ(state(loops), "running");
  worker.terminate();
  EXPECT_EQ(worker.wait(), 0) << worker.errors();
  EXPECT_EQ(state(loops), "available");
  EXPECT_EQ(attempts(loops), 0) << "given back, not failed";
  EXPECT_EQ(sql.number("select count(*) from attempt_error"), 0);
  for (auto const pid : children) EXPECT_FALSE(lives(pid));
}

// Ctrl-C in a terminal goes to the whole process group.
TEST_F(Isolation, ChildrenDoNotHearTheTerminal) {
  auto const id = enqueue("until_term");
  auto worker = start_worker({"--processes", "1"});
  auto const child = running_in(id);
  EXPECT_EQ(stat_of(child, 2), std::to_string(child)) << "a group of its own";
  ASSERT_EQ(::kill(child, SIGINT), 0);
  ASSERT_EQ(::kill(child, SIGTERM), 0);
  worker.send(SIGINT);
  (void)folder.write("go", "");
  EXPECT_TRUE(becomes(id, "succeeded"));
  EXPECT_EQ(worker.wait(), 0);
  EXPECT_EQ(sql.number("select count(*) from attempt_error"), 0);
}

TEST_F(Isolation, AHandlerEnqueuesThroughAConnectionOfItsOwn) {
  auto const id = enqueue("enqueues");
  work();
  EXPECT_EQ(state(id), "succeeded");
  EXPECT_EQ(sql.number("select count(*) from jobs where kind = 'nothing' and state = 'succeeded'"), 1);
}

TEST_F(Isolation, SqlAndProgramsRunInChildrenToo) {
  sql.exec("create table public.effect (n int)");
  auto const file = config(
      "processes: 1\nkinds:\n  count: {sql: insert into public.effect values (1)}\n"
      "  parent: {exec: [/bin/sh, -c, 'echo $PPID']}\n");
  auto const count = enqueue("count");
  auto const parent = enqueue("parent");
  auto const own = enqueue("pid");
  work({"--config", file});
  EXPECT_EQ(state(count), "succeeded");
  EXPECT_EQ(sql.number("select count(*) from public.effect"), 1);
  EXPECT_EQ(result(parent), result(own));
}

TEST_F(Isolation, AKindMayDecideForItself) {
  environment["TEST_MIXED"] = "yes";
  // A worker of threads, with children for the kinds that want them; and the other way round.
  for (bool const threads : {true, false}) {
    auto const whatever = enqueue("pid");
    auto const in_thread = enqueue("in_thread");
    auto const in_child = enqueue("in_child");
    auto const dies = enqueue("dies_in_child");
    auto worker = start_worker(threads ? std::vector<std::string>{"--concurrency", "2", "--once"}
                                       : std::vector<std::string>{"--processes", "2", "--once"});
    auto const pid = std::to_string(worker.pid());
    EXPECT_EQ(worker.wait(), 0) << worker.errors();
    EXPECT_EQ(result(in_thread), pid);
    EXPECT_NE(result(in_child), pid);
    EXPECT_EQ(result(whatever) == pid, threads);
    EXPECT_EQ(state(dies), "failed");
    EXPECT_EQ(type_of(dies), "Crashed");
  }
}

TEST_F(Isolation, AConfiguredKindMayDecideForItself) {
  auto const file = config(
      "kinds:\n  child: {exec: [/bin/sh, -c, 'echo $PPID'], isolation: process}\n"
      "  thread: {exec: [/bin/sh, -c, 'echo $PPID'], isolation: thread}\n");
  for (bool const threads : {true, false}) {
    auto const child = enqueue("child");
    auto const thread = enqueue("thread");
    std::vector<std::string> arguments{"--config", file, "--once"};
    if (!threads) arguments.insert(arguments.end(), {"--processes", "1"});
    auto worker = start_worker(arguments);
    auto const pid = std::to_string(worker.pid());
    EXPECT_EQ(worker.wait(), 0) << worker.errors();
    EXPECT_NE(result(child), pid);
    EXPECT_EQ(result(thread), pid);
  }
}

TEST_F(Isolation, AChildThatCannotStartIsToldAtTheStart) {
  environment["TEST_START_FAILS"] = "yes";
  auto worker = start_worker({"--processes", "2"});
  EXPECT_EQ(worker.wait(), 1);
  EXPECT_THAT(worker.errors(), HasSubstr("no licence for this machine"));
  EXPECT_EQ(sql.number("select count(*) from worker"), 0) << "it has not registered";
}

TEST_F(Isolation, AMemoryLimitBelowWhatAChildNeedsIsRefused) {
  auto worker = start_worker({"--config", config("processes: 1\nmax_memory_per_child_mb: 1\n")});
  EXPECT_EQ(worker.wait(), 2);
  EXPECT_THAT(worker.errors(), HasSubstr("max_memory_per_child_mb is 1"));
}

TEST_F(Isolation, ConfigurationsThatContradictThemselvesAreRefused) {
  for (auto const* text : {"isolation: process\nprocesses: 0\n", "isolation: thread\nprocesses: 2\n",
                           "processes: 1001\n", "isolation: fork\n", "max_jobs_per_child: -1\n",
                           "processes: 0\nkinds: {k: {exec: [/bin/true], isolation: process}}\n"}) {
    auto worker = start_worker({"--config", config(text)});
    EXPECT_EQ(worker.wait(), 2) << text;
  }
}

using IsolationWorker = WorkerTest;

TEST_F(IsolationWorker, ProcessesNeedRunWorker) {
  auto options = quick();
  options.processes = 2;
  Worker worker(options);
  worker.on("k", [](Job const&) {});
  try {
    worker.start();
    FAIL() << "it has started";
  } catch (InvalidArgument const& error) {
    EXPECT_THAT(std::string(error.what()), HasSubstr("processes"));
    EXPECT_THAT(error.hint(), HasSubstr("run_worker"));
  }
  Worker other(quick());
  other.on("k", {.isolation = posthouse::Isolation::process}, [](Job const&) {});
  EXPECT_THROW(other.start(), InvalidArgument);
}

}  // namespace
}  // namespace posthouse::test
