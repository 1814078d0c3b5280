// SPDX-License-Identifier: Apache-2.0
// See run.hpp.
#include "execute/run.hpp"

#include <cxxabi.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <typeinfo>
#include <utility>

namespace posthouse::execute {

namespace {

std::string demangled(std::type_info const& type) {
  int status = 0;
  std::unique_ptr<char, void (*)(void*)> const name(abi::__cxa_demangle(type.name(), nullptr, nullptr, &status),
                                                    std::free);
  return status == 0 && name ? std::string(name.get()) : std::string(type.name());
}

// Only inside a catch block.
std::string current_type() {
  auto const* type = abi::__cxa_current_exception_type();
  return type == nullptr ? "unknown exception" : demangled(*type);
}

template <class Call>
Run contained(Call const& call) {
  try {
    return {call()};
  } catch (abi::__forced_unwind&) {
    throw;  // the thread is being cancelled; the runtime insists on this
  } catch (...) {
    return outcome_of(std::current_exception());
  }
}

}  // namespace

Run outcome_of(std::exception_ptr const& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (Outcome const& outcome) {
    return {outcome};
  } catch (Discard const& discard) {
    return {discard};
  } catch (Snooze const& snooze) {
    return {snooze};
  } catch (RetryAfter const& retry) {
    return {retry};
  } catch (Failure const& failure) {
    return {failure};
  } catch (DecodeError const& error) {
    return {Failure{.type = current_type(), .message = error.what()}, true};
  } catch (std::exception const& error) {
    return {Failure{.type = current_type(), .message = error.what()}};
  } catch (std::string const& text) {
    return {Failure{.type = current_type(), .message = text}};
  } catch (char const* text) {
    return {Failure{.type = current_type(), .message = text == nullptr ? "" : text}};
  } catch (...) {
    return {Failure{.type = current_type(), .message = "not derived from std::exception"}};
  }
}

Run run(Handler const& handler, Around const& around, Job const& job) {
  if (!around) return contained([&] { return handler(job); });
  bool decode_error = false;
  std::function<Outcome()> const next = [&]() -> Outcome {
    auto inner = contained([&] { return handler(job); });
    decode_error = inner.decode_error;
    return std::move(inner.outcome);
  };
  auto outer = contained([&] { return around(job, next); });
  // The hook may have made something else of an unreadable payload; only a failure is still one.
  outer.decode_error = outer.decode_error || (decode_error && std::holds_alternative<Failure>(outer.outcome));
  return outer;
}

}  // namespace posthouse::execute
