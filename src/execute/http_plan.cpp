// SPDX-License-Identifier: Apache-2.0
#include "execute/http_plan.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <posthouse/error.hpp>

#include "core/payload_check.hpp"
#include "core/refuse.hpp"
#include "core/time_format.hpp"

namespace posthouse::execute {
namespace {

constexpr std::array<std::string_view, 7> kMethods{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
// What the connection is about is ours to say.
constexpr std::array<std::string_view, 12> kOurs{
    "host",    "content-length", "transfer-encoding",   "connection",       "keep-alive",     "te", "trailer",
    "upgrade", "expect",         "proxy-authorization", "proxy-connection", "accept-encoding"};
/// Shorter ones would take ordinary words out of messages.
constexpr std::size_t kLeastSecret = 4;
constexpr std::size_t kLeastHeader = 8;
constexpr std::size_t kMostHeader = 16 * 1024;

std::string lowered(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return out;
}

bool is_token(std::string_view name) {
  return !name.empty() && name.size() <= 100 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

bool has_body(std::string const& method) { return method == "POST" || method == "PUT" || method == "PATCH"; }

bool is_plain(std::string const& name) {
  auto const small = lowered(name);
  return small == "content-type" || small == "accept" || small == "user-agent" || small == "accept-language";
}

}  // namespace

HttpPlan::HttpPlan(HttpOptions options) : options_(std::move(options)) {
  auto const& key = options_.key;
  auto const& url = options_.url;
  if (url.empty()) {
    core::refuse_because(key + ".url", "is missing",
                         "http:// or https://, a host, optionally a port, a path and a query", "");
  }
  auto const slashes = url.find("://");
  auto const end =
      slashes == std::string::npos ? url.size() : std::min(url.find_first_of("/?#", slashes + 3), url.size());
  if (auto const before = url.substr(0, end);
      before.find("{{") != std::string::npos || before.find("${") != std::string::npos) {
    core::refuse_because(key + ".url", "has a place to fill in before its path",
                         "scheme, host and port as they are, so that no job chooses whom to talk to", "");
  }
  origin_ = core::parse_http_url(key + ".url", url.substr(0, end));
  auto const target = url.substr(end);
  if (target.find('#') != std::string::npos) {
    core::refuse_because(key + ".url", "has a fragment (#…), which is never sent", "a URL without one", "");
  }
  target_ = Template(key + ".url", target.starts_with('/') ? target : "/" + target);
  if (target_.fixed()) (void)core::parse_http_url(key + ".url", url);

  if (std::find(kMethods.begin(), kMethods.end(), options_.method) == kMethods.end()) {
    core::refuse(key + ".method", options_.method, "GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS", "");
  }
  for (auto const& [name, value] : options_.headers) add_header(name, value);
  if (options_.body) {
    body_ = Template(key + ".body", *options_.body);
    if (body_into_ == Template::Into::json) core::check_json(key + ".body", body_.json_sample());
  }
  core::check_range(key + ".redirects", options_.redirects, 0, 10);
  for (auto const& rule : options_.allow_addresses) allowed_.emplace_back(key + ".allow_addresses", rule);
}

void HttpPlan::add_header(std::string const& name, std::string const& value) {
  auto const argument = options_.key + ".headers." + name;
  auto const small = lowered(name);
  if (!is_token(name)) {
    core::refuse_because(options_.key + ".headers", "has the name " + core::shown(name), "letters, digits and -", "");
  }
  if (std::find(kOurs.begin(), kOurs.end(), small) != kOurs.end() || small.starts_with("x-posthouse-")) {
    core::refuse_because(argument, "is set by posthouse itself", "any other header", "");
  }
  for (auto const& [other, ignored] : headers_) {
    if (lowered(other) == small) core::refuse_because(argument, "stands there twice", "each header once", "");
  }
  bool const control = std::any_of(value.begin(), value.end(), [](char c) {
    auto const byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && c != '\t') || byte == 0x7F;
  });
  if (control) core::refuse_because(argument, "has a control character or a line end", "one line of text", "");
  Template made(argument, value);
  if (small == "content-type") {
    own_type_ = true;
    auto const type = lowered(value);
    if (!made.fixed()) core::refuse_because(argument, "has a place to fill in", "a fixed type", "");
    body_into_ = type.find("json") != std::string::npos                  ? Template::Into::json
                 : type.starts_with("application/x-www-form-urlencoded") ? Template::Into::form
                                                                         : Template::Into::text;
  }
  if (made.fixed() && !is_plain(name) && value.size() >= kLeastHeader) secrets_.push_back(value);
  headers_.emplace_back(name, std::move(made));
}

void HttpPlan::read_secrets() {
  target_.read_secrets(secrets_);
  body_.read_secrets(secrets_);
  for (auto& [name, value] : headers_) value.read_secrets(secrets_);
  std::erase_if(secrets_, [](std::string const& secret) { return secret.size() < kLeastSecret; });
  // The longest first: one may be part of another.
  std::sort(secrets_.begin(), secrets_.end(),
            [](std::string const& a, std::string const& b) { return a.size() > b.size(); });
}

void HttpPlan::add_body(HttpRequest& request, Job const& job) const {
  auto const& payload = job.payload();
  std::string type;
  if (options_.body) {
    request.body = body_.render(job, body_into_);
    type = "application/json";
    if (body_into_ == Template::Into::json) {
      try {
        core::check_json(options_.key + ".body", request.body);
      } catch (InvalidArgument const&) {
        throw CannotFill(options_.key + ".body: filled in, it is no JSON");
      }
    }
  } else if (has_body(options_.method) && !payload.is_null()) {
    request.body = payload.data();
    type = payload.is_json() ? "application/json" : "application/octet-stream";
  }
  if (!type.empty() && !own_type_) request.headers.emplace_back("Content-Type", type);
}

HttpRequest HttpPlan::request_for(Job const& job) const {
  HttpRequest request;
  request.method = options_.method;
  request.connect_timeout = options_.connect_timeout;
  request.read_timeout = options_.read_timeout;
  request.most_body = options_.max_response_bytes;
  try {
    request.url =
        core::parse_http_url(options_.key + ".url", origin_.origin() + target_.render(job, Template::Into::url));
  } catch (InvalidArgument const& error) {
    throw CannotFill(scrubbed(error.what()));
  }
  bool agent = false;
  bool accept = false;
  bool idempotent = false;
  for (auto const& [name, value] : headers_) {
    auto text = value.render(job, Template::Into::header);
    if (text.size() > kMostHeader) throw CannotFill(options_.key + ".headers." + name + ": longer than 16 KiB");
    agent = agent || lowered(name) == "user-agent";
    accept = accept || lowered(name) == "accept";
    idempotent = idempotent || lowered(name) == "idempotency-key";
    request.headers.emplace_back(name, std::move(text));
  }
  add_body(request, job);
  auto const add = [&](char const* name, std::string value) { request.headers.emplace_back(name, std::move(value)); };
  if (!agent) add("User-Agent", std::string("posthouse/") + POSTHOUSE_VERSION);
  if (!accept) add("Accept", "*/*");
  if (!idempotent && options_.idempotency_key != HttpOptions::IdempotencyKey::none) {
    add("Idempotency-Key",
        options_.idempotency_key == HttpOptions::IdempotencyKey::job ? std::to_string(job.id()) : job.fencing_token());
  }
  add("X-Posthouse-Job-Id", std::to_string(job.id()));
  add("X-Posthouse-Kind", job.kind());
  add("X-Posthouse-Queue", job.queue());
  add("X-Posthouse-Attempt", std::to_string(job.attempt()));
  add("X-Posthouse-Token", job.fencing_token());
  if (auto const deadline = job.deadline()) {
    auto const left =
        std::chrono::duration_cast<std::chrono::system_clock::duration>(*deadline - std::chrono::steady_clock::now());
    add("X-Posthouse-Deadline", core::format_time(std::chrono::system_clock::now() + left));
  }
  return request;
}

void HttpPlan::follow(HttpRequest& request, int status, std::string const& location) const {
  core::HttpUrl next;
  try {
    next = core::resolve_location(request.url, location);
  } catch (InvalidArgument const& error) {
    throw CannotFill(error.what());
  }
  if (request.url.tls && !next.tls) {
    throw CannotFill("redirected from https to " + next.origin() + ", which is not encrypted");
  }
  if (next.host != request.url.host && !options_.cross_host_redirects) {
    throw CannotFill("redirected to another host, " + next.origin() + "; " + options_.key +
                     ".cross_host_redirects: true would allow that");
  }
  if (!core::same_origin(next, request.url)) {
    // Whoever answers there was never meant to see them.
    std::erase_if(request.headers, [](auto const& header) { return !is_plain(header.first); });
  }
  bool const as_get = status == 303 ? request.method != "HEAD" : status < 303 && request.method == "POST";
  if (as_get) {
    request.method = "GET";
    request.body.clear();
    std::erase_if(request.headers, [](auto const& header) { return lowered(header.first) == "content-type"; });
  }
  request.url = std::move(next);
}

std::string HttpPlan::scrubbed(std::string text) const {
  for (auto const& secret : secrets_) {
    for (std::size_t at = text.find(secret); at != std::string::npos; at = text.find(secret, at + 3)) {
      text.replace(at, secret.size(), "***");
    }
  }
  return text;
}

}  // namespace posthouse::execute
