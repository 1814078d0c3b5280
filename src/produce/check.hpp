// SPDX-License-Identifier: Apache-2.0
// Everything that can be wrong with an enqueue, found before anything is sent.
//
// Thread safety: pure functions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <posthouse/client.hpp>

#include "store/produce.hpp"

namespace posthouse::produce {

/// Checks kind and options; throws InvalidArgument. The result has no payload yet and points into its arguments:
/// `headers_json` receives the headers as JSON.
store::NewJob checked(std::string_view kind, EnqueueOptions const& options, std::string& headers_json);

/// Throws InvalidArgument when the job names others by their index and is not one of many Requests.
void check_alone(store::NewJob const& job);

/// Throws InvalidArgument when an option is out of range.
void check(ClientOptions const& options);

/// Runs `call`; an InvalidArgument gets the element's place put before its message.
template <class Call>
void for_element(std::size_t index, Call call) {
  try {
    call();
  } catch (InvalidArgument const& error) {
    throw InvalidArgument("element " + std::to_string(index) + ": " + error.what(),
                          {.sqlstate = error.sqlstate(), .in_doubt = false, .hint = error.hint()});
  }
}

}  // namespace posthouse::produce
