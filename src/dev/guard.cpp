// SPDX-License-Identifier: Apache-2.0
#include "dev/guard.hpp"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include <posthouse/error.hpp>

#include "dev/process.hpp"

namespace posthouse::dev {
namespace {

// A stopped server gets the SIGCONT that lets it see its SIGQUIT. Nobody may be there to reap it (a container without
// an init), so a zombie counts as gone.
constexpr char const* script = R"sh(
trap '' HUP INT TERM QUIT PIPE
pid=0
while read -r line && [ "$line" != end ]; do pid=$line; done
if [ "$pid" -gt 0 ]; then
  kill -QUIT "$pid"; kill -CONT "$pid"
  tries=0
  while kill -0 "$pid" && [ "$tries" -lt 200 ]; do
    case "$(cat "/proc/$pid/stat")" in *") Z "*) break ;; esac
    sleep 0.05
    tries=$((tries + 1))
  done
  kill -KILL "$pid"
fi
elsewhere=$(cat "$1/socket_folder")
case "$elsewhere" in */posthouse-*) rm -rf -- "$elsewhere" ;; esac
rm -rf -- "$1"
)sh";

}  // namespace

Guard::Guard(std::filesystem::path const& folder) : owner_(::getpid()) {
  std::array<int, 2> ends{-1, -1};
  // A socket, since writing to a pipe without reader would kill us with SIGPIPE.
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    throw Unavailable(std::string("no socket pair: ") + std::strerror(errno));
  }
  SpawnOptions options;
  options.argv = {"/bin/sh", "-c", script, "posthouse-guard", folder.string()};
  options.environment = plain_environment();
  options.in = ends[0];
  try {
    shell_ = spawn(options);
  } catch (...) {
    ::close(ends[0]);
    ::close(ends[1]);
    throw;
  }
  ::close(ends[0]);
  socket_ = ends[1];
}

Guard::~Guard() {
  // Said in so many words: a forked child of ours may hold the socket open, too.
  if (owner_ == ::getpid()) tell("end\n");
  ::close(socket_);
  if (owner_ != ::getpid()) return;
  while (::waitpid(shell_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void Guard::forget() { tell("0\n"); }

void Guard::tell(std::string_view line) const {
  // A failure means that the shell was killed: nobody to tell.
  static_cast<void>(::send(socket_, line.data(), line.size(), MSG_NOSIGNAL));
}

}  // namespace posthouse::dev
