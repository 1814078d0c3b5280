// SPDX-License-Identifier: Apache-2.0
// The same server and database as another role.
//
// Thread safety: a pure function, but for the environment that libpq's defaults come from.
#pragma once

#include <string>

namespace posthouse::pg {

struct Login {
  std::string user{};
  std::string password{};  ///< empty: the server asks for none
  std::string sslcert{};   ///< empty: no client certificate
  std::string sslkey{};
};

/// `url` in libpq's key=value form, with another login and nothing of the first one's proofs (password, password file,
/// client certificate, PGPASSWORD). Throws InvalidArgument when `url` is not valid.
std::string url_as(std::string const& url, Login const& login);

}  // namespace posthouse::pg
