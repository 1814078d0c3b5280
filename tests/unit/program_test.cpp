// SPDX-License-Identifier: Apache-2.0
// Programs that end well, badly, late or not at all, and what a job makes of each.
#include "execute/program.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "execute/exec_handler.hpp"

namespace posthouse::execute {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;
using Clock = std::chrono::steady_clock;

Program shell(std::string script) {
  Program program;
  program.argv = {"/bin/sh", "-c", std::move(script)};
  program.environment = {"PATH=/usr/bin:/bin"};
  program.kill_grace = 300ms;
  return program;
}

ProgramEnd go(Program const& program, std::string_view input = {}, std::optional<Clock::time_point> deadline = {},
              std::stop_token const& stop = {}) {
  return run_program(program, input, deadline, stop);
}

/// Dead ones that nobody has reaped still take signals; their state tells them apart.
bool alive(int pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string const line((std::istreambuf_iterator<char>(stat)), {});
  return !line.empty() && line.find(") Z ") == std::string::npos;
}

template <class Condition>
bool soon(Condition condition) {
  for (int i = 0; i < 400; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(5ms);
  }
  return false;
}

TEST(ProgramTest, PassesInputAndCatchesOutput) {
  std::string const input(3 * 1024 * 1024, 'x');
  auto program = shell("cat; echo problem >&2");
  program.output_limit = input.size();
  auto const end = go(program, input);
  EXPECT_EQ(end.how, ProgramEnd::How::exited);
  EXPECT_EQ(end.code, 0);
  EXPECT_EQ(end.output, input);
  EXPECT_EQ(end.error_tail, "problem\n");
}

TEST(ProgramTest, SeesOnlyItsEnvironmentAndThreeDescriptors) {
  ::setenv("POSTHOUSE_TEST_LEAK", "1", 1);
  auto program = shell("env; ls /proc/self/fd | wc -l");
  program.environment.push_back("GIVEN=a b");
  int const open = ::dup(0);  // without close-on-exec
  auto const end = go(program);
  ::close(open);
  EXPECT_THAT(end.output, HasSubstr("GIVEN=a b\n"));
  EXPECT_THAT(end.output, Not(HasSubstr("LEAK")));
  EXPECT_THAT(end.output, testing::EndsWith("\n4\n")) << "0, 1, 2 and the folder that ls reads";
}

TEST(ProgramTest, SurvivesProgramsThatDoNotRead) {
  std::string const input(1024 * 1024, 'x');
  EXPECT_EQ(go(shell("exit 3"), input).code, 3);
  EXPECT_EQ(go(shell("exec <&-; sleep 0.05; exit 4"), input).code, 4);
  EXPECT_EQ(go(shell("head -c 10 >/dev/null; exit 5"), input).code, 5);
}

TEST(ProgramTest, SurvivesProgramsThatCloseEverything) {
  auto const end = go(shell("exec <&- >&- 2>&-; sleep 0.05; kill -KILL $$"));
  EXPECT_EQ(end.how, ProgramEnd::How::signalled);
  EXPECT_EQ(end.code, SIGKILL);
}

TEST(ProgramTest, KeepsTheStartOfOutputAndTheEndOfErrors) {
  auto program = shell("yes first | head -c 200000000; yes noise | head -c 3000000 >&2; echo last >&2");
  program.output_limit = 10;
  program.error_limit = 100;
  auto const end = go(program);
  EXPECT_EQ(end.output, "first\nfirs");
  EXPECT_EQ(end.output_bytes, 200'000'000U);
  EXPECT_EQ(end.error_tail.size(), 100U);
  EXPECT_THAT(end.error_tail, testing::EndsWith("last\n"));
}

TEST(ProgramTest, DeadlineEndsTheWholeGroup) {
  auto const began = Clock::now();
  auto const end = go(shell("trap '' TERM; sleep 100 & echo $! $$; sleep 100; sleep 100"), {}, began + 100ms);
  EXPECT_TRUE(end.timed_out);
  EXPECT_EQ(end.code, SIGKILL);
  EXPECT_LT(Clock::now() - began, 3s);
  std::istringstream pids(end.output);
  for (int pid = 0; pids >> pid;) EXPECT_TRUE(soon([&] { return !alive(pid); })) << pid;
}

TEST(ProgramTest, ProgramMayUseItsGrace) {
  auto program = shell("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done");
  program.kill_grace = 10s;
  auto const end = go(program, {}, Clock::now() + 150ms);
  EXPECT_TRUE(end.timed_out);
  EXPECT_EQ(end.how, ProgramEnd::How::exited);
  EXPECT_EQ(end.output, "up\nbye\n");
}

TEST(ProgramTest, StopRequestEndsIt) {
  std::stop_source source;
  std::jthread const stopper([&] {
    std::this_thread::sleep_for(50ms);
    source.request_stop();
  });
  auto const end = go(shell("sleep 100"), {}, {}, source.get_token());
  EXPECT_TRUE(end.stopped);
  EXPECT_FALSE(end.timed_out);
}

TEST(ProgramTest, DescendantsThatLeftDoNotHoldUs) {
  auto const began = Clock::now();
  auto const end = go(shell("setsid sh -c 'sleep 2; echo late' & echo early; exit 0"));
  EXPECT_EQ(end.output, "early\n");
  EXPECT_LT(Clock::now() - began, 1500ms);
}

TEST(ProgramTest, LeftoversOfTheGroupAreKilled) {
  auto const end = go(shell("sleep 100 & echo $!"));
  auto const pid = std::stoi(end.output);
  EXPECT_TRUE(soon([&] { return !alive(pid); }));
}

TEST(ProgramTest, StartErrorsSayWhy) {
  Program program;
  program.environment = {"PATH=/usr/bin:/bin"};
  EXPECT_EQ(go(program).how, ProgramEnd::How::not_started);
  program.argv = {"posthouse-no-such-program"};
  EXPECT_THAT(go(program).problem, HasSubstr("cannot find the program 'posthouse-no-such-program' in PATH"));
  auto const script = std::filesystem::temp_directory_path() / ("posthouse-script-" + std::to_string(::getpid()));
  std::ofstream(script) << "echo no shebang\n";
  program.argv = {script.string()};
  ::chmod(script.c_str(), 0644);
  EXPECT_THAT(go(program).problem, HasSubstr("Permission denied"));
  ::chmod(script.c_str(), 0755);
  EXPECT_THAT(go(program).problem, HasSubstr("#!/bin/sh"));
  std::filesystem::remove(script);
}

TEST(ProgramTest, RestoresTheSignalMaskAndManyRunAtOnce) {
  sigset_t before;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  std::vector<std::jthread> threads;
  std::atomic<int> good = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 10; ++j) good += go(shell("cat"), "abc").output == "abc" ? 1 : 0;
    });
  }
  threads.clear();
  EXPECT_EQ(good, 80);
  sigset_t after;
  pthread_sigmask(SIG_SETMASK, nullptr, &after);
  EXPECT_EQ(sigismember(&before, SIGPIPE), sigismember(&after, SIGPIPE));
}

Outcome run_job(std::string script, Job::Facts facts = {}, std::stop_token stop = {}) {
  ExecOptions options;
  options.argv = {"/bin/sh", "-c", std::move(script)};
  options.environment = {"LANG=C"};
  options.backoff = Backoff::fixed({7s});
  options.kill_grace = 200ms;
  facts.kind = "mail";
  return exec_handler(options)(Job(std::move(facts), std::move(stop), nullptr));
}

TEST(ExecHandlerTest, GivesTheFacts) {
  Job::Facts facts;
  facts.id = 42;
  facts.queue = "slow";
  facts.attempt = 3;
  facts.worker = 5;
  facts.token = 9;
  facts.position = 2;
  facts.payload = json{R"({"a":1})"};
  facts.deadline = Clock::now() + 1h;
  auto const outcome = run_job("cat; env | grep POSTHOUSE_JOB | sort", facts);
  auto const output = std::get<Success>(outcome).result.data();
  EXPECT_THAT(output, HasSubstr("{\"a\":1}POSTHOUSE_JOB_ATTEMPT=3\nPOSTHOUSE_JOB_DEADLINE=20"));
  EXPECT_THAT(output, HasSubstr("POSTHOUSE_JOB_ID=42\nPOSTHOUSE_JOB_KIND=mail\nPOSTHOUSE_JOB_QUEUE=slow\n"
                                "POSTHOUSE_JOB_TOKEN=5.9.2\n"));
}

TEST(ExecHandlerTest, TheEnvironmentIsWhatIsListedAndAUsualPath) {
  ASSERT_EQ(::setenv("POSTHOUSE_TEST_OURS", "leaked", 1), 0);
  std::string const before = std::getenv("PATH");
  ASSERT_EQ(::setenv("PATH", ("/of/the/worker:" + before).c_str(), 1), 0);
  auto const names = [](std::vector<std::string> environment) {
    ExecOptions options;
    options.argv = {"env"};
    options.environment = std::move(environment);
    Job::Facts facts;
    facts.kind = "mail";
    auto const outcome = exec_handler(options)(Job(std::move(facts), {}, nullptr));
    return std::string(std::get<Success>(outcome).result.data());
  };
  auto const plain = names({"LANG=C"});
  auto const given = names({"PATH=/usr/bin:/bin"});
  ::setenv("PATH", before.c_str(), 1);
  ::unsetenv("POSTHOUSE_TEST_OURS");
  EXPECT_THAT(plain, HasSubstr("LANG=C\n"));
  EXPECT_THAT(plain, HasSubstr("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"));
  EXPECT_THAT(given, HasSubstr("PATH=/usr/bin:/bin\n"));
  for (auto const& text : {plain, given}) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      auto const name = line.substr(0, line.find('='));
      EXPECT_TRUE(name == "LANG" || name == "PATH" || name.starts_with("POSTHOUSE_JOB_")) << line;
    }
  }
}

TEST(ExecHandlerTest, OutputIsTheResult) {
  EXPECT_TRUE(std::get<Success>(run_job("true")).result.is_null());
  EXPECT_TRUE(std::get<Success>(run_job("echo '{\"n\": 1}'")).result.is_json());
  EXPECT_TRUE(std::get<Success>(run_job("echo plain")).result.is_bytes());
}

TEST(ExecHandlerTest, EndsBecomeOutcomes) {
  EXPECT_EQ(std::get<Snooze>(run_job("exit 75")).delay, 7s);
  auto const failed = std::get<Failure>(run_job("echo first >&2; printf 'bad \\377 byte\\n\\n' >&2; exit 2"));
  EXPECT_EQ(failed.type, "ExitStatus");
  EXPECT_EQ(failed.message, "/bin/sh ended with exit status 2: first\nbad \uFFFD byte");
  auto const killed = std::get<Failure>(run_job("kill -SEGV $$"));
  EXPECT_EQ(killed.type, "Signal");
  EXPECT_THAT(killed.message, HasSubstr("signal 11 (Segmentation fault)"));
  Job::Facts late;
  late.deadline = Clock::now() + 50ms;
  auto const timed_out = std::get<Failure>(run_job("echo working >&2; sleep 100", late));
  EXPECT_EQ(timed_out.type, "Timeout");
  EXPECT_THAT(timed_out.message, HasSubstr("working"));
  std::stop_source stopped;
  stopped.request_stop();
  EXPECT_EQ(std::get<Snooze>(run_job("sleep 100", {}, stopped.get_token())).delay, 0ms);
  EXPECT_EQ(std::get<Failure>(outcome_of({.problem = "why"}, "x", 1s)).type, "NotStarted");
}

}  // namespace
}  // namespace posthouse::execute
