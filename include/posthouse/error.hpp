// SPDX-License-Identifier: Apache-2.0
// Typed exceptions. Expected outcomes (a duplicate, an unknown id) are values; an exception ends an operation.
//
// Thread safety: immutable once built; copy and share freely.
#pragma once

#include <stdexcept>
#include <string>

namespace posthouse {

enum class ErrorClass {
  unavailable,       ///< the database cannot be reached, refuses us or went away
  schema_missing,    ///< the schema is not installed, too old or too new
  invalid_argument,  ///< the caller's input; nothing was sent or nothing was changed
  lease_lost,        ///< another worker owns the job by now; nothing was changed
  timeout,           ///< our own deadline passed
  storage,           ///< disk full or a server limit reached
  server             ///< any other error of the server
};

/// Base of everything this library throws.
class Error : public std::runtime_error {
 public:
  struct Details {
    std::string sqlstate{};  ///< five characters, empty when the server gave none
    bool in_doubt = false;   ///< true: the statement may or may not have taken effect
    std::string hint{};      ///< what to do next, one sentence, may be empty
  };

  Error(ErrorClass error_class, std::string const& message) : Error(error_class, message, Details{}) {}
  Error(ErrorClass error_class, std::string const& message, Details details)
      : std::runtime_error(message), class_(error_class), details_(std::move(details)) {}

  [[nodiscard]] ErrorClass error_class() const noexcept { return class_; }
  [[nodiscard]] std::string const& sqlstate() const noexcept { return details_.sqlstate; }
  [[nodiscard]] bool in_doubt() const noexcept { return details_.in_doubt; }
  [[nodiscard]] std::string const& hint() const noexcept { return details_.hint; }

 private:
  ErrorClass class_;
  Details details_;
};

class Unavailable : public Error {
 public:
  explicit Unavailable(std::string const& message, Details details = {})
      : Error(ErrorClass::unavailable, message, std::move(details)) {}
};
class SchemaMissing : public Error {
 public:
  explicit SchemaMissing(std::string const& message, Details details = {})
      : Error(ErrorClass::schema_missing, message, std::move(details)) {}
};
class InvalidArgument : public Error {
 public:
  explicit InvalidArgument(std::string const& message, Details details = {})
      : Error(ErrorClass::invalid_argument, message, std::move(details)) {}
};
class LeaseLost : public Error {
 public:
  explicit LeaseLost(std::string const& message, Details details = {})
      : Error(ErrorClass::lease_lost, message, std::move(details)) {}
};
class Timeout : public Error {
 public:
  explicit Timeout(std::string const& message, Details details = {})
      : Error(ErrorClass::timeout, message, std::move(details)) {}
};
class StorageFull : public Error {
 public:
  explicit StorageFull(std::string const& message, Details details = {})
      : Error(ErrorClass::storage, message, std::move(details)) {}
};
class ServerError : public Error {
 public:
  explicit ServerError(std::string const& message, Details details = {})
      : Error(ErrorClass::server, message, std::move(details)) {}
};

}  // namespace posthouse
