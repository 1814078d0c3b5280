// SPDX-License-Identifier: Apache-2.0
// Addresses that HTTP jobs may reach: everything public, and what a list allows beside that.
//
// Thread safety: pure functions and plain values.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace posthouse::core {

/// An IPv4 address is kept as ::ffff:a.b.c.d.
struct Address {
  std::array<std::uint8_t, 16> bytes{};

  /// The usual text of an IPv4 or IPv6 address, without zone or brackets.
  static std::optional<Address> parse(std::string_view text);
  static Address v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) noexcept;
  [[nodiscard]] bool is_v4() const noexcept;
  [[nodiscard]] std::string text() const;
};

/// What an address is for. An IPv6 address with an IPv4 address in it (mapped, compatible, NAT64, 6to4) is what that is.
enum class Reach { global, loopback, private_net, link_local, special };
Reach reach_of(Address const& address) noexcept;
std::string_view name_of(Reach reach) noexcept;  ///< "public", "loopback", "private", "link-local", "reserved"

/// An entry of `allow_addresses`: "loopback", "private", "link-local", an address, or a network such as 10.1.0.0/16.
class AddressRule {
 public:
  /// Throws InvalidArgument.
  AddressRule(std::string_view argument, std::string_view text);
  [[nodiscard]] bool matches(Address const& address) const noexcept;

 private:
  std::optional<Reach> reach_{};
  Address network_{};
  int bits_ = 0;  ///< of 128
};

bool is_allowed(Address const& address, std::vector<AddressRule> const& rules) noexcept;

}  // namespace posthouse::core
