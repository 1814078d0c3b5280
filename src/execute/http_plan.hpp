// SPDX-License-Identifier: Apache-2.0
// The request of a kind: its options, checked and taken apart, and the requests that jobs make of it.
//
// Thread safety: once made, from any number of threads.
#pragma once

#include <posthouse/job.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/http_url.hpp"
#include "execute/http_client.hpp"
#include "execute/http_handler.hpp"
#include "execute/http_template.hpp"

namespace posthouse::execute {

class HttpPlan {
 public:
  /// Throws InvalidArgument.
  explicit HttpPlan(HttpOptions options);

  /// Throws InvalidArgument when one cannot be had.
  void read_secrets();

  /// Everything but address, deadline and stop. Throws CannotFill.
  [[nodiscard]] HttpRequest request_for(Job const& job) const;
  /// Where an answer sends a request: changes it. Throws CannotFill when that is not allowed.
  void follow(HttpRequest& request, int status, std::string const& location) const;
  /// `text` without the secrets that were sent.
  [[nodiscard]] std::string scrubbed(std::string text) const;

  [[nodiscard]] HttpOptions const& options() const noexcept { return options_; }
  [[nodiscard]] std::vector<core::AddressRule> const& allowed() const noexcept { return allowed_; }

 private:
  void add_header(std::string const& name, std::string const& value);
  void add_body(HttpRequest& request, Job const& job) const;

  HttpOptions options_;
  core::HttpUrl origin_{};
  Template target_{};
  std::vector<std::pair<std::string, Template>> headers_{};
  Template body_{};
  Template::Into body_into_ = Template::Into::json;
  bool own_type_ = false;  ///< Content-Type is configured
  std::vector<core::AddressRule> allowed_{};
  std::vector<std::string> secrets_{};
};

}  // namespace posthouse::execute
