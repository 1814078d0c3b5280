// SPDX-License-Identifier: Apache-2.0
// Folders and files that belong to one user, written with care for who else may write there.
//
// Thread safety: free functions, callable from any thread; a FolderLock belongs to one thread.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "dev/process.hpp"

namespace posthouse::dev {

/// Makes `folder` with mode 0700, owned by `as` (nullopt: by us), and its parents. A folder that is there already must
/// be empty, or hold nothing but names that `known` accepts and be that user's. Throws InvalidArgument otherwise, and
/// when the user cannot get to it.
void make_private_folder(std::filesystem::path const& folder, std::optional<Identity> const& as,
                         std::function<bool(std::string_view)> const& known);

/// A real folder of that user into which nobody else can look.
bool is_private_folder(std::filesystem::path const& folder, std::optional<Identity> const& as);

/// A new private folder with a short name below /tmp or XDG_RUNTIME_DIR.
std::filesystem::path make_short_folder(std::optional<Identity> const& as);

/// Replaces the file in one step. Follows no link.
void write_file(std::filesystem::path const& file, std::string_view text, std::optional<Identity> const& as);

void sync_folder(std::filesystem::path const& folder);

/// The last `count` lines that are not empty, in one line of text.
std::string last_lines(std::string_view text, int count);

/// An exclusive lock among processes, held until destruction or death.
class FolderLock {
 public:
  /// Throws Timeout when another process holds it for longer than `deadline`.
  FolderLock(std::filesystem::path const& file, std::optional<Identity> const& as, std::chrono::milliseconds deadline);
  ~FolderLock();
  FolderLock(FolderLock const&) = delete;
  FolderLock& operator=(FolderLock const&) = delete;

 private:
  int fd_ = -1;
};

}  // namespace posthouse::dev
