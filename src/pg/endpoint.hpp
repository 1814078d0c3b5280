// SPDX-License-Identifier: Apache-2.0
// Where a database URL leads, and the same URL by another way.
//
// Thread safety: pure functions, but for the environment that libpq's defaults come from.
#pragma once

#include <string>

#include <posthouse/options.hpp>

namespace posthouse::pg {

/// The first host of a URL, libpq's defaults filled in.
struct Endpoint {
  std::string host{};  ///< a name, an address, or the folder of a Unix socket
  std::string port{};
  std::string user{};      ///< empty: libpq's default
  std::string password{};  ///< empty: none in the URL
  std::string database{};  ///< empty: libpq's default
};

/// Throws InvalidArgument when `url` is not valid.
Endpoint endpoint_of(DatabaseOptions const& options, std::string const& url);

/// `url` in libpq's key=value form, but connecting to that port of 127.0.0.1. A host name stays what certificates are
/// checked against. Throws InvalidArgument when `url` is not valid.
std::string url_through(std::string const& url, int port);

}  // namespace posthouse::pg
