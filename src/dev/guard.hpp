// SPDX-License-Identifier: Apache-2.0
// The end of an ephemeral server when its process dies without a chance to clean up.
//
// A small shell reads from a socket whose other end only this process holds. The end of it, however it comes about,
// makes
// the shell kill the last process whose number it read and remove the folder. A server writes its own number
// between fork and exec, so there is no moment in which it could be missed.
// Thread safety: one thread at a time.
#pragma once

#include <filesystem>
#include <string_view>

namespace posthouse::dev {

class Guard {
 public:
  /// Starts the shell. `folder` is removed, with all that is in it, when this process is gone.
  explicit Guard(std::filesystem::path const& folder);
  /// Sends the shell away; it removes the folder and kills what is left in it.
  ~Guard();
  Guard(Guard const&) = delete;
  Guard& operator=(Guard const&) = delete;

  /// Where a program announces itself, see SpawnOptions.
  [[nodiscard]] int announce() const noexcept { return socket_; }
  /// The last announced process has ended and its number may be another's by now.
  void forget();

 private:
  void tell(std::string_view line) const;

  int socket_ = -1;
  int shell_ = 0;
  int owner_ = 0;  ///< a forked child's copy says nothing to the shell
};

}  // namespace posthouse::dev
