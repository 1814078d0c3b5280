// SPDX-License-Identifier: Apache-2.0
// The handler behind `http`: a job becomes a request, and the answer becomes the job's end.
//
//   2xx                          success; the body is the result: JSON when it is JSON, else bytes
//   429, 503 with Retry-After    tried again when the header says; no other job of the kind starts before that
//   408, 425, 429, 5xx           a failed attempt, tried again by the kind's backoff
//   no answer, or none in time   the same
//   other 4xx, 3xx               the job has failed for good, or with retry_client_errors as above
//   what the policy refuses      the job has failed for good: addresses, redirects, a value that cannot stand where the
//                                template puts it
//
// A job can never choose whom to talk to: scheme, host and port stand in the configuration. The name is resolved once, every
// address of it checked, and the connection made to one of those that were checked; so it is with each redirect.
// Thread safety: the handler may be called from any number of threads.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <posthouse/outcome.hpp>
#include <string>
#include <vector>

#include "core/address.hpp"
#include "execute/run.hpp"

namespace posthouse::execute {

struct HttpOptions {
  enum class IdempotencyKey { job, token, none };

  std::string key{};                             ///< for messages: "kinds.charge.http"
  std::string url{};                             ///< template, but for scheme, host and port
  std::string method = "POST";                   ///< GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS
  std::map<std::string, std::string> headers{};  ///< templates
  std::optional<std::string> body{};             ///< template; none: the payload as it is, with POST, PUT and PATCH
  std::chrono::milliseconds timeout{30'000};     ///< of all of it, redirects included; 1 ms to 1 d
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds read_timeout{30'000};  ///< of silence
  std::size_t max_response_bytes = 1024 * 1024;    ///< the rest is not read
  std::string ca_file{};                           ///< PEM; empty: the system's roots
  std::vector<std::string> allow_addresses{};      ///< see core::AddressRule
  int redirects = 0;                               ///< 0 to 10 are followed
  bool cross_host_redirects = false;
  bool retry_client_errors = false;
  IdempotencyKey idempotency_key = IdempotencyKey::job;
  /// For tests; empty: the system's resolver.
  std::function<std::vector<core::Address>(std::string const& host)> resolver{};
};

/// What can be said without files, environment or network. Throws InvalidArgument naming the key.
void check(HttpOptions const& options);

/// Reads secrets and certificates; throws InvalidArgument when one is missing.
Handler http_handler(HttpOptions options);

}  // namespace posthouse::execute
