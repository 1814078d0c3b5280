// SPDX-License-Identifier: Apache-2.0
// enqueue --lines with many lines, and its progress: on a terminal, and only there.
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/unique_fd.hpp"
#include "dev/process.hpp"
#include "integration/cli_fixture.hpp"

extern char** environ;

namespace posthouse::test {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

constexpr int kLines = 100'000;

std::string many_lines() {
  std::string text;
  for (int i = 1; i <= kLines; ++i) text += "{\"n\": " + std::to_string(i) + "}\n";
  return text;
}

class CliProgress : public CliDatabaseTest {
 protected:
  void expect_every_line_once() {
    EXPECT_EQ(sql.number("select count(*) from posthouse.job"), kLines);
    EXPECT_EQ(sql.number("select count(distinct (payload ->> 'n')::int) from posthouse.jobs "
                         "where (payload ->> 'n')::int between 1 and $1::int",
                         std::to_string(kLines)),
              kLines);
  }

  /// Standard error is a terminal, standard input a file; what the terminal got, and the status.
  Ran on_terminal(std::vector<std::string> arguments, std::string const& input_file) {
    base::UniqueFd const master(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (master.get() < 0 || ::grantpt(master.get()) != 0 || ::unlockpt(master.get()) != 0) {
      throw std::runtime_error("no pseudo-terminal");
    }
    winsize size{};
    size.ws_col = 100;
    size.ws_row = 24;
    ::ioctl(master.get(), TIOCSWINSZ, &size);
    std::array<char, 128> name{};
    if (::ptsname_r(master.get(), name.data(), name.size()) != 0) throw std::runtime_error("ptsname");
    base::UniqueFd terminal(::open(name.data(), O_RDWR | O_NOCTTY | O_CLOEXEC));
    base::UniqueFd const input(::open(input_file.c_str(), O_RDONLY | O_CLOEXEC));

    dev::SpawnOptions spawn;
    spawn.argv = std::move(arguments);
    spawn.argv.insert(spawn.argv.begin(), posthouse_program());
    for (char** entry = environ; *entry != nullptr; ++entry) {
      std::string const text = *entry;
      if (!environment.contains(text.substr(0, text.find('=')))) spawn.environment.push_back(text);
    }
    for (auto const& [key, value] : environment) {
      if (!value.empty()) spawn.environment.push_back(key + "=" + value);
    }
    spawn.in = input.get();
    spawn.err = terminal.get();
    spawn.parent_death_signal = SIGKILL;
    auto const pid = dev::spawn(spawn);
    terminal.reset();

    Ran ran;
    std::array<char, 4096> buffer{};
    auto const end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (std::chrono::steady_clock::now() < end) {
      pollfd readable{master.get(), POLLIN, 0};
      if (::poll(&readable, 1, 1000) <= 0) continue;
      auto const got = ::read(master.get(), buffer.data(), buffer.size());
      if (got <= 0) break;  // EIO: the last one who had the terminal has gone
      ran.err.append(buffer.data(), static_cast<std::size_t>(got));
    }
    if (!dev::wait_gone(pid, std::chrono::seconds(30))) ::kill(pid, SIGKILL);
    return ran;
  }
};

TEST_F(CliProgress, AHundredThousandLinesThroughAPipe) {
  auto const ran = run({"enqueue", "bulk", "--lines"}, many_lines());
  EXPECT_EQ(ran.status, 0);
  EXPECT_EQ(ran.err, "") << "no bar on what is no terminal";
  EXPECT_EQ(std::count(ran.out.begin(), ran.out.end(), '\n'), kLines) << "an id a line";
  expect_every_line_once();
}

TEST_F(CliProgress, ATerminalGetsABar) {
  auto const input = folder.write("payloads.jsonl", many_lines());
  auto const ran = on_terminal({"enqueue", "bulk", "--lines"}, input);
  EXPECT_THAT(ran.err, HasSubstr("\r\x1b[K["));
  EXPECT_THAT(ran.err, HasSubstr(" %  10,000 jobs")) << "after the first piece";
  EXPECT_TRUE(ran.err.ends_with("\r\x1b[K")) << "it is wiped at the end: " << ran.err;
  expect_every_line_once();
}

}  // namespace
}  // namespace posthouse::test
