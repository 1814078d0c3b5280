// SPDX-License-Identifier: Apache-2.0
#include "execute/http_handler.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <posthouse/error.hpp>
#include <utility>

#include "core/duration.hpp"
#include "core/payload_check.hpp"
#include "core/retry_after.hpp"
#include "core/text.hpp"
#include "execute/http_plan.hpp"

namespace posthouse::execute {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kMostShownBody = 2000;
constexpr std::size_t kMostMessage = 4000;
/// Of a name's addresses, so many are tried.
constexpr std::size_t kMostAddresses = 4;

bool is_json(std::string_view text) {
  try {
    core::check_json("body", text);
    return true;
  } catch (InvalidArgument const&) {
    return false;
  }
}

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/// One run of one job.
class Exchange {
 public:
  Exchange(HttpPlan const& plan, HttpClient& client, Job const& job) : plan_(plan), client_(client), job_(job) {}

  Outcome run() {
    try {
      request_ = plan_.request_for(job_);
      request_.stop = job_.stop_token();
      request_.deadline = Clock::now() + plan_.options().timeout;
      if (job_.deadline()) request_.deadline = std::min(request_.deadline, *job_.deadline());
      for (int hops = 0;; ++hops) {
        if (auto failed = look_up()) return std::move(*failed);
        auto answer = send();
        if (answer.fault != HttpAnswer::Fault::none) return no_answer(answer);
        if (!is_redirect(answer.status) || answer.location.empty() || plan_.options().redirects == 0) {
          return ended(std::move(answer));
        }
        if (hops == plan_.options().redirects) {
          return Discard{said("redirected more than " + std::to_string(hops) + " times")};
        }
        plan_.follow(request_, answer.status, answer.location);
      }
    } catch (CannotFill const& error) {
      return Discard{said(error.what(), false)};
    }
  }

 private:
  [[nodiscard]] std::string said(std::string text, bool with_origin = true) const {
    if (with_origin) text = request_.url.origin() + " " + text;
    return core::sanitise(plan_.scrubbed(std::move(text)), kMostMessage);
  }
  [[nodiscard]] Failure failure(char const* type, std::string text) const {
    return {.type = type, .message = said(std::move(text)), .stack = {}};
  }

  /// Fills addresses_; an outcome when there is none that may be used.
  std::optional<Outcome> look_up() {
    auto const& url = request_.url;
    addresses_.clear();
    if (url.literal) {
      addresses_.push_back(*core::Address::parse(url.host));
    } else {
      addresses_ = plan_.options().resolver ? plan_.options().resolver(url.host) : resolve(url.host);
    }
    if (addresses_.empty()) return failure("Resolve", "cannot be reached: the name has no address");
    for (auto const& address : addresses_) {
      // One that is not allowed spoils the name: who controls it would choose when it is used.
      if (core::is_allowed(address, plan_.allowed())) continue;
      return Discard{said(fmt::format("is at {}, a {} address; {}.allow_addresses would allow that", address.text(),
                                      core::name_of(core::reach_of(address)), plan_.options().key))};
    }
    return std::nullopt;
  }

  HttpAnswer send() {
    HttpAnswer answer{.fault = HttpAnswer::Fault::connect};
    for (std::size_t i = 0; i < std::min(addresses_.size(), kMostAddresses); ++i) {
      if (job_.stop_token().stop_requested()) return {.fault = HttpAnswer::Fault::stopped};
      if (Clock::now() >= request_.deadline) return {.fault = HttpAnswer::Fault::late};
      request_.address = addresses_[i];
      answer = client_.send(request_);
      if (answer.fault != HttpAnswer::Fault::connect) break;
    }
    return answer;
  }

  Outcome no_answer(HttpAnswer const& answer) const {
    using Fault = HttpAnswer::Fault;
    switch (answer.fault) {
      case Fault::stopped:
        if (job_.deadline() && Clock::now() >= *job_.deadline()) break;
        // Stopped without a fault of its own: the worker gives the job back, and the attempt is not its own to count.
        return Snooze{0ms};
      case Fault::late:
        break;
      case Fault::connect:
        return failure("Connection", "cannot be reached: no connection could be made");
      case Fault::tls:
        return failure("TLS", "cannot be reached: the TLS handshake failed");
      case Fault::untrusted:
        return failure("TLS",
                       "cannot be trusted: its certificate is not valid, is for another name, or nobody we trust "
                       "has signed it (" +
                           plan_.options().key + ".ca_file names whom to trust)");
      case Fault::flooded:
        return failure("Answer", "sends more than max_response_bytes allows, before or behind its answer");
      case Fault::silent:
        return failure("Connection", "was silent for " + core::format_duration(plan_.options().read_timeout));
      default:
        return failure("Connection", "gave no whole answer: the connection ended too soon, or this is no HTTP");
    }
    return failure("Timeout", "has not answered in time (" + core::format_duration(plan_.options().timeout) +
                                  ", or the timeout of the job)");
  }

  Outcome ended(HttpAnswer answer) const {
    int const status = answer.status;
    if (status >= 200 && status < 300) return success(std::move(answer));
    auto what = fmt::format("answered {}{}{}", status, answer.reason.empty() ? "" : " ", answer.reason);
    if (is_redirect(status)) {
      what += ", a redirect, and " + plan_.options().key + ".redirects is " + std::to_string(plan_.options().redirects);
    }
    if (auto const body = std::string_view(answer.body).substr(0, kMostShownBody); !body.empty()) {
      what += ": ";
      what += body;
    }
    if (status == 429 || status == 503) {
      auto const delay = core::parse_retry_after(answer.retry_after, std::chrono::system_clock::now());
      if (delay) return RetryAfter{.delay = *delay, .reason = said(std::move(what)), .hold_kind = delay->count() > 0};
    }
    bool const again = status >= 500 || status == 408 || status == 425 || status == 429;
    auto text = said(std::move(what));
    if (!again && !plan_.options().retry_client_errors) return Discard{std::move(text)};
    return Failure{.type = "HTTP " + std::to_string(status), .message = std::move(text), .stack = {}};
  }

  [[nodiscard]] Success success(HttpAnswer answer) const {
    if (plan_.options().max_response_bytes == 0) return {};
    if (answer.cut) {
      auto problem = fmt::format("the answer is longer than {} bytes; its start is kept", answer.body.size());
      return {Payload{bytes{std::move(answer.body)}}, std::move(problem)};
    }
    if (answer.body.empty()) return {};
    if (is_json(answer.body)) return {Payload{json{std::move(answer.body)}}, {}};
    return {Payload{bytes{std::move(answer.body)}}, {}};
  }

  HttpPlan const& plan_;
  HttpClient& client_;
  Job const& job_;
  HttpRequest request_{};
  std::vector<core::Address> addresses_{};
};

}  // namespace

void check(HttpOptions const& options) { HttpPlan const plan(options); }

Handler http_handler(HttpOptions options) {
  auto const plan = std::make_shared<HttpPlan>(std::move(options));
  plan->read_secrets();
  auto const client = std::make_shared<HttpClient>(plan->options().key + ".ca_file", plan->options().ca_file);
  return [plan, client](Job const& job) -> Outcome { return Exchange(*plan, *client, job).run(); };
}

}  // namespace posthouse::execute
