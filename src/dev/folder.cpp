// SPDX-License-Identifier: Apache-2.0
#include "dev/folder.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#include <posthouse/error.hpp>

namespace posthouse::dev {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

uid_t user_of(std::optional<Identity> const& as) { return as ? as->uid : ::geteuid(); }

[[noreturn]] void fail(std::string const& what, fs::path const& path, int error) {
  throw Unavailable(what + " " + path.string() + ": " + std::strerror(error));
}

void give_to(int fd, fs::path const& path, std::optional<Identity> const& as) {
  if (as && ::fchown(fd, as->uid, as->gid) != 0) fail("cannot give to " + as->name + " the file", path, errno);
}

}  // namespace

bool is_private_folder(fs::path const& folder, std::optional<Identity> const& as) {
  struct stat facts {};
  return ::lstat(folder.c_str(), &facts) == 0 && S_ISDIR(facts.st_mode) && facts.st_uid == user_of(as) &&
         (facts.st_mode & 077U) == 0;
}

void make_private_folder(fs::path const& folder, std::optional<Identity> const& as,
                         std::function<bool(std::string_view)> const& known) {
  std::error_code error;
  bool const new_parent = fs::create_directories(folder.parent_path(), error);
  if (error) fail("cannot make the folder", folder.parent_path(), error.value());
  // Root's umask may close to the server's user what was just made for it.
  if (new_parent && as && ::chmod(folder.parent_path().c_str(), 0755) != 0) {
    fail("cannot open to others", folder.parent_path(), errno);
  }
  bool const made = ::mkdir(folder.c_str(), 0700) == 0;
  if (!made && errno != EEXIST) fail("cannot make the folder", folder, errno);

  struct stat facts {};
  if (::lstat(folder.c_str(), &facts) != 0) fail("cannot look at", folder, errno);
  if (!S_ISDIR(facts.st_mode))
    throw InvalidArgument(folder.string() + " is no folder", {.hint = "name another folder"});
  bool empty = true;
  for (auto it = fs::directory_iterator(folder, error); !error && it != fs::directory_iterator(); it.increment(error)) {
    empty = false;
    auto const name = it->path().filename().string();
    if (known(name)) continue;
    throw InvalidArgument(
        "the folder " + folder.string() + " holds '" + name + "', so it is not one for a private PostgreSQL",
        {.hint = "name an empty folder or one that does not exist yet"});
  }
  if (error) fail("cannot look into the folder", folder, error.value());
  // Looked at again: somebody else who makes it at this moment gives it away before he puts anything into it.
  if (::lstat(folder.c_str(), &facts) != 0) fail("cannot look at", folder, errno);
  if (facts.st_uid != user_of(as)) {
    bool const mine_to_give = as.has_value() && facts.st_uid == 0 && empty;
    if (!mine_to_give || ::lchown(folder.c_str(), as->uid, as->gid) != 0) {
      throw InvalidArgument(
          "the folder " + folder.string() + " belongs to another user (number " + std::to_string(facts.st_uid) + ")",
          {.hint = "name another folder, or call this as that user"});
    }
  }
  if ((facts.st_mode & 0777U) != 0700U && ::chmod(folder.c_str(), 0700) != 0)
    fail("cannot close to others", folder, errno);
  if (!reachable(folder, as)) {
    if (made) ::rmdir(folder.c_str());
    throw InvalidArgument(
        "the user " + (as ? as->name : std::string("who calls")) + " cannot get to the folder " + folder.string(),
        {.hint = "name a folder whose parents that user may enter, for example below /var/lib or /tmp"});
  }
}

fs::path make_short_folder(std::optional<Identity> const& as) {
  std::vector<std::string> parents{"/tmp"};
  // The run-time folder is the caller's own: another user cannot get in.
  if (char const* runtime = std::getenv("XDG_RUNTIME_DIR"); runtime != nullptr && *runtime == '/' && !as) {
    parents.emplace_back(runtime);
  }
  int last_error = 0;
  for (auto const& parent : parents) {
    std::string name = parent + "/posthouse-XXXXXX";
    if (name.size() > 90) continue;
    if (::mkdtemp(name.data()) == nullptr) {
      last_error = errno;
      continue;
    }
    if (as && ::lchown(name.c_str(), as->uid, as->gid) != 0) fail("cannot give away", name, errno);
    return name;
  }
  fail("cannot make a folder for the socket below", parents.front(), last_error);
}

void write_file(fs::path const& file, std::string_view text, std::optional<Identity> const& as) {
  auto const beside = fs::path(file).concat(".new");
  ::unlink(beside.c_str());
  int const fd = ::open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) fail("cannot write", beside, errno);
  give_to(fd, beside, as);
  while (!text.empty()) {
    ssize_t const written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      int const error = errno;
      ::close(fd);
      fail("cannot write", beside, error);
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  ::close(fd);
  if (::rename(beside.c_str(), file.c_str()) != 0) fail("cannot replace", file, errno);
}

void sync_folder(fs::path const& folder) {
  int const fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

std::string last_lines(std::string_view text, int count) {
  std::string result;
  while (count > 0 && !text.empty()) {
    auto const end = text.find_last_not_of('\n');
    if (end == std::string_view::npos) break;
    text = text.substr(0, end + 1);
    auto const start = text.rfind('\n');
    auto const line = start == std::string_view::npos ? text : text.substr(start + 1);
    result = std::string(line) + (result.empty() ? "" : " | ") + result;
    text = start == std::string_view::npos ? std::string_view{} : text.substr(0, start);
    --count;
  }
  return result;
}

FolderLock::FolderLock(fs::path const& file, std::optional<Identity> const& as, std::chrono::milliseconds deadline) {
  auto const end = std::chrono::steady_clock::now() + deadline;
  for (;;) {
    fd_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd_ < 0) fail("cannot open the lock file", file, errno);
    give_to(fd_, file, as);
    while (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      if (std::chrono::steady_clock::now() >= end) {
        ::close(fd_);
        throw Timeout("another process holds " + file.string() + " for longer than " +
                      std::to_string(deadline.count() / 1000) + " s");
      }
      std::this_thread::sleep_for(20ms);
    }
    // The holder before us may have removed the file; then the lock that counts is that of the new one.
    struct stat mine {};
    struct stat there {};
    if (::fstat(fd_, &mine) == 0 && ::lstat(file.c_str(), &there) == 0 && mine.st_ino == there.st_ino) return;
    ::close(fd_);
  }
}

FolderLock::~FolderLock() { ::close(fd_); }

}  // namespace posthouse::dev
