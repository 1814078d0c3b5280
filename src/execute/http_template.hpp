// SPDX-License-Identifier: Apache-2.0
// Texts of HTTP jobs with places to fill in: the target of the URL, header values, the body.
//
//   {{payload}} {{payload.user.name}} {{payload.items.0}}     the job's payload, or a value in it
//   {{job.id}} .kind .queue .attempt .max_attempts .token      facts of the job
//   {{headers.NAME}}                                           a header of the job
//   ${NAME} ${file:/path}                                      a secret, read once: a variable or a file of this process
//   $${                                                        the characters ${
//
// What is filled in is escaped for the place where it stands, so that no payload can leave it.
// Thread safety: render() from any number of threads.
#pragma once

#include <posthouse/job.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace posthouse::execute {

/// This job can never fill the template: a value is missing, or cannot stand there.
class CannotFill : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Template {
 public:
  /// How values are written.
  enum class Into {
    url,     ///< percent-encoded; one that would make a path segment . or .. is refused
    form,    ///< as in application/x-www-form-urlencoded
    json,    ///< inside quotes the escaped text, elsewhere JSON
    header,  ///< as it is; control characters are refused
    text     ///< as it is
  };

  Template() = default;
  /// Throws InvalidArgument naming `argument` when a place is none of the above. Reads no secret yet.
  Template(std::string argument, std::string_view text);

  /// Replaces secrets by their values, which are also appended to `secrets`. Throws InvalidArgument: not set, not readable.
  void read_secrets(std::vector<std::string>& secrets);

  [[nodiscard]] std::string render(Job const& job, Into into) const;
  [[nodiscard]] bool empty() const noexcept { return parts_.empty(); }
  /// No places, no secrets.
  [[nodiscard]] bool fixed() const noexcept;
  /// What render(…, json) may look like, to see whether it is JSON at all.
  [[nodiscard]] std::string json_sample() const;

 private:
  struct Part {
    enum class What { text, payload, fact, header, secret } what = What::text;
    std::string text{};  ///< literal, name of the fact or header, value or name of the secret
    std::vector<std::string> path{};
    bool read = false;  ///< secret: text is its value
  };

  std::string argument_{};
  std::vector<Part> parts_{};
};

}  // namespace posthouse::execute
