// SPDX-License-Identifier: Apache-2.0
// Database URLs as other tools write them, made into what libpq takes; and without their passwords for logs.
//
// Thread safety: pure functions.
#pragma once

#include <string>
#include <string_view>

namespace posthouse::core {

/// postgres:// and SQLAlchemy's postgresql+driver:// become postgresql://; key=value text and empty text stay. Space
/// around is dropped. Throws InvalidArgument for anything else; the message shows no password.
std::string normalise_database_url(std::string_view url);

/// The URL or key=value text with each password as ***. Rather hides too much than too little.
std::string redact_database_url(std::string_view url);

}  // namespace posthouse::core
